import { randomInt, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, type Message } from '@platformatic/kafka'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startBroker, type TestBroker } from '#test/support/kafka.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { reconcile, startLoad } from './load.ts'
import { ROUND_MS, ROUNDS } from './rounds.ts'

/**
 * The broker killed (-9) at random moments under load, with a ledger or the wall now and then: recording never waits for it, and in the end the
 * topic has every acknowledged event at least once, each trace in order. A broker takes seconds to start, so that there are fewer rounds.
 */
const TOPIC = 'signet-audit'
const BROKER_ROUNDS = Math.max(3, Math.ceil(ROUNDS / 8))
const DRAIN_MS = 120_000

let broker: TestBroker
let stack: LedgerStack
let env: Record<string, string>
const ledgers: LedgerProcess[] = []

beforeAll(async () => {
  ;[broker, stack] = await Promise.all([startBroker(), startLedgerStack({ ledgers: 0 })])
  await broker.createTopics([TOPIC])
  env = { SIGNET_KAFKA_BOOTSTRAP_SERVERS: broker.bootstrap, SIGNET_KAFKA_TOPIC: TOPIC }
  ledgers.push(await stack.startLedger({ env }), await stack.startLedger({ env }))
})
afterAll(async () => {
  await stack?.stop()
  await broker?.stop()
})

/** What else goes down with the broker, in turn; the answer brings it back. */
const WITH_IT: readonly (() => Promise<() => Promise<unknown>>)[] = [
  async () => () => Promise.resolve(),
  async () => {
    const place = randomInt(ledgers.length)
    await ledgers[place]?.kill()
    return async () => {
      ledgers[place] = await stack.startLedger({ port: ledgers[place]?.port ?? 0, env })
    }
  },
  async () => {
    await stack.wall.server.kill('SIGKILL')
    return () => stack.wall.restart()
  },
]

test(
  `kill -9 of the broker, ${BROKER_ROUNDS} rounds: nothing waits for it, and nothing is left out or out of order`,
  async () => {
    const load = startLoad(stack, {
      urls: () => ledgers.map(({ url }) => url),
      names: ['proxy', 'globex-proxy'],
      batch: 10,
      pauseMs: 60,
    })
    for (let round = 0; round < BROKER_ROUNDS; round++) {
      await sleep(randomInt(300, 1_200))
      const [revive] = await Promise.all([WITH_IT[round % WITH_IT.length]?.(), broker.kill()])
      await revive?.()
      // Without a broker: recorded all the same.
      const before = load.total()
      await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(before + 50)
      await broker.restart()
    }
    await load.stop()
    const events = await reconcile(stack, load, { url: ledgers[0]?.url ?? '', readers: ['auditor', 'globex-proxy'] })
    const wanted = new Set([...load.acked.values()].flat().map(({ event_id }) => event_id))
    const messages = await drainUntil(wanted)
    console.log(`${events} events acknowledged, ${messages} messages on the topic`)
  },
  240_000 + BROKER_ROUNDS * ROUND_MS,
)

/** Reads the topic from its beginning until it had all of `wanted`; each key in the order of its chain, at the first time of each. */
async function drainUntil(wanted: Set<string>): Promise<number> {
  const consumer = new Consumer({
    clientId: 'reader',
    groupId: `reader-${randomUUID()}`,
    bootstrapBrokers: [broker.bootstrap],
    retries: 10,
    maxWaitTime: 200,
  })
  const stream = await consumer.consume({ topics: [TOPIC], mode: 'earliest', autocommit: false })
  const missing = (): Error => new Error(`${wanted.size} acknowledged events are not on the topic`)
  const deadline = setTimeout(() => stream.destroy(missing()), DRAIN_MS)
  const seen = new Set<string>()
  const last = new Map<string, string>()
  let messages = 0
  try {
    for await (const message of stream as AsyncIterable<Message>) {
      messages++
      const headers = new Map([...message.headers].map(([name, value]) => [String(name), String(value)]))
      const [id = '', sequence = ''] = [headers.get('ce_id'), headers.get('ce_sequence')]
      const key = String(message.key)
      if (!seen.has(id)) {
        expect(sequence > (last.get(key) ?? '')).toBe(true)
        last.set(key, sequence)
        seen.add(id)
      }
      wanted.delete(id)
      if (wanted.size === 0) return messages
    }
    throw missing()
  } finally {
    clearTimeout(deadline)
    await consumer.close(true)
  }
}
