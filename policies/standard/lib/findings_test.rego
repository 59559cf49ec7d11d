package lib.findings_test

import data.lib.findings

none := {"applicable": true, "count": 0}

nothing := {
	"email": none, "iban": none, "payment_card": none, "phone": none,
	"national_id": none, "person_name": none, "financial_statement": none,
}

facts(counts) := object.union(nothing, {name: {"applicable": true, "count": n} | some name, n in counts})

test_each_kind_of_personal_data_counts if {
	every name in ["email", "iban", "payment_card", "phone", "national_id", "person_name"] {
		findings.personal == 2 with input.response.facts as facts({name: 2})
	}
}

test_only_cards_and_national_ids_are_sensitive if {
	findings.sensitive == 3 with input.response.facts as facts({"payment_card": 1, "national_id": 2, "email": 5})
	findings.sensitive == 0 with input.response.facts as facts({"email": 5, "iban": 1, "phone": 1, "person_name": 1})
}

test_a_financial_statement_is_not_personal if {
	findings.personal == 0 with input.response.facts as facts({"financial_statement": 9})
}

test_an_absent_fact_leaves_no_number if {
	every name in ["email", "iban", "payment_card", "phone", "national_id", "person_name"] {
		not findings.personal with input.response.facts as object.remove(nothing, [name])
	}
	not findings.sensitive with input.response.facts as object.remove(nothing, ["payment_card"])
	not findings.sensitive with input.response.facts as object.remove(nothing, ["national_id"])
}
