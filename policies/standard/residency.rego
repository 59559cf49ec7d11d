# METADATA
# scope: package
# title: Data stays in the regions that its route allows
# description: |
#   Applies only to routes with «regions» in the policy data. The caller's region must be one of them (compared without
#   regard to case; an empty list admits nobody). A caller whose region is not known is refused on the external channel.
# custom:
#   id: residency
#   severity: high
#   frameworks: [GDPR]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package residency

decision := {
	"evaluated": true,
	"violations": violations,
}

violations := [] if input.route == null

violations := [] if {
	is_object(input.route)
	not input.route.regions
}

violations := [] if lower(input.request.caller.region) in allowed

violations := [refusal($"A caller in region {input.request.caller.region} may not receive this data")] if {
	is_string(input.request.caller.region)
	allowed
	not lower(input.request.caller.region) in allowed
}

violations := [refusal("The region of the caller is not known, and this data may not leave its regions")] if {
	allowed
	input.request.caller.region == null
	input.channel != "internal"
}

violations := [] if {
	allowed
	input.request.caller.region == null
	input.channel == "internal"
}

allowed := {lower(region) | some region in input.route.regions} if is_array(input.route.regions)

refusal(message) := {
	"severity": "high",
	"message": message,
	"remediation": {"hint": $"Call from one of the regions that this route allows ({concat(", ", sort(allowed))}) with an identity that states the region, or add the region to «regions» of the route in the policy data."},
	"frameworks": ["GDPR"],
}
