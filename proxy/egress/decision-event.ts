import type { AuditEvent } from '#core/audit/event.ts'
import type { Judgement } from '#core/policy/join.ts'
import { formatTime } from '#core/time/timestamp.ts'
import type { ExchangeContext } from '../exchange/context.ts'

export type DecisionOutcome = {
  readonly eventId: string
  /** `policy.decision_id` of the stamp; null where none was issued. */
  readonly decisionId: string | null
  readonly eventType: 'egress.decided' | 'egress.completed' | 'egress.refused' | 'egress.failed' | 'egress.aborted'
  readonly action: 'stamp' | 'pass' | 'refuse' | 'fail' | 'abort'
  readonly outcome: AuditEvent['outcome']
  readonly stampHash: string | null
  readonly judgement: Judgement | null
  readonly status: number | null
  readonly upstreamStatus: number | null
  readonly mediaType: string
  readonly payloadLength: number | null
  readonly errorCode: string | null
  /** Lineage headers whose value does not fit its form. */
  readonly ignored: readonly string[]
  readonly nowMs: number
  readonly latencyMs: number
}

/** The resource is the path without its query: a query may hold what a log should not; `target_digest` binds all of it. */
const MAX_RESOURCE = 2048

/**
 * The audit event of one decision; `context` says how it came about, never what the body held. Members in the order of the
 * canonical form, which spares it the sorting.
 */
export function decisionEvent(context: ExchangeContext, made: DecisionOutcome): AuditEvent {
  return {
    action: made.action,
    actor: context.caller.subject,
    after: null,
    before: null,
    context: circumstances(context, made),
    event_id: made.eventId,
    event_type: made.eventType,
    latency_ms: Math.max(0, Math.round(made.latencyMs * 1000) / 1000),
    outcome: made.outcome,
    request_id: context.requestId,
    resource: resourceOf(context.path),
    resource_type: 'http.response',
    source: 'signet-proxy',
    stage: 'publish',
    stamp_hash: made.stampHash,
    tenant: context.tenant,
    timestamp_utc: formatTime(made.nowMs),
    trace_id: context.traceId,
  }
}

function circumstances(context: ExchangeContext, made: DecisionOutcome): Record<string, unknown> {
  const { judgement } = made
  const out: Record<string, unknown> = { bundle_revision: context.policy.revision, channel: context.channel }
  if (judgement !== null) out['classification'] = judgement.classification
  if (made.decisionId !== null) out['decision_id'] = made.decisionId
  if (made.errorCode !== null) out['error'] = made.errorCode
  if (made.ignored.length > 0) out['ignored_headers'] = made.ignored
  out['media_type'] = made.mediaType
  out['method'] = context.method
  out['mode'] = context.mode
  out['payload_length'] = made.payloadLength
  if (judgement !== null) {
    out['regulations'] = judgement.regulations
    if (judgement.shadow.length > 0) out['shadow_violations'] = judgement.shadow.map(({ rule }) => rule).slice(0, 64)
  }
  out['status'] = made.status
  out['target_digest'] = context.targetDigest
  if (judgement !== null && judgement.undecidable.length > 0) out['undecidable'] = judgement.undecidable.slice(0, 32)
  out['upstream_status'] = made.upstreamStatus
  if (judgement !== null) out['violations'] = judgement.violations.map(({ rule }) => rule).slice(0, 64)
  return out
}

/**
 * The path as events name it: Latin-1 from the wire; anything outside visible ASCII is percent-encoded, so that no log or console is
 * tricked.
 */
export function resourceOf(path: string): string {
  const text = /^[\x21-\x7e]*$/.test(path)
    ? path
    : path.replace(/[^\x21-\x7e]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
  return text === '' ? '/' : text.slice(0, MAX_RESOURCE)
}
