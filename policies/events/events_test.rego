package events_test

import data.api_endpoint_integrity
import data.invalid_token_flow
import data.maos_supervision_bypass
import data.stripe_event_mismatch
import data.tier_policy_violation
import data.unauthorized_model_usage
import data.unusual_client_data_activity
import data.voice_usage_without_budget

event(source, type, details, reference) := {"event": {"source": source, "type": type, "details": details, "at_ms": 1000}, "reference": reference}

gold := {"account": {"tier": "gold"}, "tier": {"models": ["m1"], "features": ["export"]}}

messages(decision) := {violation.message | some violation in decision.violations}

test_each_is_silent_about_other_sources if {
	every decision in [
		unauthorized_model_usage.decision, invalid_token_flow.decision, voice_usage_without_budget.decision,
		stripe_event_mismatch.decision, tier_policy_violation.decision, maos_supervision_bypass.decision,
		api_endpoint_integrity.decision, unusual_client_data_activity.decision,
	] {
		decision == {"evaluated": true, "violations": []} with input as event("activity", "login", {}, {})
	}
}

test_model_of_the_tier if {
	unauthorized_model_usage.decision.violations == [] with input as event("ai_model", "use", {"client_id": "c", "model": "m1"}, gold)
}

test_model_of_no_tier if {
	d := unauthorized_model_usage.decision with input as event("ai_model", "use", {"client_id": "c", "model": "m9"}, gold)
	messages(d) == {"model m9 is not on the list of tier gold"}
	d.violations[0].severity == "high"
}

test_model_of_an_unknown_client if {
	d := unauthorized_model_usage.decision with input as event("ai_model", "use", {"client_id": "c", "model": "m1"}, {"account": null, "tier": null})
	messages(d) == {"client c is not known"}
}

test_model_of_an_unknown_tier if {
	d := unauthorized_model_usage.decision with input as event("ai_model", "use", {"client_id": "c", "model": "m1"}, {"account": {"tier": "x"}, "tier": null})
	count(d.violations) == 1
}

test_a_flag_of_the_caller_counts_for_nothing if {
	d := unauthorized_model_usage.decision with input as event("ai_model", "use", {"client_id": "c", "model": "m9", "authorized": true}, gold)
	count(d.violations) == 1
}

test_tokens_within_and_beyond if {
	within := event("billing", "token_usage", {"client_id": "c", "tokens": 10}, {"billing": {"tokens_granted": 100}, "used": 90})
	beyond := event("billing", "token_usage", {"client_id": "c", "tokens": 11}, {"billing": {"tokens_granted": 100}, "used": 90})
	none := event("billing", "token_usage", {"client_id": "c", "tokens": 1}, {"billing": null, "used": 0})
	negative := event("billing", "token_usage", {"client_id": "c", "tokens": -5}, {"billing": {"tokens_granted": 100}, "used": 90})
	invalid_token_flow.decision.violations == [] with input as within
	d1 := invalid_token_flow.decision with input as beyond
	messages(d1) == {"client c used 101 tokens of 100"}
	d2 := invalid_token_flow.decision with input as none
	messages(d2) == {"there is no billing record of client c"}
	d3 := invalid_token_flow.decision with input as negative
	count(d3.violations) == 1
}

test_voice if {
	ok := event("voice", "call", {"client_id": "c", "minutes": 5}, {"budget": {"minutes": 10}, "used": 5})
	beyond := event("voice", "call", {"client_id": "c", "minutes": 6}, {"budget": {"minutes": 10}, "used": 5})
	none := event("voice", "call", {"client_id": "c", "minutes": 1}, {"budget": null, "used": 0})
	voice_usage_without_budget.decision.violations == [] with input as ok
	d1 := voice_usage_without_budget.decision with input as beyond
	messages(d1) == {"client c used 11 minutes of 10"}
	d2 := voice_usage_without_budget.decision with input as none
	messages(d2) == {"client c has no budget for voice"}
}

paid := {"id": "pi_1", "amount": 500, "currency": "eur", "status": "succeeded"}

test_stripe if {
	ok := event("stripe", "x", {}, {"signature_valid": true, "object": paid, "record": object.remove(paid, ["id"])})
	forged := event("stripe", "x", {}, {"signature_valid": false, "object": paid, "record": object.remove(paid, ["id"])})
	unknown := event("stripe", "x", {}, {"signature_valid": true, "object": paid, "record": null})
	other := event("stripe", "x", {}, {"signature_valid": true, "object": paid, "record": {"amount": 400, "currency": "eur", "status": "succeeded"}})
	stripe_event_mismatch.decision.violations == [] with input as ok
	d1 := stripe_event_mismatch.decision with input as forged
	messages(d1) == {"the signature of the event does not verify"}
	d2 := stripe_event_mismatch.decision with input as unknown
	messages(d2) == {"pi_1 is not recorded here"}
	d3 := stripe_event_mismatch.decision with input as other
	messages(d3) == {"pi_1: amount is 500 in the event and 400 in the record"}
}

test_tier if {
	ok := event("activity", "feature_used", {"client_id": "c", "feature": "export"}, gold)
	no := event("permission", "feature_used", {"client_id": "c", "feature": "delete"}, gold)
	tier_policy_violation.decision.violations == [] with input as ok
	d := tier_policy_violation.decision with input as no
	messages(d) == {"feature delete is not on the list of tier gold"}
}

acted := {"agent_id": "a", "action": "mail", "supervision_id": "s"}

record := {"agent_id": "a", "action": "mail", "recorded_ms": 900, "valid_until_ms": 1100}

test_supervision if {
	ok := event("maos", "agent_action", acted, {"supervision": record})
	none := event("deep_agent", "agent_action", acted, {"supervision": null})
	other := event("maos", "agent_action", acted, {"supervision": object.union(record, {"action": "pay"})})
	late := event("maos", "agent_action", acted, {"supervision": object.union(record, {"recorded_ms": 1001})})
	over := event("maos", "agent_action", acted, {"supervision": object.union(record, {"valid_until_ms": 1000})})
	maos_supervision_bypass.decision.violations == [] with input as ok
	every one in [none, other, late, over] {
		d := maos_supervision_bypass.decision with input as one
		count(d.violations) == 1
		d.violations[0].severity == "critical"
	}
}

contract := {"contract": {"statuses": [200, 404], "fields": ["id", "name"]}}

test_contract if {
	ok := event("api", "api_response", {"method": "GET", "route": "/u", "status": 200, "fields": ["id", "name"]}, contract)
	extra := event("api", "api_response", {"method": "GET", "route": "/u", "status": 200, "fields": ["id", "name", "ssn"]}, contract)
	missing := event("api", "api_response", {"method": "GET", "route": "/u", "status": 200, "fields": ["id"]}, contract)
	status := event("api", "api_response", {"method": "GET", "route": "/u", "status": 500, "fields": ["id", "name"]}, contract)
	unknown := event("api", "api_response", {"method": "GET", "route": "/x", "status": 200, "fields": []}, {"contract": null})
	api_endpoint_integrity.decision.violations == [] with input as ok
	every one in [extra, missing, status, unknown] {
		d := api_endpoint_integrity.decision with input as one
		count(d.violations) == 1
	}
}

test_activity if {
	usual := {"history": {"count": 20, "mean": 100, "deviation": 10}}
	new := {"history": {"count": 2, "mean": 5, "deviation": 1}}
	ok := event("data_access", "read", {"actor": "a", "records": 130}, usual)
	high := event("data_access", "read", {"actor": "a", "records": 900}, usual)
	few := event("data_access", "read", {"actor": "a", "records": 900}, new)
	many := event("data_access", "read", {"actor": "a", "records": 1001}, new)
	unusual_client_data_activity.decision.violations == [] with input as ok
	unusual_client_data_activity.decision.violations == [] with input as few
	d1 := unusual_client_data_activity.decision with input as high
	messages(d1) == {"a read 900 records, usual are 100"}
	d2 := unusual_client_data_activity.decision with input as many
	count(d2.violations) == 1
}
