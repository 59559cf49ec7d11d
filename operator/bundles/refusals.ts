import type { AuditEvent } from '#core/audit/event.ts'
import type { ErrorCode } from '#core/error/codes.ts'
import { AUDIT_ACTOR } from './publication-event.ts'

/** A pull or a report that was refused. */
export type Refusal = {
  readonly action: 'pull' | 'report'
  /** The namespace that was asked for, as in the path. */
  readonly namespace: string
  /** `NAMESPACE/POD`, where the token was good; else null. */
  readonly caller: string | null
  readonly address: string
  readonly code: ErrorCode
}

export type RefusalAudit = {
  record(refusal: Refusal): void
  /** Sends what waits; resolves when nothing does, or the ledger does not answer. Never rejects. To be called every few seconds. */
  flush(): Promise<void>
  /** Events that were given up, since too many waited. */
  readonly dropped: number
}

type Counted = { readonly first: Refusal; readonly untilMs: number; more: number }

const MAX_KINDS = 500
const MAX_WAITING = 500

/**
 * Audits refusals without letting whoever is refused fill the ledger: of each kind (action, caller or address, code) the first is
 * an event at once, and those of the following minute are one event with their number.
 */
export function createRefusalAudit(deps: {
  audit: (event: AuditEvent) => Promise<void>
  tenant: string
  now: () => Date
  newId: () => string
  newTraceId: () => string
  windowMs?: number
  onError?: (error: unknown) => void
}): RefusalAudit {
  const { now, windowMs = 60_000 } = deps
  const kinds = new Map<string, Counted>()
  const waiting: AuditEvent[] = []
  let dropped = 0
  let sending: Promise<void> | null = null

  function add(refusal: Refusal, count: number): void {
    if (waiting.length >= MAX_WAITING) {
      waiting.shift()
      dropped += 1
    }
    const id = deps.newId()
    waiting.push({
      event_id: id,
      event_type: 'policy.bundle.refused',
      timestamp_utc: now().toISOString(),
      trace_id: deps.newTraceId(),
      request_id: id,
      actor: refusal.caller ?? 'unauthenticated',
      tenant: deps.tenant,
      stage: 'publish',
      action: refusal.action,
      resource: `bundle/namespace/${refusal.namespace}`,
      resource_type: 'policy-bundle',
      before: null,
      after: null,
      outcome: 'denied',
      latency_ms: 0,
      stamp_hash: null,
      context: { code: refusal.code, count, address: refusal.address, recorded_by: AUDIT_ACTOR },
      source: 'signet-operator',
    })
  }

  function close(key: string, counted: Counted): void {
    kinds.delete(key)
    if (counted.more > 0) add(counted.first, counted.more)
  }

  async function send(): Promise<void> {
    const nowMs = now().getTime()
    for (const [key, counted] of kinds) if (counted.untilMs <= nowMs) close(key, counted)
    for (let event = waiting[0]; event !== undefined; event = waiting[0]) {
      try {
        await deps.audit(event)
      } catch (error) {
        deps.onError?.(error)
        return
      }
      // It may have been dropped meanwhile.
      if (waiting[0] === event) waiting.shift()
    }
  }

  return {
    record(refusal) {
      // Not by the namespace that is asked for: the caller chooses it, and could make any number of kinds.
      const own = [refusal.action, refusal.caller ?? refusal.address, refusal.code].join(' ')
      const key = kinds.has(own) || kinds.size < MAX_KINDS ? own : 'others'
      const counted = kinds.get(key)
      if (counted !== undefined) {
        counted.more += 1
        return
      }
      kinds.set(key, { first: refusal, untilMs: now().getTime() + windowMs, more: 0 })
      add(refusal, 1)
    },
    flush() {
      sending ??= send().finally(() => (sending = null))
      return sending
    },
    get dropped() {
      return dropped
    },
  }
}
