import { createHash } from 'node:crypto'
import type { AuditEvent } from '#core/audit/event.ts'
import { formatTime } from '#core/time/timestamp.ts'

/** What both events of an action share. */
export type ActionSubject = {
  readonly id: string
  readonly tenant: string
  /** Who does it, as the log calls them. */
  readonly actor: string
  /** `users.write` */
  readonly action: string
  readonly resource: string
  readonly resourceType: string
  readonly resourceId: string | null
  readonly traceId: string
  readonly requestId: string
}

export type Ending = {
  readonly state: 'committed' | 'failed' | 'reverted' | 'denied'
  readonly before?: AuditEvent['before']
  readonly after?: AuditEvent['after']
  readonly resourceId?: string
  /** Why it did not happen: an error code, and plain words without what was sent. */
  readonly reason?: { readonly code: string; readonly detail: string }
  readonly latencyMs: number
  readonly eventType?: string
  readonly context?: Readonly<Record<string, string>>
}

const OUTCOMES = { committed: 'success', failed: 'failure', reverted: 'failure', denied: 'denied' } as const

/** What is meant, before anything is done. */
export function intentEvent(subject: ActionSubject, wanted: AuditEvent['after'], atMs: number): AuditEvent {
  return {
    ...envelope(subject, 'intent', atMs),
    event_type: 'governance.intent',
    stage: 'approve',
    before: null,
    after: wanted,
    outcome: 'unknown',
    latency_ms: 0,
  }
}

/** What became of it. */
export function outcomeEvent(subject: ActionSubject, ending: Ending, atMs: number): AuditEvent {
  const { state, before = null, after = null, reason, latencyMs } = ending
  const resourceId = ending.resourceId ?? subject.resourceId
  return {
    ...envelope({ ...subject, resourceId }, 'outcome', atMs),
    event_type: state === 'denied' ? 'governance.denied' : (ending.eventType ?? 'governance.outcome'),
    stage: 'approve',
    before,
    after,
    outcome: OUTCOMES[state],
    latency_ms: Math.max(0, latencyMs),
    context: {
      action_id: subject.id,
      state,
      ...ending.context,
      ...(reason === undefined ? {} : { code: reason.code, reason: reason.detail }),
    },
  }
}

function envelope(subject: ActionSubject, part: 'intent' | 'outcome', atMs: number) {
  return {
    event_id: eventIdOf(subject.id, part),
    timestamp_utc: formatTime(atMs),
    trace_id: subject.traceId,
    request_id: subject.requestId,
    actor: subject.actor,
    tenant: subject.tenant,
    action: subject.action,
    resource: subject.resource,
    resource_type: subject.resourceType,
    ...(subject.resourceId === null ? {} : { resource_id: subject.resourceId }),
    stamp_hash: null,
    source: 'governance',
    ...(part === 'intent' ? { context: { action_id: subject.id } } : {}),
  }
}

/** The same for the same action whoever makes it, so that an event that is sent twice is one: a UUID version 8 (RFC 9562, section 5.8). */
function eventIdOf(actionId: string, part: 'intent' | 'outcome'): string {
  const hex = createHash('sha256').update(`signet/governance/${part}/${actionId}`).digest('hex')
  const variant = ((Number.parseInt(hex.slice(16, 17), 16) & 0x3) | 0x8).toString(16)
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
