package regulations_test

import data.lib.findings_test.facts
import data.lib.findings_test.nothing
import data.lib.sensitivity_test.base
import data.regulations

found(counts) := object.union(base, {"response": {"facts": facts(counts)}})

test_nothing_applies if {
	regulations.decision == {"evaluated": true, "violations": [], "regulations": []} with input as base
}

test_personal_data_is_under_gdpr if {
	every name in ["email", "iban", "phone", "national_id", "person_name"] {
		d := regulations.decision with input as found({name: 1})
		d.regulations == ["GDPR"]
	}
}

test_cards_are_under_both if {
	d := regulations.decision with input as found({"payment_card": 1})
	d.regulations == ["GDPR", "PCI-DSS"]
}

test_three_fields_make_a_statement if {
	two := regulations.decision with input as found({"financial_statement": 2})
	two.regulations == []
	three := regulations.decision with input as found({"financial_statement": 3})
	three.regulations == ["SOX"]
}

test_route_and_content_are_joined_and_sorted if {
	d := regulations.decision with input as object.union(found({"email": 1, "financial_statement": 4}), {"route": {"regulations": ["HIPAA", "SOX", "CCPA"]}})
	d.regulations == ["CCPA", "GDPR", "HIPAA", "SOX"]
}

test_a_route_cannot_say_none if {
	d := regulations.decision with input as object.union(base, {"route": {"regulations": ["NONE"]}})
	d.regulations == []
}

test_an_absent_fact_leaves_no_decision if {
	every name in object.keys(nothing) {
		not regulations.decision with input as object.union(object.remove(base, ["response"]), {"response": {"facts": object.remove(nothing, [name])}})
	}
	not regulations.decision with input as object.remove(base, ["route"])
}
