import { clean } from '#core/feed/cloud-event.ts'
import type { WaitingEvent } from '../store/domain-events.ts'

/** A CloudEvent in the binary mode of the Kafka protocol binding: attributes in headers, the data in the value. */
export type DomainMessage = {
  readonly seq: string
  readonly key: Buffer
  readonly value: Buffer
  readonly headers: Readonly<Record<string, Buffer>>
  readonly isReduced: boolean
}

export const TYPE_PREFIX = 'dev.signet.governance.'
const ENVELOPE_BYTES = 128

export function messageOf(tenant: string, event: WaitingEvent): DomainMessage {
  const key = `${clean(tenant)}/${clean(event.subject)}`
  const attributes = {
    specversion: '1.0',
    id: event.id,
    source: `/signet/governance/${encodeURIComponent(tenant.toWellFormed())}`,
    type: `${TYPE_PREFIX}${event.type}`,
    subject: clean(event.subject),
    time: event.happened_at,
    // Texts that sort as their numbers do.
    sequence: event.seq.padStart(16, '0'),
    partitionkey: key,
    tenant: clean(tenant),
  }
  const headers: Record<string, Buffer> = { 'content-type': Buffer.from('application/json') }
  for (const [name, text] of Object.entries(attributes)) headers[`ce_${name}`] = Buffer.from(text)
  return { seq: event.seq, key: Buffer.from(key), value: Buffer.from(event.data), headers, isReduced: false }
}

/** The same without `before` and `after`, for a topic that takes no more: `action_id` says where they are. */
export function reduced(message: DomainMessage): DomainMessage {
  const data = JSON.parse(message.value.toString('utf8')) as Record<string, unknown>
  const value = Buffer.from(JSON.stringify({ ...data, before: null, after: null, reduced: true }))
  return { ...message, value, isReduced: true }
}

export function sizeOf({ key, value, headers }: DomainMessage): number {
  let bytes = ENVELOPE_BYTES + key.length + value.length
  for (const [name, content] of Object.entries(headers)) bytes += name.length + content.length + 4
  return bytes
}

/** The first of them that are of at most so many bytes together; one at least. */
export function firstOf(messages: readonly DomainMessage[], maxBytes: number): DomainMessage[] {
  let room = maxBytes
  const rest = messages.findIndex((message, index) => {
    room -= sizeOf(message)
    return room < 0 && index > 0
  })
  return rest === -1 ? [...messages] : messages.slice(0, rest)
}
