package external_approval_test

import data.external_approval
import data.lib.findings_test.facts
import data.lib.sensitivity_test.base as plain

approval := {"id": "a-1", "approved_by": "Ada", "expires_at": "2027-01-01T00:00:00Z"}

base := object.union(plain, {"approvals": []})

classified(level) := object.union(base, {"route": {"classification": level}})

test_public_and_internal_are_approved_by_rule if {
	every level in ["public", "internal"] {
		d := external_approval.decision with input as classified(level)
		d == {"evaluated": true, "violations": [], "approval_status": "approved"}
	}
}

test_the_rest_is_refused_without_approval if {
	every level in ["confidential", "restricted"] {
		d := external_approval.decision with input as classified(level)
		count(d.violations) == 1
		contains(d.violations[0].message, level)
		d.approval_status == "pending-approval"
	}
}

test_an_approval_lets_out if {
	every level in ["confidential", "restricted"] {
		d := external_approval.decision with input as object.union(classified(level), {"approvals": [approval]})
		d == {"evaluated": true, "violations": [], "approval_status": "approved"}
	}
}

test_the_internal_channel_waits_for_nobody if {
	d := external_approval.decision with input as object.union(classified("restricted"), {"channel": "internal"})
	d == {"evaluated": true, "violations": [], "approval_status": "pending-approval"}
	a := external_approval.decision with input as object.union(classified("restricted"), {"channel": "internal", "approvals": [approval]})
	a.approval_status == "approved"
}

test_any_other_channel_is_external if {
	d := external_approval.decision with input as object.union(classified("restricted"), {"channel": "other"})
	count(d.violations) == 1
}

test_content_counts if {
	d := external_approval.decision with input as object.union(base, {"response": {"facts": facts({"email": 1})}})
	count(d.violations) == 1
}

test_without_approvals_or_facts_there_is_no_decision if {
	not external_approval.decision with input as object.remove(classified("restricted"), ["approvals"])
	not external_approval.decision with input as object.remove(base, ["response"])
	not external_approval.decision with input as object.remove(base, ["channel"])
}
