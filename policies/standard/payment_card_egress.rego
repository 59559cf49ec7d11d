# METADATA
# scope: package
# title: Payment card numbers do not leave externally
# description: |
#   A number that passes the Luhn check and has a known issuer prefix never leaves by the external channel, approved or not,
#   unless the route is declared to be in scope of PCI-DSS (policy data).
# custom:
#   id: payment-card-egress
#   severity: critical
#   frameworks: [PCI-DSS]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package payment_card_egress

decision := {
	"evaluated": true,
	"violations": violations,
}

violations := [] if input.channel == "internal"

violations := [] if {
	input.channel != "internal"
	input.response.facts.payment_card.count == 0
}

violations := [] if {
	input.channel != "internal"
	input.response.facts.payment_card.count > 0
	is_in_scope
}

violations := [{
	"severity": "critical",
	"message": $"The body holds {input.response.facts.payment_card.count} payment card number(s)",
	"remediation": {"hint": "Mask the numbers (first six and last four digits at most, PCI DSS requirement 3.4) or send a token in their place. A route that must send them is declared with PCI-DSS in its «regulations» in the policy data. An approval does not lift this rule."},
	"frameworks": ["PCI-DSS"],
}] if {
	input.channel != "internal"
	input.response.facts.payment_card.count > 0
	not is_in_scope
}

is_in_scope if "PCI-DSS" in input.route.regulations
