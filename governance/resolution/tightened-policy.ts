import type { DecisionInput } from '#core/policy/decision.ts'
import type { PastEvent } from '../store/history.ts'

/** How often somebody has to have violated a rule to be refused: the strictest that keeps to the bound is drafted. */
export const THRESHOLDS = [3, 5, 10, 20] as const
/** The share of events that nothing was wrong with that a draft may have refused. */
export const MAX_GOOD_REFUSED = 0.01
/** Of those, named in one draft. */
export const MAX_CALLERS = 200
export const HISTORY_DAYS = 30

export function tightenedName(rule: string): string {
  return `Tightened: ${rule}`
}

/**
 * Refuses answers to callers who violated a rule again and again. Rego of the same facts is the same text. `callers`: as events, and the ingress
 * of proxies, call them.
 */
export function tightenedRego(rule: string, threshold: number, callers: readonly string[]): string {
  const listed = callers.toSorted().map((caller) => `\t${JSON.stringify(caller)},`)
  return `package tightened_${rule}

# Drafted by Signet: callers who violated ${rule} ${threshold} times or more in ${HISTORY_DAYS} days get no answers.
callers := {
${listed.join('\n')}
}

decision := {
	"evaluated": true,
	"violations": violations,
}

# Without a caller there is no decision.
violations := [] if {
	is_string(input.request.caller.subject)
	not input.request.caller.subject in callers
}

violations := [{
	"severity": "high",
	"message": "The caller violated ${rule} again and again",
	"remediation": {"hint": "Whoever answers for compliance decides: end what is wrong with the caller, then put the next version of this policy in force, or take it out of force."},
	"frameworks": [],
}] if {
	input.request.caller.subject in callers
}
`
}

/** What a proxy would have judged of a past event: an answer to whom the event is about. */
export function replayInput(tenant: string, subject: string | null): DecisionInput {
  return {
    stage: 'egress',
    tenant,
    channel: 'external',
    request: {
      method: 'GET',
      path: '/',
      path_template: null,
      matched_templates: [],
      headers: {},
      caller: { subject: subject ?? 'anonymous', roles: [], region: null },
    },
    response: { status: 200, media_type: 'application/json', size: 2, headers: {}, upstream_stamp: 'none', facts: {} },
    route: null,
    lineage: { source_assets: [], transformations: [] },
    workload: { producer_id: 'replay', namespace: 'replay', region: null },
    approvals: [],
    blocks: [],
  }
}

/** What a draft would have done to past events. */
export type Replay = {
  readonly events: number
  /** Violations of the rule among them, and how many of these it would have refused. */
  readonly violations: number
  readonly violations_refused: number
  /** Events that nothing was wrong with, and how many of these it would have refused. */
  readonly good: number
  readonly good_refused: number
}

/** `refuses`: whether the draft refuses an event of this subject. */
export async function replay(
  events: readonly PastEvent[],
  refuses: (subject: string | null) => Promise<boolean>,
): Promise<Replay> {
  const known = new Map<string | null, boolean>()
  let [violations, refusedViolations, good, refusedGood] = [0, 0, 0, 0]
  for (const { subject, good: isGood, violated } of events) {
    let refused = known.get(subject)
    if (refused === undefined) known.set(subject, (refused = await refuses(subject)))
    if (violated) violations += 1
    if (violated && refused) refusedViolations += 1
    if (isGood) good += 1
    if (isGood && refused) refusedGood += 1
  }
  return {
    events: events.length,
    violations,
    violations_refused: refusedViolations,
    good,
    good_refused: refusedGood,
  }
}

/** Why a draft is not proposed; null where it is. */
export function faultOf({ violations_refused, good, good_refused }: Replay): string | null {
  if (violations_refused === 0) return 'it would have refused nothing of what violated the rule'
  const allowed = Math.floor(good * MAX_GOOD_REFUSED)
  return good_refused <= allowed
    ? null
    : `it would have refused ${good_refused} of ${good} events that nothing was wrong with; at most ${allowed} may be`
}
