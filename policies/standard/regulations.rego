# METADATA
# scope: package
# title: The regulations that a response is under are named
# description: |
#   SOX where the body has the fields of a financial statement (three distinct ones or more), GDPR where personal data is
#   present, PCI-DSS where a payment card number is; joined with the regulations of the route (policy data), which is the only
#   source of HIPAA and all others. An empty list where none applies: the issuer then writes NONE.
# custom:
#   id: regulations
#   severity: medium
#   frameworks: [SOX, GDPR, PCI-DSS]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package regulations

import data.lib.findings

# One such field is in many an answer ("revenue"); three make a statement.
financial_statement_threshold := 3

decision := {
	"evaluated": true,
	"violations": [],
	"regulations": sort((by_route | by_content) - {"NONE"}),
}

by_route := set() if input.route == null

by_route := {name | some name in object.get(input.route, "regulations", [])} if is_object(input.route)

by_content := (gdpr | pci_dss) | sox

gdpr := {"GDPR"} if findings.personal > 0

gdpr := set() if findings.personal == 0

pci_dss := {"PCI-DSS"} if input.response.facts.payment_card.count > 0

pci_dss := set() if input.response.facts.payment_card.count == 0

sox := {"SOX"} if input.response.facts.financial_statement.count >= financial_statement_threshold

sox := set() if input.response.facts.financial_statement.count < financial_statement_threshold
