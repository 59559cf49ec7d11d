package residency_test

import data.residency

call(region, route, channel) := {"channel": channel, "route": route, "request": {"caller": {"region": region}}}

eu := {"regions": ["eu-west-1", "EU-central-1"]}

allowed := {"evaluated": true, "violations": []}

test_applies_only_where_configured if {
	residency.decision == allowed with input as call(null, null, "external")
	residency.decision == allowed with input as call("us", {"classification": "restricted"}, "external")
}

test_a_region_of_the_list_is_admitted if {
	every region in ["eu-west-1", "EU-WEST-1", "eu-central-1"] {
		residency.decision == allowed with input as call(region, eu, "external")
	}
}

test_another_region_is_refused_on_both_channels if {
	every channel in ["external", "internal"] {
		d := residency.decision with input as call("us-east-1", eu, channel)
		count(d.violations) == 1
		contains(d.violations[0].remediation.hint, "eu-central-1, eu-west-1")
	}
}

test_an_empty_list_admits_nobody if {
	d := residency.decision with input as call("eu-west-1", {"regions": []}, "external")
	count(d.violations) == 1
}

test_an_unknown_region_is_refused_externally_only if {
	d := residency.decision with input as call(null, eu, "external")
	count(d.violations) == 1
	residency.decision == allowed with input as call(null, eu, "internal")
}

test_without_route_or_region_there_is_no_decision if {
	not residency.decision with input as {"channel": "external", "request": {"caller": {"region": "eu-west-1"}}}
	not residency.decision with input as {"channel": "external", "route": eu, "request": {"caller": {}}}
	not residency.decision with input as {"channel": "external", "route": {"regions": "eu-west-1"}, "request": {"caller": {"region": "us"}}}
}
