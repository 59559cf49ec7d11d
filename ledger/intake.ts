import { setImmediate as nextTurn } from 'node:timers/promises'
import { Compile } from 'typebox/compile'
import { IngestItem, MAX_BATCH_ITEMS } from '#core/audit/wire.ts'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText, sha256 } from '#core/crypto/digest.ts'
import type { ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import type { CarriedStamp, EventEntry, Producer, RefusedEntry } from './entry.ts'

const itemValidator = Compile(IngestItem)
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** What the ledger says of itself; a reader must not take anybody else's word for it, however it is spelt. */
const RESERVED_TYPE = /^\s*audit\.(?!correction$)/i
const LINE_FEED = 0x0a
/** An item may be this long, so that pages and batches of records stay bounded in memory. */
export const MAX_ITEM_BYTES = 1024 * 1024
/** Lines between two turns of the event loop. */
const LINES_A_TURN = 100

/**
 * Reads a batch body: a line an item, in order; empty lines are nothing. Every other line becomes an entry, recordable or refused.
 * @throws SignetError PAYLOAD_TOO_LARGE past `MAX_BATCH_ITEMS` lines, REQUEST_INVALID for a body without a line
 */
export async function readBatch(body: Buffer, producer: Producer): Promise<(EventEntry | RefusedEntry)[]> {
  const lines = splitLines(body)
  const entries: (EventEntry | RefusedEntry)[] = []
  for (const [index, bytes] of lines.entries()) {
    entries.push(readLine(bytes, index + 1, producer))
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
export function readLine(bytes: Buffer, line: number, producer: Producer): EventEntry | RefusedEntry {
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
    value = parseStrict(bytes)
    if (!itemValidator.Check(value)) return refuse('AUDIT_EVENT_INVALID', firstFault(value))
    const { event } = value
    if (!isRealTimestamp(event.timestamp_utc)) {
      return refuse('AUDIT_EVENT_INVALID', '/event/timestamp_utc is no moment of the calendar (years 0001 to 9999)')
    }
    if (RESERVED_TYPE.test(event.event_type)) {
      return refuse('EVENT_TYPE_RESERVED', '/event/event_type is one that only the ledger writes')
    }
    // Whether the event has a canonical form at all (a lone surrogate has none) shows now, not inside the transaction.
    canonicalize(event)
    const stamp = value.stamp === undefined ? undefined : carriedStamp(value, producer)
    const ours = {
      ...event,
      tenant: producer.tenant,
      ...(event.source === undefined ? {} : { source: producer.producerId }),
    }
    return {
      kind: 'event',
      line,
      receivedDigest,
      session: value.session,
      spoolSeq: value.spool_seq,
      event: ours,
      stamp,
    }
  } catch (error) {
    if (error instanceof SignetError) return refuse(error.code, error.message)
    return refuse('AUDIT_EVENT_INVALID', 'the item cannot be read')
  }
}

/** @throws SignetError EVENT_STAMP_MISMATCH naming the member that differs */
function carriedStamp(item: IngestItem, producer: Producer): CarriedStamp {
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
  return { hash, bytes }
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
function firstFault(value: unknown): string {
  const fault = itemValidator.Errors(value)[0]
  return fault === undefined ? 'the item does not match its schema' : `${fault.instancePath || '/'} ${fault.message}`
}
