# METADATA
# scope: package
# title: What Stripe says is what was recorded
# description: |
#   The event must bear Stripe's signature, and its object must be the record that is kept here: amount, currency and status.
# custom:
#   id: stripe-event-mismatch
#   severity: high
#   frameworks: [SOC2]
#   mode: enforce
package stripe_event_mismatch

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "high",
	"message": message,
	"remediation": {"hint": "Compare with the payment provider and bring the record up to date; docs/violations.md."},
}

reasons contains "the signature of the event does not verify" if {
	input.event.source == "stripe"
	not input.reference.signature_valid
}

reasons contains "the event holds no object" if {
	input.event.source == "stripe"
	input.reference.signature_valid
	input.reference.object == null
}

reasons contains $"{input.reference.object.id} is not recorded here" if {
	compared
	input.reference.record == null
}

reasons contains $"{input.reference.object.id}: {name} is {object.get(input.reference.object, name, null)} in the event and {value} in the record" if {
	compared
	input.reference.record != null
	some name in ["amount", "currency", "status"]
	value := input.reference.record[name]
	object.get(input.reference.object, name, null) != value
}

compared if {
	input.event.source == "stripe"
	input.reference.signature_valid
	input.reference.object != null
}
