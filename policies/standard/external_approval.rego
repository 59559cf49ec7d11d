# METADATA
# scope: package
# title: Confidential and restricted responses leave externally only with an approval
# description: |
#   Public and internal responses are approved by rule. Confidential and restricted ones need an approval in force for this
#   resource, channel and version or digest; without one they are held back on the external channel, and pass the internal one
#   as pending-approval.
# custom:
#   id: external-approval
#   severity: high
#   frameworks: [GDPR, SOX]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package external_approval

import data.lib.sensitivity

decision := {
	"evaluated": true,
	"violations": violations,
	"approval_status": status,
}

is_free if sensitivity.level in {"public", "internal"}

is_guarded if sensitivity.level in {"confidential", "restricted"}

status := "approved" if is_free

status := "approved" if {
	is_guarded
	count(input.approvals) > 0
}

status := "pending-approval" if {
	is_guarded
	count(input.approvals) == 0
}

violations := [] if status == "approved"

violations := [] if {
	status == "pending-approval"
	input.channel == "internal"
}

# Any channel that is not the internal one counts as external.
violations := [{
	"severity": "high",
	"message": $"This response is {sensitivity.level}, and no approval for its external egress is in force",
	"remediation": {"hint": "Either have it approved: add an entry to «approvals» of the policy data with this resource's route template, its version (the application's Signet-Artifact-Version) or content digest, channel external, who approves and an expiry. Or fetch it through the internal channel. Or lower what is in it: leave out personal data, payment card and national id numbers, or the higher classification that the route or the header Signet-Data-Classification declares."},
	"frameworks": ["GDPR", "SOX"],
}] if {
	status == "pending-approval"
	input.channel != "internal"
}
