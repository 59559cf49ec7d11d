# METADATA
# scope: package
# title: What is contained gets no answers until a person lets it
# description: |
#   Governance contains an agent (by what callers are called, or by the workload that answers) or a route of an API that answers otherwise
#   than its contract says. The proxy matches requests with the list of its bundle; approvals do not lift this rule.
#   A proxy that is older than this rule gives no «blocks» at all: then there is nothing to hold back by.
# custom:
#   id: containment
#   severity: critical
#   frameworks: []
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: closed
package containment

decision := {
	"evaluated": true,
	"violations": [violation(block) | some block in input.blocks],
}

violation(block) := {
	"severity": "critical",
	"message": $"Requests of this {block.kind} are contained (block {block.id})",
	"remediation": {"hint": $"Whoever answers for compliance decides: in governance, resolve the violation that the block is for, or lift the block (POST /api/compliance/blocks/{block.id}/lift). It ends by itself at {block.expires_at}."},
	"frameworks": [],
}
