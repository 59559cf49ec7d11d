package containment_test

import data.containment

block(kind) := {"id": "b-1", "kind": kind, "expires_at": "2027-01-01T00:00:00Z"}

test_what_is_on_no_list_passes if {
	containment.decision == {"evaluated": true, "violations": []} with input as {"channel": "external", "blocks": []}
}

test_what_is_on_the_list_is_refused_on_both_channels if {
	every channel in ["internal", "external"] {
		every kind in ["agent", "route"] {
			d := containment.decision with input as {"channel": channel, "blocks": [block(kind)]}
			count(d.violations) == 1
			d.violations[0].severity == "critical"
			contains(d.violations[0].message, kind)
			contains(d.violations[0].remediation.hint, "/api/compliance/blocks/b-1/lift")
			contains(d.violations[0].remediation.hint, "2027-01-01")
		}
	}
}

test_each_block_is_named if {
	d := containment.decision with input as {"blocks": [block("agent"), block("route")]}
	count(d.violations) == 2
}

test_a_proxy_that_knows_of_no_blocks_holds_nothing_back if {
	containment.decision == {"evaluated": true, "violations": []} with input as {"channel": "external"}
}
