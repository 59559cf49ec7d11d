package forged_stamp_test

import data.forged_stamp

found(stamp) := {"response": {"upstream_stamp": stamp}}

test_none_and_verified_pass if {
	every stamp in ["none", "verified"] {
		forged_stamp.decision == {"evaluated": true, "violations": []} with input as found(stamp)
	}
}

test_a_forgery_is_refused if {
	d := forged_stamp.decision with input as found("forged")
	count(d.violations) == 1
	d.violations[0].severity == "high"
}

test_anything_else_leaves_no_decision if {
	not forged_stamp.decision with input as found("unheard-of")
	not forged_stamp.decision with input as {"response": {}}
}
