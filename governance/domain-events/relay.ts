import { Producer } from '@platformatic/kafka'
import { beforeDeadline, isTooLarge, wireHeaders, type KafkaConnection } from '#runtime/kafka/connection.ts'
import { kafkaError } from '#runtime/kafka/refusal.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { keepDoing, type Background } from '../background.ts'
import type { GovernanceMetrics } from '../metrics.ts'
import {
  claimDomainEvents,
  deleteDomainEvents,
  expireDomainEvents,
  insertDomainEvents,
  releaseDomainEvents,
  waitingDomainEvents,
} from '../store/domain-events.ts'
import { firstOf, messageOf, reduced, sizeOf, type DomainMessage } from './message.ts'

export type RelayDeps = {
  readonly pool: Pool
  readonly connect: () => Promise<KafkaConnection>
  readonly topic: string
  /** How long events wait. */
  readonly keepMs: number
  readonly newId: () => string
  readonly clock: () => Date
  readonly log: Logger
  readonly metrics: GovernanceMetrics
}

const LOOK_MS = 500
/** Longer than what is sent at a time may take. */
const CLAIM_MS = 30_000
const SEND_DEADLINE_MS = 20_000
const MAX_PAUSE_MS = 10_000
const MAX_BYTES = 900_000
const PAGE = 200
/** Of a tenant, before others have their turn. */
const PAGES_A_TURN = 10
const EXPIRE_EVERY_MS = 60_000
const EXPIRE_AT_A_TIME = 10_000
/** Of a tenant. */
const MAX_WAITING = 1_000_000

/** Hands every tenant's events on to the topic, in order and at least once; of a tenant one process at a time (docs/adr/0095). */
export function keepRelaying(deps: RelayDeps): Background {
  const { pool, topic, clock, log, metrics } = deps
  const holder = deps.newId()
  let producer: Producer | null = null
  let failures = 0
  let resumeMs = 0
  let expiredMs = 0

  async function look(signal: AbortSignal): Promise<void> {
    const waiting = await waitingDomainEvents(pool)
    const nowMs = clock().getTime()
    metrics.domainEventsWaiting.set(waiting.reduce((sum, { events }) => sum + events, 0))
    const oldestMs = waiting[0]?.oldest.getTime() ?? nowMs
    metrics.domainEventsLag.set(Math.max(0, (nowMs - oldestMs) / 1_000))
    if (nowMs - expiredMs >= EXPIRE_EVERY_MS) {
      for (const { tenant } of waiting) await expire(tenant)
      expiredMs = nowMs
    }
    if (nowMs < resumeMs) return
    try {
      for (const { tenant } of waiting) {
        if (signal.aborted) return
        await relay(tenant, signal)
      }
      failures = 0
    } catch (thrown) {
      const error = kafkaError(thrown, `writing to the topic ${topic}`, 'SIGNET_GOVERNANCE_KAFKA')
      metrics.domainEventErrors.inc({ code: error.code })
      log.warn({ error, topic }, 'domain events have to wait')
      resumeMs = clock().getTime() + Math.min(MAX_PAUSE_MS, 250 * 2 ** failures++)
      // A client of a new, with a producer id of its own: what the former sent and nobody answered is sent again.
      await closeProducer()
    }
  }

  async function relay(tenant: string, signal: AbortSignal): Promise<void> {
    try {
      for (let page = 0; page < PAGES_A_TURN && !signal.aborted; page++) {
        // Asked for anew before each page: who was away for long may have been replaced.
        const events = await claimDomainEvents(pool, tenant, { holder, forMs: CLAIM_MS, limit: PAGE })
        if (events === null || events.length === 0) return
        const messages = events
          .map((event) => messageOf(tenant, event))
          .map((message) => (sizeOf(message) > MAX_BYTES ? reduced(message) : message))
        const first = firstOf(messages, MAX_BYTES)
        await send(first, AbortSignal.timeout(SEND_DEADLINE_MS))
        // The broker has them: whoever has the word by now need not send them again.
        await deleteDomainEvents(
          pool,
          tenant,
          first.map(({ seq }) => seq),
        )
        metrics.domainEvents.inc({ outcome: 'sent' }, first.length)
        if (first.length === events.length && events.length < PAGE) return
      }
    } finally {
      // What cannot be released ends by itself.
      await releaseDomainEvents(pool, tenant, holder).catch(() => undefined)
    }
  }

  async function send(messages: readonly DomainMessage[], deadline: AbortSignal): Promise<void> {
    producer ??= new Producer({ ...(await deps.connect()), idempotent: true, acks: -1 })
    const sent = messages.map(({ key, value, headers }) => ({ topic, key, value, headers: wireHeaders(headers) }))
    try {
      await beforeDeadline(deadline, producer.send({ messages: sent }))
      metrics.domainEvents.inc({ outcome: 'reduced' }, messages.filter(({ isReduced }) => isReduced).length)
    } catch (error) {
      const [first] = messages
      if (!isTooLarge(error) || first === undefined || (messages.length === 1 && first.isReduced)) throw error
      // The topic takes less: in halves, and at last without what it was about.
      if (messages.length === 1) return send([reduced(first)], deadline)
      const half = Math.ceil(messages.length / 2)
      await send(messages.slice(0, half), deadline)
      await send(messages.slice(half), deadline)
    }
  }

  /** What waited for too long goes, and an event in its place says so. */
  async function expire(tenant: string): Promise<void> {
    const now = clock()
    const before = new Date(now.getTime() - deps.keepMs)
    const bounds = { before, keep: MAX_WAITING, limit: EXPIRE_AT_A_TIME }
    for (;;) {
      const lost = await withTenant(pool, tenant, async (client) => {
        const gone = await expireDomainEvents(client, tenant, bounds)
        if (gone === null) return null
        const { count, first, last } = gone
        const data = JSON.stringify({ tenant, count, first_sequence: Number(first), last_sequence: Number(last) })
        const told = { id: `lost-${first}-${last}`, type: 'events.lost', subject: 'events', data }
        await insertDomainEvents(client, tenant, [{ ...told, happenedAt: now.toISOString() }])
        return gone
      })
      if (lost === null) return
      metrics.domainEvents.inc({ outcome: 'lost' }, lost.count)
      log.error({ tenant, lost: lost.count }, 'domain events waited for too long for Kafka and are lost')
      if (lost.rows < EXPIRE_AT_A_TIME) return
    }
  }

  async function closeProducer(): Promise<void> {
    const former = producer
    producer = null
    await former?.close(true).catch(() => undefined)
  }

  const onError = (error: unknown): void => log.warn({ error }, 'domain events cannot be looked at; it is tried again')
  const looking = keepDoing(look, { everyMs: LOOK_MS, onError })
  return {
    async stop() {
      await looking.stop()
      await closeProducer()
    },
  }
}
