import { noticeAttributes, partitionKey, recordAttributes, type CloudEventAttributes } from '#core/feed/cloud-event.ts'
import { intactRecord, type FeedPage } from '../feed/page.ts'
import { encodeCursor } from '../query.ts'
import type { FoundRow } from '../store/search.ts'

/** A CloudEvent in the binary mode of the Kafka protocol binding: attributes in headers, data as they are in the value. */
export type OutgoingMessage = {
  readonly key: Buffer
  readonly value: Buffer
  readonly headers: Readonly<Record<string, Buffer>>
}

const ENVELOPE_BYTES = 128

/** Everything of a page in the order of the chain; `maxBytes` of a message, past which its data stay here and it says where. */
export function messagesOf(origin: string, tenant: string, page: FeedPage, maxBytes: number): OutgoingMessage[] {
  const numbered: (readonly [number, OutgoingMessage])[] = [
    ...page.absent.map(
      ({ from, to }) =>
        [
          from,
          message(noticeAttributes(origin, tenant, { kind: 'absent', from, to }), json({ from_seq: from, to_seq: to })),
        ] as const,
    ),
    ...page.rows.map((row) => [row.seq, recordMessage(origin, tenant, row, maxBytes)] as const),
  ]
  return numbered.toSorted(([a], [b]) => a - b).map(([, one]) => one)
}

function recordMessage(origin: string, tenant: string, row: FoundRow, maxBytes: number): OutgoingMessage {
  const record = intactRecord(row)
  const { seq, nonce, commitment, hash, key_id: keyId, bytes } = row
  if (record === null || commitment === null || hash === null || keyId === null)
    return message(noticeAttributes(origin, tenant, { kind: 'faulty', from: seq, to: seq }), json({ seq }))
  const whole = message(recordAttributes(origin, { seq, record, nonce, commitment, hash, keyId }), bytes)
  return sizeOf(whole) <= maxBytes ? whole : withoutData(whole)
}

/** The same event with a reference in place of its data (`dataref` of the Claim Check extension). */
export function withoutData({ key, headers }: OutgoingMessage): OutgoingMessage {
  const seq = Number(headers['ce_sequence']?.toString() ?? 0)
  const from = seq <= 1 ? '' : `&cursor=${encodeCursor(seq - 1, 'asc')}`
  const dataref = Buffer.from(`/api/audit/logs?order=asc&limit=1${from}`)
  const { 'content-type': _, ...others } = headers
  return { key, value: Buffer.alloc(0), headers: { ...others, ce_dataref: dataref } }
}

export function sizeOf({ key, value, headers }: OutgoingMessage): number {
  let bytes = ENVELOPE_BYTES + key.length + value.length
  for (const [name, content] of Object.entries(headers)) bytes += name.length + content.length + 4
  return bytes
}

/** Runs of messages of at most so many bytes each (one that is longer goes by itself), in order. */
export function chunksOf(messages: readonly OutgoingMessage[], maxBytes: number): OutgoingMessage[][] {
  const chunks: OutgoingMessage[][] = []
  let room = 0
  for (const one of messages) {
    const size = sizeOf(one)
    if (size > room || chunks.length === 0) {
      chunks.push([])
      room = maxBytes
    }
    chunks.at(-1)?.push(one)
    room -= size
  }
  return chunks
}

function message(attributes: CloudEventAttributes, value: Buffer): OutgoingMessage {
  const { datacontenttype = 'application/json', ...others } = attributes
  const headers: Record<string, Buffer> = { 'content-type': Buffer.from(datacontenttype) }
  for (const [name, text] of Object.entries(others)) headers[`ce_${name}`] = Buffer.from(text)
  return {
    key: Buffer.from(attributes['partitionkey'] ?? partitionKey(attributes['tenant'] ?? '', '')),
    value,
    headers,
  }
}

function json(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value))
}
