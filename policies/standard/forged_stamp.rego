# METADATA
# scope: package
# title: A response must not carry a stamp that does not verify
# description: |
#   A body with a `_compliance` member that no key of ours made, or that was changed since, is refused. Where this rule is
#   in shadow or off, the proxy strips the member, stamps anew and audits the finding.
# custom:
#   id: forged-stamp
#   severity: high
#   frameworks: []
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package forged_stamp

decision := {
	"evaluated": true,
	"violations": violations,
}

violations := [] if input.response.upstream_stamp in {"none", "verified"}

violations := [{
	"severity": "high",
	"message": "The service put a compliance stamp into its answer that does not verify",
	"remediation": {"hint": "Remove the top-level member _compliance from what the service answers; Signet adds its own. To pass on a stamped answer, pass on its exact bytes, as another Signet proxy sent them, and let both proxies use the same keyring."},
	"frameworks": [],
}] if {
	input.response.upstream_stamp == "forged"
}
