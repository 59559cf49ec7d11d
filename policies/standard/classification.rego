# METADATA
# scope: package
# title: Every response is classified
# description: |
#   The highest of: the route's classification (policy data), what the application declares in Signet-Data-Classification,
#   and what its content calls for (payment cards and national ids: restricted; other personal data: confidential).
#   Where none of these says anything: internal on the internal channel, public on the external one.
#   A declared value that is no classification is a violation.
# custom:
#   id: classification
#   severity: medium
#   frameworks: []
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package classification

import data.lib.sensitivity

decision := {
	"evaluated": true,
	"violations": [violation | some violation in violations],
	"classification": sensitivity.level,
}

violations contains {
	"severity": "medium",
	# Without the value: a refusal repeats nothing of the answer that it takes the place of.
	"message": "The application declares a classification that does not exist",
	"remediation": {"hint": "Set the response header Signet-Data-Classification to public, internal, confidential or restricted (lower case), or leave it out."},
	"frameworks": [],
} if {
	input.lineage.declared_classification
	not sensitivity.declared_is_valid
}
