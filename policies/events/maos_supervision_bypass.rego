# METADATA
# scope: package
# title: Agents act under supervision
# description: |
#   For what an agent does there must be a supervision record, made before it, for this agent and this action, and not run out. MAOS is the supervisor of several agents, Deep Agent one that plans.
# custom:
#   id: maos-supervision-bypass
#   severity: critical
#   frameworks: [SOC2]
#   mode: enforce
package maos_supervision_bypass

decision := {
	"evaluated": true,
	"violations": [violation(message) | some message in reasons],
}

violation(message) := {
	"severity": "critical",
	"message": message,
	"remediation": {"hint": "The agent is contained; a person decides what happens to it; docs/violations.md."},
}

details := input.event.details

applies if {
	input.event.source in {"maos", "deep_agent"}
	input.event.type == "agent_action"
}

reasons contains "the event does not say which agent did what under which supervision" if {
	applies
	not says_what
}

reasons contains $"there is no supervision record {details.supervision_id}" if {
	applies
	says_what
	input.reference.supervision == null
}

reasons contains $"supervision {details.supervision_id} is for another agent or another action" if {
	applies
	says_what
	input.reference.supervision != null
	not same
}

reasons contains $"supervision {details.supervision_id} was not in force when the agent acted" if {
	applies
	says_what
	input.reference.supervision != null
	not in_force
}

same if {
	input.reference.supervision.agent_id == details.agent_id
	input.reference.supervision.action == details.action
}

in_force if {
	input.reference.supervision.recorded_ms <= input.event.at_ms
	input.reference.supervision.valid_until_ms > input.event.at_ms
}

says_what if {
	is_string(details.agent_id)
	is_string(details.action)
	is_string(details.supervision_id)
}
