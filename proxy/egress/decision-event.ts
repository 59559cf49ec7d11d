import type { AuditEvent } from '#core/audit/event.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { ExchangeContext } from '../exchange/context.ts'

export type DecisionOutcome = {
  readonly eventId: string
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

/** The audit event of one decision; `context` says how it came about, never what the body held. */
export function decisionEvent(context: ExchangeContext, made: DecisionOutcome): AuditEvent {
  const { judgement } = made
  return {
    event_id: made.eventId,
    event_type: made.eventType,
    timestamp_utc: new Date(made.nowMs).toISOString(),
    trace_id: context.traceId,
    request_id: context.requestId,
    actor: context.caller.subject,
    tenant: context.tenant,
    stage: 'publish',
    action: made.action,
    resource: printable(context.path),
    resource_type: 'http.response',
    before: null,
    after: null,
    outcome: made.outcome,
    latency_ms: Math.max(0, Math.round(made.latencyMs * 1000) / 1000),
    stamp_hash: made.stampHash,
    source: 'signet-proxy',
    context: {
      channel: context.channel,
      method: context.method,
      mode: context.mode,
      media_type: made.mediaType,
      status: made.status,
      upstream_status: made.upstreamStatus,
      payload_length: made.payloadLength,
      target_digest: context.targetDigest,
      bundle_revision: context.policy.revision,
      ...(made.ignored.length === 0 ? {} : { ignored_headers: made.ignored }),
      ...(made.errorCode === null ? {} : { error: made.errorCode }),
      ...(judgement === null
        ? {}
        : {
            classification: judgement.classification,
            regulations: judgement.regulations,
            violations: judgement.violations.map(({ rule }) => rule).slice(0, 64),
            ...(judgement.shadow.length === 0
              ? {}
              : { shadow_violations: judgement.shadow.map(({ rule }) => rule).slice(0, 64) }),
            ...(judgement.undecidable.length === 0 ? {} : { undecidable: judgement.undecidable.slice(0, 32) }),
          }),
    },
  }
}

/** Paths are Latin-1 from the wire; anything outside visible ASCII is percent-encoded, so that no log or console is tricked. */
function printable(path: string): string {
  const text = /^[\x21-\x7e]*$/.test(path)
    ? path
    : path.replace(/[^\x21-\x7e]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`)
  return text === '' ? '/' : text.slice(0, MAX_RESOURCE)
}
