package payment_card_egress_test

import data.payment_card_egress

cards(count, channel, route) := {
	"channel": channel,
	"route": route,
	"response": {"facts": {"payment_card": {"applicable": true, "count": count}}},
}

allowed := {"evaluated": true, "violations": []}

test_no_card_passes if {
	payment_card_egress.decision == allowed with input as cards(0, "external", null)
}

test_cards_do_not_leave if {
	every route in [null, {}, {"regulations": ["GDPR"]}] {
		d := payment_card_egress.decision with input as cards(2, "external", route)
		count(d.violations) == 1
		d.violations[0].severity == "critical"
	}
}

test_an_approval_does_not_help if {
	d := payment_card_egress.decision with input as object.union(cards(1, "external", null), {"approvals": [{"id": "a-1"}]})
	count(d.violations) == 1
}

test_a_route_in_scope_may_send_them if {
	payment_card_egress.decision == allowed with input as cards(2, "external", {"regulations": ["GDPR", "PCI-DSS"]})
}

test_inside_they_pass if {
	payment_card_egress.decision == allowed with input as cards(2, "internal", null)
}

test_any_other_channel_is_external if {
	d := payment_card_egress.decision with input as cards(1, "other", null)
	count(d.violations) == 1
}

test_without_the_fact_there_is_no_decision if {
	not payment_card_egress.decision with input as {"channel": "external", "route": null, "response": {"facts": {}}}
	not payment_card_egress.decision with input as {"route": null, "response": {"facts": {"payment_card": {"applicable": true, "count": 1}}}}
}
