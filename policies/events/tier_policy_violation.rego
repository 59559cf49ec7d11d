# METADATA
# scope: package
# title: Features are used within the client's tier
# description: |
#   The feature must be on the list of the tier that the client has, both as they are recorded here.
# custom:
#   id: tier-policy-violation
#   severity: medium
#   frameworks: [SOC2]
#   mode: enforce
package tier_policy_violation

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "medium",
	"message": message,
	"remediation": {"hint": "Have the tier changed, or take the feature from the client; docs/violations.md."},
}

details := input.event.details

applies if {
	input.event.source in {"activity", "permission"}
	input.event.type == "feature_used"
}

reasons contains "the event does not say which client used which feature" if {
	applies
	not says_what
}

reasons contains $"client {details.client_id} is not known" if {
	applies
	says_what
	input.reference.account == null
}

reasons contains $"feature {details.feature} is not on the list of tier {input.reference.account.tier}" if {
	applies
	says_what
	input.reference.account != null
	not allowed
}

says_what if {
	is_string(details.client_id)
	is_string(details.feature)
}

allowed if details.feature in input.reference.tier.features
