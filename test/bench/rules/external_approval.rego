# METADATA
# scope: package
# title: What is confidential leaves externally only when approved
# description: Metadata only.
# custom:
#   id: external-approval
#   severity: high
#   frameworks: [GDPR]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package external_approval

guarded if input.route.classification in {"confidential", "restricted"}

approved if count(input.approvals) > 0

violations := [{
	"severity": "high",
	"message": $"{input.request.method} {input.request.path_template} is not approved for external egress",
	"remediation": {"hint": "Have the resource approved for this channel."},
	"frameworks": ["GDPR"],
}] if {
	input.channel == "external"
	guarded
	not approved
}

default violations := []

default status := "pending-approval"

status := "approved" if approved

status := "approved" if not guarded

decision := {"evaluated": true, "violations": violations, "approval_status": status}
