# METADATA
# scope: package
# title: Tokens used are tokens paid for
# description: |
#   What a client used in the period, together with this event, must not be more than its billing record grants.
# custom:
#   id: invalid-token-flow
#   severity: medium
#   frameworks: [SOC2]
#   mode: enforce
package invalid_token_flow

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "medium",
	"message": message,
	"remediation": {"hint": "Bring the billing record up to date, or stop the client; docs/violations.md."},
}

details := input.event.details

applies if {
	input.event.source == "billing"
	input.event.type == "token_usage"
}

reasons contains "the event does not say which client used how many tokens" if {
	applies
	not says_what
}

reasons contains $"there is no billing record of client {details.client_id}" if {
	applies
	says_what
	input.reference.billing == null
}

reasons contains $"client {details.client_id} used {used} tokens of {input.reference.billing.tokens_granted}" if {
	applies
	says_what
	used > input.reference.billing.tokens_granted
}

used := input.reference.used + details.tokens

says_what if {
	is_string(details.client_id)
	is_number(details.tokens)
	details.tokens >= 0
}
