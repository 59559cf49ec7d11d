# METADATA
# scope: package
# title: How sensitive a response is
# description: |
#   One answer for the rules `classification` and `external-approval`: the highest of what the route, the application's own
#   header and the content say. Where none of them says anything, `internal` on the internal channel and `public` elsewhere.
#   Undefined when a fact about the body is absent.
package lib.sensitivity

import data.lib.findings

levels := ["public", "internal", "confidential", "restricted"]

ranks := {"public": 0, "internal": 1, "confidential": 2, "restricted": 3}

level := levels[max(stated)] if count(stated) > 0

level := unstated if count(stated) == 0

# A value that is not a classification counts as the highest: it was meant to say something.
declared_is_valid if ranks[input.lineage.declared_classification] >= 0

declared := {object.get(ranks, value, 3) | some value in [input.lineage.declared_classification]}

stated := (by_route | declared) | by_content

by_route := set() if input.route == null

by_route := {object.get(ranks, value, 3) | some value in [input.route.classification]} if is_object(input.route)

by_content := {3} if findings.sensitive > 0

by_content := {2} if {
	findings.sensitive == 0
	findings.personal > 0
}

by_content := set() if findings.personal == 0

unstated := "internal" if input.channel == "internal"

unstated := "public" if input.channel != "internal"
