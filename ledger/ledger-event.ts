import { createHash } from 'node:crypto'
import type { AuditEvent } from '#core/audit/event.ts'
import type { IssueEntry, NoticeEntry, Producer, RefusedEntry } from './entry.ts'
import type { Mark } from './keys.ts'

/** Events that only the ledger writes: a producer that sends one is refused (`intake.ts`). */
type LedgerEventType =
  | 'audit.session.opened'
  | 'audit.session.closed'
  | 'audit.gap'
  | 'audit.refused'
  | 'identity.issued'
  | NoticeEntry['type']
const LEDGER_ACTOR = 'signet-ledger'

/** Lines of a batch that one `audit.refused` event lists, when they cannot be told apart by their position in a session. */
const MAX_LISTED_LINES = 20

/**
 * `mark` keys the ids: nobody else can tell an id before the ledger has used it, and so take it first to keep the ledger's event out.
 */
export type Scene = { readonly producer: Producer; readonly at: Date; readonly mark: Mark }

type Draft = {
  type: LedgerEventType
  session: string | null
  /** What makes this event this one: the same cause gives the same `event_id`, so that recording it twice is recording it once. */
  cause: readonly string[]
  outcome: AuditEvent['outcome']
  resourceType: string
  resourceId: string
  context: Readonly<Record<string, unknown>>
}

function ledgerEvent({ producer, at, mark }: Scene, draft: Draft): AuditEvent {
  const { session } = draft
  return {
    event_id: deterministicId(mark('event', producer.tenant, producer.producerId, draft.type, ...draft.cause)),
    event_type: draft.type,
    timestamp_utc: at.toISOString(),
    trace_id: ledgerTraceId(mark, producer, session),
    request_id: session ?? draft.resourceId,
    actor: LEDGER_ACTOR,
    tenant: producer.tenant,
    stage: 'ingest',
    action: 'record',
    resource: `audit/${draft.resourceType}/${draft.resourceId}`,
    resource_type: draft.resourceType,
    resource_id: draft.resourceId,
    before: null,
    after: null,
    outcome: draft.outcome,
    latency_ms: 0,
    stamp_hash: null,
    context: draft.context,
    source: LEDGER_ACTOR,
  }
}

/** The trace of the ledger's own events about a session, or about a producer where no session is known. */
export function ledgerTraceId(mark: Mark, producer: Producer, session: string | null): string {
  return mark('ledger-trace', producer.tenant, producer.producerId, session ?? '').toString('hex', 0, 16)
}

/** A version 8 UUID (RFC 9562) of what it names. */
function deterministicId(digest: Buffer): string {
  const bytes = Buffer.from(digest.subarray(0, 16))
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x80
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80
  const hex = bytes.toString('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** `software` is null where the session began with an event instead of an opening call. */
export function sessionOpened(scene: Scene, session: string, software: string | null): AuditEvent {
  return ledgerEvent(scene, {
    type: 'audit.session.opened',
    session,
    cause: [session],
    outcome: 'success',
    resourceType: 'session',
    resourceId: session,
    context: { producer_id: scene.producer.producerId, software, implicit: software === null },
  })
}

export function sessionClosed(
  scene: Scene,
  session: string,
  close: { clean: boolean; last_spool_seq: number; recorded_spool_seq: number },
): AuditEvent {
  return ledgerEvent(scene, {
    type: 'audit.session.closed',
    session,
    cause: [session],
    outcome: close.clean ? 'success' : 'failure',
    resourceType: 'session',
    resourceId: session,
    context: { producer_id: scene.producer.producerId, ...close },
  })
}

/** Positions `from` to `to` (null: nobody knows how far) had not arrived when `before` did: an event id, or `close`. */
export function gapFound(
  scene: Scene,
  session: string,
  gap: { from: number; to: number | null; before: string },
): AuditEvent {
  return ledgerEvent(scene, {
    type: 'audit.gap',
    session,
    cause: [session, String(gap.from), String(gap.to), gap.before],
    outcome: 'failure',
    resourceType: 'session',
    resourceId: session,
    context: { producer_id: scene.producer.producerId, from: gap.from, to: gap.to, before: gap.before },
  })
}

/** What was refused, by digest: never its bytes. */
export function itemRefused(scene: Scene, entry: RefusedEntry, session: string | null): AuditEvent {
  const digest = entry.receivedDigest.toString('hex')
  return ledgerEvent(scene, {
    type: 'audit.refused',
    session,
    cause: [digest],
    outcome: 'denied',
    resourceType: 'item',
    resourceId: entry.eventId ?? digest,
    context: {
      producer_id: scene.producer.producerId,
      code: entry.code,
      detail: entry.detail,
      received_digest: `sha256:${digest}`,
      claimed:
        entry.position === undefined ? null : { session: entry.position.session, spool_seq: entry.position.spoolSeq },
    },
  })
}

/** Lines that have no position in a session share one event a batch: what a broken producer can add is bounded. */
export function linesRefused(scene: Scene, entries: readonly RefusedEntry[]): AuditEvent {
  const all = createHash('sha256')
  for (const entry of entries) all.update(entry.receivedDigest)
  const digest = all.digest('hex')
  return ledgerEvent(scene, {
    type: 'audit.refused',
    session: null,
    cause: ['lines', digest],
    outcome: 'denied',
    resourceType: 'batch',
    resourceId: digest,
    context: {
      producer_id: scene.producer.producerId,
      count: entries.length,
      lines: entries.slice(0, MAX_LISTED_LINES).map((entry) => ({
        line: entry.line,
        code: entry.code,
        received_digest: `sha256:${entry.receivedDigest.toString('hex')}`,
      })),
    },
  })
}

/** What the ledger did or was told to do: exports, retention, holds, purges. */
export function noticed(scene: Scene, notice: NoticeEntry): AuditEvent {
  const { type, cause, outcome, resourceType = 'export', resourceId, context } = notice
  return ledgerEvent(scene, { type, session: null, cause, outcome, resourceType, resourceId, context })
}

/** Which key and certificate a workload got. No secret, and nothing that one could be computed from. */
export function identityIssued(scene: Scene, issue: IssueEntry): AuditEvent {
  const { certificate, workload } = issue
  return ledgerEvent(scene, {
    type: 'identity.issued',
    session: null,
    cause: [issue.proofDigest.toString('hex')],
    outcome: 'success',
    resourceType: 'certificate',
    resourceId: certificate.serial,
    context: {
      producer_id: scene.producer.producerId,
      key_id: issue.keyId,
      certificate: {
        serial: certificate.serial,
        sha256: certificate.sha256,
        not_after: certificate.notAfter.toISOString(),
      },
      public_key_sha256: issue.publicKeyDigest.toString('hex'),
      namespace: workload.namespace,
      service_account: workload.serviceAccount,
      pod: { name: workload.pod.name, uid: workload.pod.uid },
    },
  })
}
