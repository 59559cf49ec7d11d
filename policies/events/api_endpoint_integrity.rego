# METADATA
# scope: package
# title: APIs answer as their contract says
# description: |
#   The route must be registered, and its answer must have a registered status and exactly the registered fields.
# custom:
#   id: api-endpoint-integrity
#   severity: high
#   frameworks: [SOC2]
#   mode: enforce
package api_endpoint_integrity

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "high",
	"message": message,
	"remediation": {"hint": "Register the new contract, or mend the endpoint; docs/violations.md."},
}

details := input.event.details

applies if {
	input.event.source == "api"
	input.event.type == "api_response"
}

reasons contains "the event does not say which route answered how" if {
	applies
	not says_what
}

reasons contains $"{details.method} {details.route} is not registered" if {
	applies
	says_what
	input.reference.contract == null
}

reasons contains $"{details.method} {details.route} answered {details.status}, which is not registered" if {
	registered
	not details.status in input.reference.contract.statuses
}

reasons contains $"{details.method} {details.route} answered with fields that are not registered: {concat(", ", sort(extra))}" if {
	registered
	extra := {field | some field in details.fields} - {field | some field in input.reference.contract.fields}
	count(extra) > 0
}

reasons contains $"{details.method} {details.route} answered without: {concat(", ", sort(missing))}" if {
	registered
	details.status < 300
	missing := {field | some field in input.reference.contract.fields} - {field | some field in details.fields}
	count(missing) > 0
}

registered if {
	applies
	says_what
	input.reference.contract != null
}

says_what if {
	is_string(details.method)
	is_string(details.route)
	is_number(details.status)
	is_array(details.fields)
}
