import { setTimeout as sleep } from 'node:timers/promises'
import { Producer } from '@platformatic/kafka'
import { Counter, Gauge } from 'prom-client'
import { beforeDeadline, isTooLarge, wireHeaders, type KafkaConnection } from '#runtime/kafka/connection.ts'
import { kafkaError } from '#runtime/kafka/refusal.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { readFeedPage } from '../feed/page.ts'
import { claimFeed, oldestAppended, readFeedCursors, readHeads, releaseFeed, saveFeedCursor } from '../store/feed.ts'
import { withTree } from '../store/tree.ts'
import { chunksOf, messagesOf, withoutData, type OutgoingMessage } from './message.ts'

export type OutboundDeps = {
  readonly connect: () => Promise<KafkaConnection>
  readonly topic: string
  /** Bytes of a message, and of what is sent of one chain at a time, at most. */
  readonly maxMessageBytes: number
  readonly origin: string
  readonly wall: Pool
  readonly work: Pool
  /** Names this process among those that may hand on. */
  readonly holder: string
  readonly clock: () => Date
  readonly log: Logger
  readonly registry: MetricsRegistry
}

/** Longer than a page may take to be sent: `SEND_DEADLINE_MS`. */
const CLAIM_MS = 30_000
const SEND_DEADLINE_MS = 20_000
const BUSY_MS = 1_000
const RESTS_MS = 200
const MAX_PAUSE_MS = 10_000
const PAGE_RECORDS = 1_000
/** Chains whose oldest waiting record is looked up for the lag in seconds. */
const MAX_AGED = 1_000

type Backlog = { readonly tenant: string; readonly seq: number; readonly head: number }

function createOutboundMetrics(registry: MetricsRegistry) {
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers: [registry] })
  return {
    lagEvents: gauge(
      'signet_feed_lag_events',
      'Records that are in a chain and not on the Kafka topic, as the process that hands on sees it; 0 in the others.',
    ),
    lagSeconds: gauge('signet_feed_lag_seconds', 'Age of the oldest of them; 0 where there is none.'),
    sent: new Counter({
      name: 'signet_feed_sent',
      help: 'Records that the Kafka topic acknowledged to this process.',
      registers: [registry],
    }),
    withoutData: new Counter({
      name: 'signet_feed_without_data',
      help: 'Records that were too large for the Kafka topic and went out as a reference.',
      registers: [registry],
    }),
    errors: new Counter({
      name: 'signet_feed_errors',
      help: 'Times that handing on to Kafka had to wait, by code.',
      labelNames: ['code'] as const,
      registers: [registry],
    }),
  }
}

/** Hands every chain on to the topic, in order and at least once, for as long as the process lives; one process at a time. */
export function keepFeeding(deps: OutboundDeps): { stop(): Promise<void> } {
  const { topic, holder, wall, work, log } = deps
  const metrics = createOutboundMetrics(deps.registry)
  const stopped = new AbortController()
  const { signal } = stopped
  let producer: Producer | null = null

  async function measure(): Promise<Backlog[]> {
    const cursors = await readFeedCursors(work, topic)
    return withTree(
      wall,
      async (client) => {
        const heads = await readHeads(client)
        for (const [tenant, seq] of cursors) {
          if (seq > (heads.get(tenant) ?? 0))
            log.fatal({ tenant, seq }, 'the chain is shorter than what was handed on to Kafka: the wall was set back')
        }
        const behind = [...heads]
          .map(([tenant, head]) => ({ tenant, head, seq: cursors.get(tenant) ?? 0 }))
          .filter(({ head, seq }) => head > seq)
        metrics.lagEvents.set(behind.reduce((sum, { head, seq }) => sum + head - seq, 0))
        const firsts = behind.slice(0, MAX_AGED).map(({ tenant, seq }) => ({ tenant, seq: seq + 1 }))
        const oldest = firsts.length === 0 ? null : await oldestAppended(client, firsts)
        const ageMs = oldest === null ? 0 : deps.clock().getTime() - oldest.getTime()
        metrics.lagSeconds.set(Math.max(0, ageMs / 1_000))
        return behind
      },
      { readOnly: true },
    )
  }

  /** One page of one chain; false where another process has the word. */
  async function handOn({ tenant, seq }: Backlog): Promise<boolean> {
    const page = await readFeedPage(wall, tenant, seq, PAGE_RECORDS)
    // Asked for anew before each page: who was away for long may have been replaced.
    if (!(await claimFeed(work, topic, holder, CLAIM_MS))) return false
    const deadline = AbortSignal.timeout(SEND_DEADLINE_MS)
    const messages = messagesOf(deps.origin, tenant, page, deps.maxMessageBytes)
    for (const chunk of chunksOf(messages, deps.maxMessageBytes)) await send(chunk, deadline)
    metrics.sent.inc(page.rows.length)
    metrics.withoutData.inc(messages.filter(({ headers }) => 'ce_dataref' in headers).length)
    return saveFeedCursor(work, { topic, holder, tenant, seq: page.next.seq })
  }

  async function send(messages: readonly OutgoingMessage[], deadline: AbortSignal): Promise<void> {
    producer ??= new Producer({ ...(await deps.connect()), idempotent: true, acks: -1 })
    try {
      await beforeDeadline(
        deadline,
        producer.send({ messages: messages.map((one) => ({ topic, ...one, headers: wireHeaders(one.headers) })) }),
      )
    } catch (error) {
      if (!isTooLarge(error)) throw error
      // The topic takes less than we were told: in halves, and at last without data.
      const [first] = messages
      if (messages.length === 1 && first !== undefined) {
        if ('ce_dataref' in first.headers) throw error
        metrics.withoutData.inc()
        await send([withoutData(first)], deadline)
        return
      }
      const half = Math.ceil(messages.length / 2)
      await send(messages.slice(0, half), deadline)
      await send(messages.slice(half), deadline)
    }
  }

  async function round(): Promise<number> {
    if (!(await claimFeed(work, topic, holder, CLAIM_MS))) {
      metrics.lagEvents.set(0)
      metrics.lagSeconds.set(0)
      return BUSY_MS
    }
    const behind = await measure()
    for (const backlog of behind) {
      if (signal.aborted) return 0
      if (!(await handOn(backlog))) return BUSY_MS
    }
    return behind.length === 0 ? RESTS_MS : 0
  }

  async function closeProducer(): Promise<void> {
    const former = producer
    producer = null
    await former?.close(true).catch(() => undefined)
  }

  async function run(): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      let pauseMs: number
      try {
        pauseMs = await round()
        failures = 0
      } catch (thrown) {
        const error = kafkaError(thrown, `writing to the topic ${topic}`)
        metrics.errors.inc({ code: error.code })
        log.warn({ error, topic }, 'handing on to Kafka has to wait')
        pauseMs = Math.min(MAX_PAUSE_MS, 250 * 2 ** failures++)
        // A client of a new, with a producer id of its own: what the former sent and nobody answered is sent again.
        await closeProducer()
      }
      if (pauseMs > 0) await sleep(pauseMs, undefined, { signal }).catch(() => undefined)
    }
    await closeProducer()
    await releaseFeed(work, topic, holder).catch(() => undefined)
  }

  const running = run()
  return {
    async stop() {
      stopped.abort()
      await running
    },
  }
}
