import { openCommitted, projectRecord, type RecordProjection, type SealedRecord } from '../audit/record.ts'
import { digestText } from '../crypto/digest.ts'
import { parseStrict } from '../json/strict.ts'
import { chainBroken } from './fault.ts'
import { NO_PREDECESSOR, type Link, type RecordBytes } from './link.ts'

/** A link as a wall has it. `month`: first day, `2026-11-01`; `appendedAtUs`: microseconds since 1970. */
export type StoredLink = Link & {
  readonly retentionClass: string
  readonly month: string
  readonly appendedAtUs: number
}

/** Columns of a record that are texts in the forms of `RecordProjection`; the two times are microseconds since 1970. */
type TextColumns = Omit<RecordProjection, 'timestamp' | 'received_at'>

/** A record as a wall has it, with every column that is derived from its bytes. */
export type StoredRecord = RecordBytes &
  TextColumns & {
    readonly seq: number
    readonly retentionClass: string
    readonly timestampUs: number
    readonly receivedAtUs: number
  }

/** A stamp as a wall has it. `seq`: the first event that carried it. */
export type StoredStamp = {
  readonly seq: number
  readonly traceId: string
  readonly requestId: string
  readonly retentionClass: string
  readonly bytes: Buffer
}

/**
 * What a link's hash does not cover: that there is one record, that the columns beside its bytes say what the bytes say, and that the
 * stamp is there. For a link and bytes that verified. `opened`: the record, where the caller has opened it already.
 * @throws SignetError CHAIN_BROKEN
 */
export function checkStored(
  link: StoredLink,
  records: readonly StoredRecord[],
  stampOf: (hash: string) => StoredStamp | undefined,
  opened?: SealedRecord,
): void {
  const stored = onlyRecord(link, records)
  const record = opened ?? openCommitted(stored.bytes)
  const derived = projectRecord(record)
  const differs =
    differingText(derived, stored) ??
    (microseconds(derived.timestamp) === stored.timestampUs ? undefined : 'timestamp') ??
    (microseconds(derived.received_at) === stored.receivedAtUs ? undefined : 'received_at')
  if (differs !== undefined)
    throw chainBroken(link.seq, 'edit', `the column ${differs} of the record is not what its bytes say`)
  if (
    link.month !== derived.month ||
    link.retentionClass !== stored.retentionClass ||
    link.appendedAtUs !== stored.receivedAtUs
  ) {
    throw chainBroken(link.seq, 'edit', 'month, retention_class or appended_at of the link is not that of its record')
  }
  if (link.event_id !== derived.event_id)
    throw chainBroken(link.seq, 'edit', 'the event_id of the link is not that of its record')
  if (record.stamp_hash !== null) {
    const { trace_id: traceId, request_id: requestId } = record.event
    const { seq, retentionClass } = link
    checkStamp({ seq, retentionClass, traceId, requestId }, record.stamp_hash, stampOf(record.stamp_hash))
  }
}

/** Written out: names in a loop cost three times as much, for every record. */
function differingText(derived: TextColumns, stored: TextColumns): keyof TextColumns | undefined {
  if (derived.month !== stored.month) return 'month'
  if (derived.event_id !== stored.event_id) return 'event_id'
  if (derived.event_type !== stored.event_type) return 'event_type'
  if (derived.actor !== stored.actor) return 'actor'
  if (derived.action !== stored.action) return 'action'
  if (derived.resource !== stored.resource) return 'resource'
  if (derived.resource_type !== stored.resource_type) return 'resource_type'
  if (derived.resource_id !== stored.resource_id) return 'resource_id'
  if (derived.stage !== stored.stage) return 'stage'
  if (derived.outcome !== stored.outcome) return 'outcome'
  if (derived.trace_id !== stored.trace_id) return 'trace_id'
  if (derived.request_id !== stored.request_id) return 'request_id'
  if (derived.session !== stored.session) return 'session'
  if (derived.spool_seq !== stored.spool_seq) return 'spool_seq'
  if (derived.producer_id !== stored.producer_id) return 'producer_id'
  if (derived.region !== stored.region) return 'region'
  if (derived.data_domain !== stored.data_domain) return 'data_domain'
  if (derived.stamp_hash !== stored.stamp_hash) return 'stamp_hash'
  return undefined
}

/** @throws SignetError CHAIN_BROKEN where there is none, or a second one */
export function onlyRecord(link: Pick<Link, 'seq'>, records: readonly StoredRecord[]): StoredRecord {
  const [record, second] = records
  if (record === undefined)
    throw chainBroken(link.seq, 'delete', 'the record is missing, and nothing in the chain says that it was purged')
  if (second !== undefined) throw chainBroken(link.seq, 'insert', 'there are two records for one link')
  return record
}

/** @throws SignetError CHAIN_BROKEN unless a link goes on from `head`, the last one of its trace (null: it is the first) */
export function checkTraceHead(link: Pick<Link, 'seq' | 'previous_trace_hash'>, head: Buffer | null): void {
  if (link.previous_trace_hash.equals(head ?? NO_PREDECESSOR)) return
  throw chainBroken(link.seq, 'edit', 'the link does not go on from the last link of its trace')
}

/**
 * That the stamp which came with an event is there and is that of the event. `hash`: what the event's record says of it.
 * @throws SignetError CHAIN_BROKEN
 */
export function checkStamp(
  link: { readonly seq: number; readonly retentionClass: string; readonly traceId: string; readonly requestId: string },
  hash: string,
  stamp: StoredStamp | undefined,
): void {
  if (stamp === undefined) throw chainBroken(link.seq, 'delete', 'the stamp that came with the event is missing')
  if (digestText(stamp.bytes) !== hash)
    throw chainBroken(link.seq, 'edit', 'the stamp is not the one that came with the event')
  if (stamp.seq > link.seq)
    throw chainBroken(link.seq, 'edit', 'the stamp says that a later event was the first to carry it')
  const ofAnotherClass = stamp.seq === link.seq && stamp.retentionClass !== link.retentionClass
  if (stamp.traceId !== link.traceId || ofAnotherClass || !namesRequest(stamp, link.requestId))
    throw chainBroken(link.seq, 'edit', 'trace_id, request_id or retention_class of the stamp is not that of its event')
}

/** A text column shows U+0000 as U+2400; the bytes are what counts. */
function namesRequest(stamp: StoredStamp, requestId: string): boolean {
  if (stamp.requestId === requestId) return true
  const { data_lineage: lineage } = parseStrict(stamp.bytes) as { data_lineage?: { request_id?: string } }
  return stamp.requestId === lineage?.request_id?.replaceAll('\0', '\u2400')
}

function microseconds(timestamp: string): number {
  return Date.parse(timestamp) * 1_000
}
