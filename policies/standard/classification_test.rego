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
	not contains(d.violations[0].message, "Secret")
	not contains(d.violations[0].remediation.hint, "Secret")
	d.classification == "restricted"
}

test_without_facts_there_is_no_decision if {
	not classification.decision with input as object.remove(base, ["response"])
}
