# METADATA
# scope: package
# title: No executable content and no server faults with detail
# description: Metadata only. Looks at status, media type and a request header.
# custom:
#   id: media-type
#   severity: medium
#   frameworks: []
#   mode: enforce
#   undecidable:
#     external: closed
#     internal: open
package media_type

violations contains {
	"severity": "medium",
	"message": $"{input.response.media_type} does not leave here",
	"remediation": {"hint": "Serve it from somewhere else."},
	"frameworks": [],
} if input.response.media_type in {"application/x-msdownload", "application/java-archive"}

violations contains {
	"severity": "medium",
	"message": "A server fault does not leave with a body for an unknown client",
	"remediation": {"hint": "Send a user agent."},
	"frameworks": [],
} if {
	input.response.status >= 500
	not input.request.headers["user-agent"]
}

decision := {"evaluated": true, "violations": sort(violations)}
