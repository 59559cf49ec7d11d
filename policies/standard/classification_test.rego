package classification_test

import data.classification
import data.lib.sensitivity_test.base

test_a_newcomer_is_public if {
	classification.decision == {"evaluated": true, "violations": [], "classification": "public"} with input as base
}

test_a_declared_value_holds if {
	d := classification.decision with input as object.union(base, {"lineage": {"declared_classification": "internal"}})
	d == {"evaluated": true, "violations": [], "classification": "internal"}
}

test_an_unknown_value_is_refused if {
	d := classification.decision with input as object.union(base, {"lineage": {"declared_classification": "Secret"}})
	count(d.violations) == 1
	contains(d.violations[0].message, "«Secret»")
	d.classification == "restricted"
}

test_a_long_value_is_not_repeated_whole if {
	d := classification.decision with input as object.union(base, {"lineage": {"declared_classification": concat("", [x | some x in numbers_as_text])}})
	count(d.violations) == 1
	count(d.violations[0].message) < 200
}

numbers_as_text := [format_int(i, 10) | some i in numbers.range(1, 200)]

test_without_facts_there_is_no_decision if {
	not classification.decision with input as object.remove(base, ["response"])
}
