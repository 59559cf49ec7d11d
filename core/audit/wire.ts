import Type from 'typebox'
import { Digest, Stamp, TimestampUtc } from '../stamp/schema.ts'
import { AuditEvent } from './event.ts'

/**
 * The contract between a producer (a proxy) and the ledger, version 1.
 *
 *   POST /api/audit/sessions               SessionOpen    → SessionOpened
 *   POST /api/audit/sessions/{id}/close    SessionClose   → SessionClosed
 *   POST /api/audit/ingest                 application/x-ndjson, one IngestItem a line → IngestAck
 *   POST /api/audit/logs                   AuditEvent or LogItem → LogAck: one event of a producer that keeps no session
 *
 * A line is the unit of idempotency: the ledger keeps an HMAC of the exact bytes of the line (without its line feed), so a
 * retry with the same bytes is acknowledged again and the same `event_id` with other bytes is refused.
 * Both sides ignore members that they do not know outside of `event`, so that an older proxy and a newer ledger keep working.
 */
export const WIRE_VERSION = 1
/** Items a batch and bytes a batch body may have; the ledger answers 413 past either. */
export const MAX_BATCH_ITEMS = 1_000
export const MAX_BATCH_BYTES = 8 * 1024 * 1024

const Name = Type.String({ minLength: 1, maxLength: 512 })
const SessionId = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' })
/** Position of an event in its session, from 1, without holes unless events were lost. */
const SpoolSeq = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })

export const IngestItem = Type.Object({
  session: SessionId,
  spool_seq: SpoolSeq,
  event: AuditEvent,
  stamp: Type.Optional(Stamp),
})
export type IngestItem = Type.Static<typeof IngestItem>

export const SessionOpen = Type.Object({
  version: Type.Literal(1),
  session: SessionId,
  started_at: TimestampUtc,
  software: Name,
})
export type SessionOpen = Type.Static<typeof SessionOpen>
/** `checkpoint`: the head of the tenant's chain as of now. */
export const Checkpoint = Type.Object({
  tenant: Name,
  /** Sequence number of the last link, 0 for an empty chain. */
  seq: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  /** Hash of that link; 64 zeros for an empty chain. */
  hash: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  timestamp_utc: TimestampUtc,
})
export type Checkpoint = Type.Static<typeof Checkpoint>
export const SessionOpened = Type.Object({
  version: Type.Literal(1),
  session: SessionId,
  tenant: Name,
  producer_id: Name,
  checkpoint: Checkpoint,
})
export type SessionOpened = Type.Static<typeof SessionOpened>

/**
 * `last_spool_seq`: the last number the producer knows it wrote. `clean: false`: the process died, its spool was recovered by
 * a successor, and events after `last_spool_seq` may be lost; the ledger records the gap.
 */
export const SessionClose = Type.Object({
  version: Type.Literal(1),
  last_spool_seq: Type.Integer({ minimum: 0 }),
  clean: Type.Boolean(),
})
export type SessionClose = Type.Static<typeof SessionClose>
/** `recorded_spool_seq`: the highest number of the session in the chain, 0 for none. */
export const SessionClosed = Type.Object({
  version: Type.Literal(1),
  session: SessionId,
  tenant: Name,
  recorded_spool_seq: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  checkpoint: Checkpoint,
})
export type SessionClosed = Type.Static<typeof SessionClosed>

/** One acknowledged item. Durable when this is sent. */
export const Ack = Type.Object({
  event_id: Type.String(),
  spool_seq: SpoolSeq,
  /** SHA-256 of the exact bytes of the line received. */
  received_digest: Digest,
  /** Lowercase hex of the commitment in the chain. */
  commitment: Type.String({ pattern: '^[0-9a-f]{64}$' }),
  seq: Type.Integer({ minimum: 1 }),
})
/** One refused item: it will never be accepted as it is. `code` is one of `core/error/codes.ts`. */
export const Refusal = Type.Object({
  line: Type.Integer({ minimum: 1 }),
  event_id: Type.Optional(Type.String()),
  code: Type.String(),
  detail: Type.String(),
})
export const IngestAck = Type.Object({
  version: Type.Literal(1),
  tenant: Name,
  acks: Type.Array(Ack),
  refused: Type.Array(Refusal),
  checkpoint: Checkpoint,
  key_id: Name,
  /** Ed25519 over PAE("SignetV1", "application/vnd.signet.ack.v1+json", JCS(this object without `signature`)); base64url. */
  signature: Type.String(),
})
export type IngestAck = Type.Static<typeof IngestAck>

/** One event by itself; the exact bytes of the body are its unit of idempotency, as those of a line are. */
export const LogItem = Type.Object({ event: AuditEvent, stamp: Type.Optional(Stamp) })
export type LogItem = Type.Static<typeof LogItem>
export const LogAck = Type.Object({
  version: Type.Literal(1),
  tenant: Name,
  ack: Type.Omit(Ack, ['spool_seq']),
  checkpoint: Checkpoint,
  key_id: Name,
  /** Ed25519 over PAE("SignetV1", "application/vnd.signet.log-ack.v1+json", JCS(this object without `signature`)); base64url. */
  signature: Type.String(),
})
export type LogAck = Type.Static<typeof LogAck>
export type Ack = Type.Static<typeof Ack>
export type Refusal = Type.Static<typeof Refusal>
