import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { SignetError } from '../error/signet-error.ts'
import { DEFAULT_MAX_DEPTH } from '../json/scan.ts'
import { parseStrict } from '../json/strict.ts'
import { Digest, TimestampUtc } from '../stamp/schema.ts'
import { AuditEvent } from './event.ts'

/** What the ledger itself adds to an event; never taken from the producer. */
const Name = Type.String({ minLength: 1, maxLength: 512 })
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' })

/**
 * What is sealed: the ledger commits to the RFC 8785 bytes of this object, version 1 (`docs/reference/audit.md`). `event.tenant` and
 * `event.source` are the authenticated ones. `session` and `spool_seq`: where the producer's spool had it; null for the ledger's own
 * events (0 in `spool_seq`: the opening of the session). `stamp_hash`: the whole stamp came with it and is kept, or null.
 */
export const SealedRecord = Type.Object(
  {
    v: Type.Literal(1),
    event: AuditEvent,
    producer_id: Name,
    received_at: TimestampUtc,
    session: Type.Union([Uuid, Type.Null()]),
    spool_seq: Type.Union([Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }), Type.Null()]),
    stamp_hash: Type.Union([Digest, Type.Null()]),
  },
  { additionalProperties: false },
)
export type SealedRecord = Type.Static<typeof SealedRecord>

const validator = Compile(SealedRecord)
/** Room for what stands around an event, and for what seals a part of it. */
const RECORD_MAX_DEPTH = DEFAULT_MAX_DEPTH + 8

/** @throws SignetError CANONICAL_VALUE_INVALID (a lone surrogate, a number with no JSON form) */
export function sealRecord(record: SealedRecord): Buffer {
  return Buffer.from(canonicalize(record), 'utf8')
}

/** @throws SignetError AUDIT_EVENT_INVALID when the bytes are not the canonical form of a sealed record */
export function openRecord(bytes: Uint8Array): SealedRecord {
  let value: unknown
  try {
    // The record is a level around its event, which may use all that an item may.
    value = parseStrict(bytes, { maxDepth: RECORD_MAX_DEPTH })
  } catch (cause) {
    throw new SignetError('AUDIT_EVENT_INVALID', 'a sealed record is not strict JSON', { cause })
  }
  if (!validator.Check(value))
    throw new SignetError('AUDIT_EVENT_INVALID', 'a sealed record does not have the members of version 1')
  if (!sealRecord(value).equals(bytes))
    throw new SignetError('AUDIT_EVENT_INVALID', 'a sealed record is not in canonical form')
  return value
}

/**
 * As `openRecord`, for bytes that a verified link commits to, at a third of the cost: whoever has the chain key made them, so that it
 * is enough to see that they read back as they are. What does not is left to `openRecord` to judge.
 * @throws SignetError AUDIT_EVENT_INVALID
 */
export function openCommitted(bytes: Buffer): SealedRecord {
  try {
    const text = bytes.toString('utf8')
    const value: unknown = JSON.parse(text)
    // A member twice, blanks, or another way to write a text or number would not come back.
    if (JSON.stringify(value) === text && validator.Check(value)) return value
  } catch {
    // It has its own words for what is wrong.
  }
  return openRecord(bytes)
}

/** Columns that the wall keeps beside the bytes, to search by. Times in RFC 3339; `month` is the first day of its UTC month. */
export type RecordProjection = {
  timestamp: string
  received_at: string
  month: string
  event_id: string
  event_type: string
  actor: string
  action: string
  resource: string
  resource_type: string | null
  resource_id: string | null
  stage: string
  outcome: string
  trace_id: string
  request_id: string
  session: string | null
  spool_seq: number | null
  producer_id: string
  region: string | null
  data_domain: string | null
  stamp_hash: string | null
}

/**
 * The projections of a record. A text column cannot hold U+0000, so that it becomes U+2400 (␀) here, and in a filter that is
 * compared with it (`columnText`); the bytes keep it.
 */
export function projectRecord(record: SealedRecord): RecordProjection {
  const { event } = record
  return {
    timestamp: event.timestamp_utc,
    received_at: record.received_at,
    month: `${record.received_at.slice(0, 7)}-01`,
    event_id: event.event_id,
    event_type: columnText(event.event_type),
    actor: columnText(event.actor),
    action: columnText(event.action),
    resource: columnText(event.resource),
    resource_type: optionalText(event.resource_type),
    resource_id: optionalText(event.resource_id),
    stage: event.stage,
    outcome: event.outcome,
    trace_id: event.trace_id,
    request_id: columnText(event.request_id),
    session: record.session,
    spool_seq: record.spool_seq,
    producer_id: columnText(record.producer_id),
    region: optionalText(event.region),
    data_domain: optionalText(event.data_domain),
    stamp_hash: event.stamp_hash,
  }
}

export function columnText(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\u2400') : text
}

function optionalText(text: string | undefined): string | null {
  return text === undefined ? null : columnText(text)
}
