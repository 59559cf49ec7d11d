import type { SealedRecord } from '../audit/record.ts'

/** Attributes of a CloudEvent (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md), without its data. */
export type CloudEventAttributes = Readonly<Record<string, string>>

/** A record as the feed hands it out. `bytes`: the exact sealed bytes that the chain committed to, with this nonce. */
export type FeedRecord = {
  readonly seq: number
  readonly record: SealedRecord
  readonly nonce: Buffer
  readonly commitment: Buffer
  readonly hash: Buffer
  readonly keyId: string
}

const TYPE_PREFIX = 'dev.signet.'
// Strings of CloudEvents hold no control characters, no lone surrogates, no noncharacters.
const FORBIDDEN = /[\p{Cc}\p{Noncharacter_Code_Point}]/gu

/**
 * The attributes of a record's CloudEvent. `source` and `id` together are unique, whatever the tenant; `sequence` (of the Sequence
 * extension) is the place in the tenant's chain; `partitionkey` (Partitioning extension) what order is kept by. The data are the sealed
 * bytes: SHA-256(`nonce` ‖ data) = `commitment`.
 */
export function recordAttributes(origin: string, { seq, record, ...link }: FeedRecord): CloudEventAttributes {
  const { event } = record
  return {
    ...common(origin, event.tenant),
    id: event.event_id,
    type: `${TYPE_PREFIX}${clean(event.event_type)}`,
    subject: clean(event.resource),
    time: event.timestamp_utc,
    datacontenttype: 'application/json',
    sequence: sequenceOf(seq),
    partitionkey: partitionKey(event.tenant, event.trace_id),
    nonce: link.nonce.toString('hex'),
    commitment: link.commitment.toString('hex'),
    linkhash: link.hash.toString('hex'),
    keyid: clean(link.keyId),
  }
}

/** Something of the chain that cannot be handed out: `from` to `to` are absent (purged, or taken away), or `from` is faulty. */
export function noticeAttributes(
  origin: string,
  tenant: string,
  notice: { readonly kind: 'absent' | 'faulty'; readonly from: number; readonly to: number },
): CloudEventAttributes {
  return {
    ...common(origin, tenant),
    id: `${notice.kind}-${notice.from}-${notice.to}`,
    type: `${TYPE_PREFIX}feed.${notice.kind}`,
    datacontenttype: 'application/json',
    sequence: sequenceOf(notice.from),
    partitionkey: partitionKey(tenant, ''),
  }
}

/** What order is kept by: one tenant's trace. A trace id has no slash. */
export function partitionKey(tenant: string, traceId: string): string {
  return `${clean(tenant)}/${traceId}`
}

/** Texts that sort as their numbers do. */
function sequenceOf(seq: number): string {
  return String(seq).padStart(16, '0')
}

function common(origin: string, tenant: string): CloudEventAttributes {
  return {
    specversion: '1.0',
    source: `/signet/${encodeURIComponent(origin)}/${encodeURIComponent(tenant.toWellFormed())}`,
    tenant: clean(tenant),
  }
}

/** As a text that an attribute may hold. */
export function clean(text: string): string {
  return text.toWellFormed().replace(FORBIDDEN, '\ufffd')
}

/** Structured mode, JSON format, with the data as they were sealed. */
export function structuredEvent(attributes: CloudEventAttributes, data: unknown): Record<string, unknown> {
  return { ...attributes, data }
}
