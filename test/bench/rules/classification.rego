# METADATA
# scope: package
# title: What the route or the application says
# description: Metadata only. The highest of the route's classification and the one that the application declares.
# custom:
#   id: classification
#   severity: medium
#   frameworks: [SOX, GDPR]
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package classification

ranks := {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}

names := ["public", "internal", "confidential", "restricted"]

by_route := object.get(ranks, object.get(input.route, "classification", "internal"), 3) if is_object(input.route)

by_route := 1 if input.route == null

declared := object.get(ranks, object.get(input.lineage, "declared_classification", "public"), 3)

decision := {
	"evaluated": true,
	"violations": [],
	"classification": names[max([by_route, declared])],
	"regulations": regulations,
}

regulations := [] if input.route == null

regulations := object.get(input.route, "regulations", []) if is_object(input.route)
