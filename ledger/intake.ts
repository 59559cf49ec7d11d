import { setImmediate as nextTurn } from 'node:timers/promises'
import type Type from 'typebox'
import { Compile, type Validator } from 'typebox/compile'
import { IngestItem, LogItem, MAX_BATCH_ITEMS } from '#core/audit/wire.ts'
import type { AuditEvent } from '#core/audit/event.ts'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText, sha256 } from '#core/crypto/digest.ts'
import type { ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { parseDerivedKeyId } from '#core/keyring/derived.ts'
import { macMatches } from '#core/stamp/mac.ts'
import type { Stamp } from '#core/stamp/schema.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import type { CarriedStamp, EventEntry, LogEntry, Producer, RefusedEntry } from './entry.ts'
import type { LedgerKeys } from './keys.ts'

/** Finds the key of a stamp; what it does not find is not checked, unless its id is that of a derived key. */
export type StampKeys = Pick<LedgerKeys, 'stampKey'>

const itemValidator = Compile(IngestItem)
const logValidator = Compile(LogItem)
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** What the ledger says of itself; a reader must not take anybody else's word for it, however it is spelt. */
const RESERVED_TYPE = /^\s*(audit\.(?!correction$)|identity\.)/i
const LINE_FEED = 0x0a
/** An item may be this long, so that pages and batches of records stay bounded in memory. */
export const MAX_ITEM_BYTES = 1024 * 1024
/** Lines between two turns of the event loop. */
const LINES_A_TURN = 100

/**
 * Reads a batch body: a line an item, in order; empty lines are nothing. Every other line becomes an entry, recordable or refused.
 * @throws SignetError PAYLOAD_TOO_LARGE past `MAX_BATCH_ITEMS` lines, REQUEST_INVALID for a body without a line
 */
export async function readBatch(
  body: Buffer,
  producer: Producer,
  keys: StampKeys,
): Promise<(EventEntry | RefusedEntry)[]> {
  const lines = splitLines(body)
  const entries: (EventEntry | RefusedEntry)[] = []
  for (const [index, bytes] of lines.entries()) {
    entries.push(readLine(bytes, index + 1, producer, keys))
    if (index % LINES_A_TURN === LINES_A_TURN - 1) await nextTurn()
  }
  return entries
}

function splitLines(body: Buffer): Buffer[] {
  const lines: Buffer[] = []
  for (let start = 0; start < body.length;) {
    const feed = body.indexOf(LINE_FEED, start)
    const end = feed === -1 ? body.length : feed
    if (end > start) lines.push(body.subarray(start, end))
    if (lines.length > MAX_BATCH_ITEMS) {
      throw new SignetError('PAYLOAD_TOO_LARGE', `a batch has more than ${MAX_BATCH_ITEMS} lines; send it in parts`)
    }
    start = end + 1
  }
  if (lines.length === 0) throw new SignetError('REQUEST_INVALID', 'the batch is empty: send one item a line')
  return lines
}

/** One line, without its line feed. Never throws. */
export function readLine(bytes: Buffer, line: number, producer: Producer, keys: StampKeys): EventEntry | RefusedEntry {
  return readItem(bytes, line, itemValidator, (item, receivedDigest) => ({
    kind: 'event',
    line,
    receivedDigest,
    session: item.session,
    spoolSeq: item.spool_seq,
    ...recordable(item, producer, keys),
  }))
}

/** The body of a call that brings one event by itself: the event, or `{event, stamp?}`. Never throws. */
export function readLogItem(bytes: Buffer, producer: Producer, keys: StampKeys): LogEntry | RefusedEntry {
  return readItem(
    bytes,
    1,
    logValidator,
    (item, receivedDigest) => ({ kind: 'log', receivedDigest, ...recordable(item, producer, keys) }),
    asItem,
  )
}

/** An event has no member of that name, and may have none that is not its own. */
function asItem(value: unknown): unknown {
  return isObject(value) && !Object.hasOwn(value, 'event') ? { event: value } : value
}

function readItem<S extends Type.TSchema, E>(
  bytes: Buffer,
  line: number,
  validator: Validator<{}, S>,
  entryOf: (item: Type.Static<S>, receivedDigest: Buffer) => E,
  itemOf: (value: unknown) => unknown = (value) => value,
): E | RefusedEntry {
  const receivedDigest = sha256(bytes)
  let value: unknown
  const refuse = (code: ErrorCode, detail: string): RefusedEntry => ({
    kind: 'refused',
    line,
    receivedDigest,
    ...claims(value),
    code,
    detail: detail.slice(0, 300),
  })
  if (bytes.length > MAX_ITEM_BYTES) return refuse('PAYLOAD_TOO_LARGE', `an item may have ${MAX_ITEM_BYTES} bytes`)
  try {
    value = itemOf(parseStrict(bytes))
    if (!validator.Check(value)) return refuse('AUDIT_EVENT_INVALID', firstFault(validator, value))
    return entryOf(value, receivedDigest)
  } catch (error) {
    if (error instanceof SignetError) return refuse(error.code, error.message)
    return refuse('AUDIT_EVENT_INVALID', 'the item cannot be read')
  }
}

/** @throws SignetError AUDIT_EVENT_INVALID, EVENT_TYPE_RESERVED, CANONICAL_VALUE_INVALID, EVENT_STAMP_MISMATCH */
function recordable(
  item: LogItem,
  producer: Producer,
  keys: StampKeys,
): { event: AuditEvent; stamp: CarriedStamp | undefined } {
  const { event } = item
  if (!isRealTimestamp(event.timestamp_utc)) {
    throw new SignetError(
      'AUDIT_EVENT_INVALID',
      '/event/timestamp_utc is no moment of the calendar (years 0001 to 9999)',
    )
  }
  if (RESERVED_TYPE.test(event.event_type))
    throw new SignetError('EVENT_TYPE_RESERVED', '/event/event_type is one that only the ledger writes')
  // Whether the event has a canonical form at all (a lone surrogate has none) shows now, not inside the transaction.
  canonicalize(event)
  const stamp = item.stamp === undefined ? undefined : carriedStamp(item, producer, keys)
  const ours = {
    ...event,
    tenant: producer.tenant,
    ...(event.source === undefined ? {} : { source: producer.producerId }),
  }
  return { event: ours, stamp }
}

/** @throws SignetError EVENT_STAMP_MISMATCH naming the member that differs */
function carriedStamp(item: LogItem, producer: Producer, keys: StampKeys): CarriedStamp {
  const { stamp, event } = item
  if (stamp === undefined) throw new SignetError('EVENT_STAMP_MISMATCH', 'there is no stamp')
  const bytes = Buffer.from(canonicalize(stamp), 'utf8')
  const hash = digestText(bytes)
  const differs = (
    [
      ['stamp_hash', hash, event.stamp_hash],
      ['subject.tenant', stamp.subject.tenant, producer.tenant],
      ['data_lineage.producer_id', stamp.data_lineage.producer_id, producer.producerId],
      ['data_lineage.request_id', stamp.data_lineage.request_id, event.request_id],
      ['data_lineage.trace_id', stamp.data_lineage.trace_id, event.trace_id],
    ] as const
  ).find(([, ofStamp, expected]) => ofStamp !== expected)
  if (differs !== undefined) {
    const against =
      differs[0].startsWith('data_lineage.producer') || differs[0] === 'subject.tenant' ? 'the producer' : 'the event'
    throw new SignetError('EVENT_STAMP_MISMATCH', `the stamp's ${differs[0]} is not that of ${against}`)
  }
  checkDerived(stamp, keys)
  return { hash, bytes, frameworks: stamp.regulatory_compliance }
}

/**
 * The keys that the ledger itself hands out it can check. A root that this replica does not know (yet) is no reason to lose an event,
 * and whether the key was valid then is for who reads the stamp: it may have been revoked while the event was under way.
 */
function checkDerived(stamp: Stamp, keys: StampKeys): void {
  const { key_id: keyId } = stamp.integrity
  const key = parseDerivedKeyId(keyId) === null ? undefined : keys.stampKey(keyId)
  if (key === undefined) return
  const { tenant } = stamp.subject
  const { producer_id: producerId } = stamp.data_lineage
  if (key.tenant === tenant && key.producerId === producerId && macMatches(stamp, key.secret)) return
  throw new SignetError(
    'EVENT_STAMP_MISMATCH',
    "the stamp was changed, or not made with the producer's key that it names",
  )
}

/** What a line that is refused still says of itself, where that much is well formed. */
function claims(value: unknown): Pick<RefusedEntry, 'eventId' | 'position'> {
  if (!isObject(value)) return { eventId: undefined, position: undefined }
  const { session, spool_seq: spoolSeq, event } = value
  const eventId =
    isObject(event) && typeof event['event_id'] === 'string' && UUID.test(event['event_id'])
      ? event['event_id']
      : undefined
  const hasPosition =
    typeof session === 'string' &&
    UUID.test(session) &&
    typeof spoolSeq === 'number' &&
    Number.isSafeInteger(spoolSeq) &&
    spoolSeq >= 1
  return { eventId, position: hasPosition ? { session, spoolSeq } : undefined }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Where the item breaks its schema: a path and a rule of ours, no values. */
function firstFault<S extends Type.TSchema>(validator: Validator<{}, S>, value: unknown): string {
  const fault = validator.Errors(value)[0]
  return fault === undefined ? 'the item does not match its schema' : `${fault.instancePath || '/'} ${fault.message}`
}
