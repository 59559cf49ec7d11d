# METADATA
# scope: package
# title: Voice is used within a budget
# description: |
#   There must be a budget for the client's voice minutes, and what it used together with this event must be within it.
# custom:
#   id: voice-usage-without-budget
#   severity: medium
#   frameworks: [SOC2]
#   mode: enforce
package voice_usage_without_budget

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "medium",
	"message": message,
	"remediation": {"hint": "Give the client a budget, or stop it; docs/violations.md."},
}

details := input.event.details

reasons contains "the event does not say which client spoke for how long" if {
	input.event.source == "voice"
	not says_what
}

reasons contains $"client {details.client_id} has no budget for voice" if {
	input.event.source == "voice"
	says_what
	input.reference.budget == null
}

reasons contains $"client {details.client_id} used {used} minutes of {input.reference.budget.minutes}" if {
	input.event.source == "voice"
	says_what
	used > input.reference.budget.minutes
}

used := input.reference.used + details.minutes

says_what if {
	is_string(details.client_id)
	is_number(details.minutes)
	details.minutes >= 0
}
