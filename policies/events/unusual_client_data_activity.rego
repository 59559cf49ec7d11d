# METADATA
# scope: package
# title: Clients read about as much as ever
# description: |
#   Where there are ten accesses of the actor or more in thirty days, this one must not be far above them: four standard deviations and twice the mean. Before that, at most a thousand records.
# custom:
#   id: unusual-client-data-activity
#   severity: medium
#   frameworks: [SOC2]
#   mode: enforce
package unusual_client_data_activity

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "medium",
	"message": message,
	"remediation": {"hint": "Ask the actor why, and take the permission if there is no reason; docs/violations.md."},
}

details := input.event.details

reasons contains "the event does not say who read how many records" if {
	input.event.source == "data_access"
	not says_what
}

reasons contains $"{details.actor} read {details.records} records, usual are {round(input.reference.history.mean)}" if {
	input.event.source == "data_access"
	says_what
	input.reference.history.count >= 10
	details.records > input.reference.history.mean + (4 * input.reference.history.deviation)
	details.records > 2 * input.reference.history.mean
}

reasons contains $"{details.actor}, of whom little is known, read {details.records} records" if {
	input.event.source == "data_access"
	says_what
	input.reference.history.count < 10
	details.records > 1000
}

says_what if {
	is_string(details.actor)
	is_number(details.records)
	details.records >= 0
}
