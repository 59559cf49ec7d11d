package lib.sensitivity_test

import data.lib.findings_test.facts
import data.lib.findings_test.nothing
import data.lib.sensitivity

base := {"channel": "external", "route": null, "lineage": {}, "response": {"facts": nothing}}

levels := ["public", "internal", "confidential", "restricted"]

test_nothing_said_is_public_externally_and_internal_internally if {
	sensitivity.level == "public" with input as base
	sensitivity.level == "internal" with input as object.union(base, {"channel": "internal"})
}

test_a_channel_without_a_name_is_external if {
	sensitivity.level == "public" with input as object.union(base, {"channel": "other"})
}

test_the_route_says if {
	every level in levels {
		sensitivity.level == level with input as object.union(base, {"route": {"classification": level}})
	}
}

test_a_route_without_classification_says_nothing if {
	sensitivity.level == "public" with input as object.union(base, {"route": {"regulations": ["SOX"]}})
}

test_the_application_says if {
	every level in levels {
		sensitivity.level == level with input as object.union(base, {"lineage": {"declared_classification": level}})
	}
}

test_a_stated_public_holds_on_the_internal_channel if {
	sensitivity.level == "public" with input as object.union(base, {"channel": "internal", "route": {"classification": "public"}})
}

test_the_content_says if {
	sensitivity.level == "confidential" with input as object.union(base, {"response": {"facts": facts({"email": 1})}})
	sensitivity.level == "restricted" with input as object.union(base, {"response": {"facts": facts({"payment_card": 1})}})
	sensitivity.level == "restricted" with input as object.union(base, {"response": {"facts": facts({"national_id": 1, "email": 1})}})
}

test_the_highest_wins if {
	sensitivity.level == "restricted" with input as object.union(base, {
		"route": {"classification": "public"},
		"lineage": {"declared_classification": "restricted"},
		"response": {"facts": facts({"email": 1})},
	})
	sensitivity.level == "confidential" with input as object.union(base, {
		"route": {"classification": "public"},
		"lineage": {"declared_classification": "internal"},
		"response": {"facts": facts({"email": 1})},
	})
	sensitivity.level == "restricted" with input as object.union(base, {
		"route": {"classification": "restricted"},
		"lineage": {"declared_classification": "public"},
	})
}

test_what_is_no_classification_counts_as_the_highest if {
	sensitivity.level == "restricted" with input as object.union(base, {"lineage": {"declared_classification": "Public"}})
	sensitivity.level == "restricted" with input as object.union(base, {"route": {"classification": "secret"}})
}

test_without_facts_or_route_there_is_no_level if {
	not sensitivity.level with input as object.union(base, {"response": {"facts": null}})
	not sensitivity.level with input as object.remove(base, ["response"])
	not sensitivity.level with input as object.remove(base, ["route"])
	not sensitivity.level with input as object.remove(base, ["channel"])
}
