import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, Producer, type Message, type MessagesStream } from '@platformatic/kafka'
import { Counter } from 'prom-client'
import { digestText, sha256 } from '#core/crypto/digest.ts'
import { isTooLarge, wireHeaders, type KafkaConnection } from '#runtime/kafka/connection.ts'
import { kafkaError } from '#runtime/kafka/refusal.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { BatchOutcome, LogEntry, Producer as Writer, RefusedEntry } from '../entry.ts'
import { readLogItem, type StampKeys } from '../intake.ts'
import type { Sequencer } from '../sequencer.ts'

export type IntakeDeps = {
  readonly connect: () => Promise<KafkaConnection>
  /** Whose each topic is: the broker's ACLs say who may write to it. */
  readonly topics: ReadonlyMap<string, string>
  readonly group: string
  readonly sequencer: Pick<Sequencer, 'append'>
  readonly keys: StampKeys
  /** Whether nothing of this writer may be recorded now. @throws SignetError where nobody can tell: then it waits */
  readonly isRevoked: (writer: Writer) => Promise<boolean>
  readonly log: Logger
  readonly registry: MetricsRegistry
}

/** Where what cannot be recorded goes, beside the topic it came by: under the same tenant's ACLs. */
export const DEAD_LETTER_SUFFIX = '.dead-letter'
const MAX_BATCH_MESSAGES = 500
const MAX_BATCH_BYTES = 4 * 1024 * 1024
const MAX_FETCH_BYTES = 8 * 1024 * 1024
const MAX_FETCHED_MESSAGES = 1_000
const SESSION_MS = 15_000
const HEARTBEAT_MS = 2_000
const MAX_PAUSE_MS = 10_000

type Received = Message
type Poison = { readonly message: Received; readonly code: string; readonly detail: string }

/** Whom messages of a topic are recorded as: the broker says who may write there, not who wrote. */
export function writerOf(topic: string, tenant: string): Writer {
  return { tenant, producerId: `kafka/${topic}` }
}

/** Records what producers send to the topics, for as long as the process lives; the group shares the partitions among processes. */
export function keepTakingIn(deps: IntakeDeps): { stop(): Promise<void> } {
  const { topics, log, registry } = deps
  const doing = `reading ${[...topics.keys()].join(', ')} as the group ${deps.group}`
  const taken = new Counter({
    name: 'signet_kafka_intake_messages',
    help: 'Messages of ingest topics that were recorded, or were recorded before.',
    registers: [registry],
  })
  const poisoned = new Counter({
    name: 'signet_kafka_intake_dead_letters',
    help: 'Messages of ingest topics that were refused and went to the dead-letter topic, by code.',
    labelNames: ['code'] as const,
    registers: [registry],
  })
  const errors = new Counter({
    name: 'signet_kafka_intake_errors',
    help: 'Times that intake from Kafka had to wait, by code.',
    labelNames: ['code'] as const,
    registers: [registry],
  })
  const stopped = new AbortController()
  const { signal } = stopped

  async function consume(): Promise<void> {
    const connection = await deps.connect()
    const consumer = new Consumer({
      ...connection,
      groupId: deps.group,
      groupProtocol: 'classic',
      autocommit: false,
      sessionTimeout: SESSION_MS,
      heartbeatInterval: HEARTBEAT_MS,
      rebalanceTimeout: SESSION_MS * 2,
      maxBytes: MAX_FETCH_BYTES,
      maxWaitTime: 500,
      highWaterMark: MAX_FETCHED_MESSAGES,
    })
    const producer = new Producer({ ...connection, acks: -1 })
    try {
      const stream = await consumer.consume({ topics: [...topics.keys()], mode: 'committed', fallbackMode: 'earliest' })
      // Read, or `once` of the next line, rejects with it.
      stream.on('error', () => undefined)
      // One that stays: the client ends its fetching, for good and in silence, when it finds a stream that nobody listens to, as it is between two `once`.
      stream.on('readable', () => undefined)
      while (!signal.aborted) {
        const batch = takeBatch(stream)
        if (batch.length === 0) {
          if (stream.destroyed) throw stream.errored ?? new Error('the stream of messages ended')
          await once(stream, 'readable', { signal })
          continue
        }
        for (const group of Map.groupBy(batch, ({ topic }) => topic).values()) await settle(group, producer)
        // Only now: what is not committed comes again, and is recognised.
        await consumer.commit({ offsets: endsOf(batch) })
      }
    } finally {
      await producer.close(true).catch(() => undefined)
      await consumer.close(true).catch(() => undefined)
    }
  }

  /** Messages of one topic: when it ends, each is durable in the chain or in the dead-letter topic. */
  async function settle(messages: readonly Received[], producer: Producer): Promise<void> {
    const topic = messages[0]?.topic ?? ''
    const tenant = topics.get(topic)
    if (tenant === undefined) return
    const writer = writerOf(topic, tenant)
    const revoked = await deps.isRevoked(writer)
    const entries = messages.map((message, index) =>
      numbered(revoked ? revokedEntry(message, writer) : entryOf(message, writer, deps.keys), index + 1),
    )
    const outcome = await deps.sequencer.append({ producer: writer, entries })
    const poison = poisonOf(messages, entries, outcome)
    for (const one of poison) {
      await bury(producer, one)
      poisoned.inc({ code: one.code })
    }
    taken.inc(messages.length - poison.length)
    if (poison.length > 0)
      log.warn({ topic, count: poison.length, code: poison[0]?.code }, 'messages of an ingest topic were refused')
  }

  async function run(): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      const startedAt = performance.now()
      try {
        await consume()
      } catch (thrown) {
        if (signal.aborted) break
        if (performance.now() - startedAt > 60_000) failures = 0
        const error = kafkaError(thrown, doing)
        errors.inc({ code: error.code })
        log.warn({ error }, 'intake from Kafka has to wait')
        await sleep(Math.min(MAX_PAUSE_MS, 250 * 2 ** failures++), undefined, { signal }).catch(() => undefined)
      }
    }
  }

  const running = run()
  return {
    async stop() {
      stopped.abort()
      await running
    },
  }
}

function takeBatch(stream: MessagesStream<Buffer, Buffer, Buffer, Buffer>): Received[] {
  const batch: Received[] = []
  for (let bytes = 0; batch.length < MAX_BATCH_MESSAGES && bytes < MAX_BATCH_BYTES;) {
    const message = stream.read() as Received | null
    if (message === null) break
    bytes += valueOf(message).length
    batch.push(message)
  }
  return batch
}

/** A tombstone has no value. */
function valueOf(message: Received): Buffer {
  const value: Buffer | null | undefined = message.value
  return value ?? Buffer.alloc(0)
}

/** The same reading as of `POST /api/audit/logs`. */
function entryOf(message: Received, writer: Writer, keys: StampKeys): LogEntry | RefusedEntry {
  return readLogItem(valueOf(message), writer, keys)
}

/** It stays in the dead-letter topic, to be sent again when the writer is let in again. */
function revokedEntry(message: Received, { producerId }: Writer): RefusedEntry {
  return {
    kind: 'refused',
    line: 0,
    receivedDigest: sha256(valueOf(message)),
    eventId: undefined,
    position: undefined,
    code: 'CREDENTIAL_REVOKED',
    detail: `${producerId} was revoked`,
  }
}

function numbered(entry: LogEntry | RefusedEntry, line: number): LogEntry | RefusedEntry {
  return entry.kind === 'refused' ? { ...entry, line, position: undefined } : entry
}

/** What of the messages is not in the chain, and why. Pure. */
export function poisonOf<M>(
  messages: readonly M[],
  entries: readonly (LogEntry | RefusedEntry)[],
  outcome: Pick<BatchOutcome, 'logged' | 'refused'>,
): { message: M; code: string; detail: string }[] {
  const recorded = new Set(outcome.logged.map(({ received_digest }) => received_digest))
  return messages.flatMap((message, index) => {
    const entry = entries[index]
    if (entry === undefined) return []
    if (entry.kind === 'refused') return [{ message, code: entry.code, detail: entry.detail }]
    if (recorded.has(`sha256:${entry.receivedDigest.toString('hex')}`)) return []
    const refusal = outcome.refused.find(({ event_id }) => event_id === entry.event.event_id)
    return [{ message, code: refusal?.code ?? 'INTERNAL', detail: refusal?.detail ?? 'the event was not recorded' }]
  })
}

/** The message as it came, and why. Past what the topic takes, its digest has to do. */
async function bury(producer: Producer, { message, code, detail }: Poison): Promise<void> {
  const value = valueOf(message)
  const headers = wireHeaders({
    'signet-error-code': Buffer.from(code),
    'signet-error-detail': Buffer.from(detail),
    'signet-topic': Buffer.from(message.topic),
    'signet-partition': Buffer.from(String(message.partition)),
    'signet-offset': Buffer.from(String(message.offset)),
    'signet-digest': Buffer.from(digestText(value)),
  })
  const letter = { topic: `${message.topic}${DEAD_LETTER_SUFFIX}`, key: message.key, headers }
  try {
    await producer.send({ messages: [{ ...letter, value }] })
  } catch (error) {
    if (!isTooLarge(error)) throw error
    await producer.send({ messages: [{ ...letter, value: Buffer.alloc(0) }] })
  }
}

function endsOf(batch: readonly Received[]) {
  const ends = new Map<string, { topic: string; partition: number; offset: bigint; leaderEpoch: number }>()
  for (const { topic, partition, offset, leaderEpoch } of batch)
    ends.set(`${topic}/${partition}`, { topic, partition, offset: offset + 1n, leaderEpoch })
  return [...ends.values()]
}
