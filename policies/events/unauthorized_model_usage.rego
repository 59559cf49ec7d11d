# METADATA
# scope: package
# title: Models are used within the client's tier
# description: |
#   The model must be on the allow-list of the tier that the client has, both as they are recorded here.
# custom:
#   id: unauthorized-model-usage
#   severity: high
#   frameworks: [SOC2]
#   mode: enforce
package unauthorized_model_usage

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "high",
	"message": message,
	"remediation": {"hint": "Use a model of the tier, or have the tier changed; docs/violations.md."},
}

details := input.event.details

reasons contains "the event does not say which client used which model" if {
	input.event.source == "ai_model"
	not says_what
}

reasons contains $"client {details.client_id} is not known" if {
	input.event.source == "ai_model"
	says_what
	input.reference.account == null
}

reasons contains $"model {details.model} is not on the list of tier {input.reference.account.tier}" if {
	input.event.source == "ai_model"
	says_what
	input.reference.account != null
	not allowed
}

says_what if {
	is_string(details.client_id)
	is_string(details.model)
}

allowed if details.model in input.reference.tier.models
