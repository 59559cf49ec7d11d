import type { AuditEvent } from '#core/audit/event.ts'
import type { PURGE_EVENTS } from '#core/retention/purge.ts'
import type { Ack, Checkpoint, LogAck, Refusal, SessionClose } from '#core/audit/wire.ts'
import type { ErrorCode } from '#core/error/codes.ts'

/** Who is writing, as authenticated. */
export type Producer = { readonly tenant: string; readonly producerId: string }

/** A stamp that came with an event, checked to be that event's. */
export type CarriedStamp = {
  readonly hash: string
  readonly bytes: Buffer
  /** Regulations that the stamp names. */
  readonly frameworks?: readonly string[]
}

/** A line that can be recorded as it is. `event.tenant` and `event.source` are already the authenticated ones. */
export type EventEntry = {
  readonly kind: 'event'
  readonly line: number
  readonly receivedDigest: Buffer
  readonly session: string
  readonly spoolSeq: number
  readonly event: AuditEvent
  readonly stamp: CarriedStamp | undefined
}

/** One event that came by itself: in no session, so at no position of one. */
export type LogEntry = {
  readonly kind: 'log'
  readonly receivedDigest: Buffer
  readonly event: AuditEvent
  readonly stamp: CarriedStamp | undefined
}

/** Keys and a certificate that are about to be handed out. */
export type IssueEntry = {
  readonly kind: 'issue'
  /** What was proved; the same proof is recorded once. */
  readonly proofDigest: Buffer
  readonly keyId: string
  readonly certificate: { readonly serial: string; readonly sha256: string; readonly notAfter: Date }
  /** SHA-256 of the SPKI DER. */
  readonly publicKeyDigest: Buffer
  readonly workload: {
    readonly namespace: string
    readonly serviceAccount: string
    readonly pod: { readonly name: string; readonly uid: string }
  }
}

/** Something that the ledger itself did or was told to do. The same `cause` is recorded once. */
export type NoticeEntry = {
  readonly kind: 'notice'
  readonly type:
    | 'audit.export.requested'
    | 'audit.export.completed'
    | 'audit.export.downloaded'
    | 'audit.export.frozen'
    | 'audit.export.unfrozen'
    | RetentionNoticeType
    | 'audit.erasure'
    | 'identity.denied'
    | 'identity.revoked'
    | 'identity.reinstated'
    | 'audit.replay'
    | 'audit.wall.attempt'
    | 'audit.wall.restored'
  readonly cause: readonly string[]
  readonly outcome: AuditEvent['outcome']
  /** `export` unless given. */
  readonly resourceType?: string
  readonly resourceId: string
  readonly context: Readonly<Record<string, unknown>>
}

/** What became of retention policies, holds and purges. */
export type RetentionNoticeType =
  | 'audit.retention.changed'
  | 'audit.hold.placed'
  | 'audit.hold.released'
  | (typeof PURGE_EVENTS)[number]

/** A line that never will be. Where it could be read that far, it says which position of which session it takes up. */
export type RefusedEntry = {
  readonly kind: 'refused'
  readonly line: number
  readonly receivedDigest: Buffer
  readonly eventId: string | undefined
  readonly position: { readonly session: string; readonly spoolSeq: number } | undefined
  readonly code: ErrorCode
  readonly detail: string
}

export type OpenEntry = {
  readonly kind: 'open'
  readonly session: string
  readonly software: string
  readonly startedAt: string
}
export type CloseEntry = { readonly kind: 'close'; readonly session: string } & Pick<
  SessionClose,
  'clean' | 'last_spool_seq'
>

export type Entry = EventEntry | LogEntry | IssueEntry | NoticeEntry | RefusedEntry | OpenEntry | CloseEntry

/** What a producer sent in one call; recorded, or not, in one transaction. */
export type Batch = { readonly producer: Producer; readonly entries: readonly Entry[] }

/** What became of it. `logged`: the events that came by themselves. `spoolHeads`: the highest position known of each session it touched. */
export type BatchOutcome = {
  readonly acks: Ack[]
  readonly logged: LogAck['ack'][]
  readonly refused: Refusal[]
  readonly checkpoint: Checkpoint
  readonly spoolHeads: ReadonlyMap<string, number>
}
