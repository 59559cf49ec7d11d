# METADATA
# scope: package
# title: What the native detectors found in the body
# description: |
#   A number for each kind of finding. A fact that is absent makes the number undefined, and with it every decision that
#   needs it: the rule is then undecidable, never "nothing found".
package lib.findings

# Numbers whose mere presence is damaging: they open accounts or stand for a person towards the state.
sensitive := input.response.facts.payment_card.count + input.response.facts.national_id.count

# Anything that names or reaches a person. A card or identity number belongs to a person, too.
personal := (((sensitive + input.response.facts.email.count) + input.response.facts.phone.count) + input.response.facts.iban.count) + input.response.facts.person_name.count
