import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'

let stack: LedgerStack

beforeAll(async () => {
  stack = await startLedgerStack()
})
afterAll(() => stack.stop())

type Acked = { event_id: string; seq: number; commitment: string; received_digest: string }

/** A producer as the proxies are: one batch at a time, the same bytes again until they are acknowledged. */
function startProducer(token: string, url: () => string, batchSize: number) {
  const session = randomUUID()
  const acked: Acked[] = []
  let sent = 0
  const stopping = new AbortController()
  const loop = (async () => {
    while (!stopping.signal.aborted) {
      const lines = buildLines(session, sent + 1, batchSize)
      for (let done = false; !done;) {
        const ack = await createClient(url(), token)
          .append(lines)
          .catch(() => null)
        if (ack === null) await sleep(20)
        else {
          expect(ack.refused).toEqual([])
          acked.push(...ack.acks)
          done = true
        }
      }
      sent += batchSize
    }
  })()
  return {
    session,
    acked,
    async stop() {
      stopping.abort()
      await loop
      return sent
    },
  }
}

async function expectEverythingOnce(producers: ReturnType<typeof startProducer>[], sent: number[]): Promise<void> {
  const auditor = createClient(stack.ledgers.at(-1)?.url ?? '', stack.token('auditor'))
  for (const [index, producer] of producers.entries()) {
    const items = (await auditor.all(`&session=${producer.session}`)).filter(
      (item) => item.event.event_type === 'egress.decided',
    )
    const bySeq = new Map(items.map((item) => [item.event.event_id, item]))
    expect(items).toHaveLength(sent[index] ?? -1)
    expect(bySeq.size).toBe(items.length)
    expect(producer.acked).toHaveLength(items.length)
    for (const ack of producer.acked) {
      expect(bySeq.get(ack.event_id)).toMatchObject({ seq: ack.seq, commitment: ack.commitment })
    }
  }
  expect(await auditor.verify()).toMatchObject({ ok: true })
  const gaps = await auditor.all('&event_type=audit.gap')
  expect(gaps).toEqual([])
}

describe('kill -9', () => {
  test('of the ledger, at any moment, loses no acknowledged event and doubles none', async () => {
    let url = stack.ledgers[0]?.url ?? ''
    const producers = ['proxy', 'second'].map((name) => startProducer(stack.token(name), () => url, 40))
    for (let round = 0; round < 5; round++) {
      await sleep(100 + round * 37)
      const victim = stack.ledgers.at(-1)
      await victim?.kill()
      const next = await stack.startLedger()
      url = next.url
    }
    await sleep(200)
    const sent = await Promise.all(producers.map((producer) => producer.stop()))
    expect(Math.min(...sent)).toBeGreaterThan(0)
    await expectEverythingOnce(producers, sent)
  })

  test('of the wall server, at any moment, neither', async () => {
    const url = stack.ledgers.at(-1)?.url ?? ''
    const producers = ['proxy', 'second'].map((name) => startProducer(stack.token(name), () => url, 40))
    for (let round = 0; round < 4; round++) {
      await sleep(150 + round * 41)
      await stack.wall.server.kill('SIGKILL')
      await stack.wall.restart()
    }
    await sleep(300)
    const sent = await Promise.all(producers.map((producer) => producer.stop()))
    expect(Math.min(...sent)).toBeGreaterThan(0)
    await expectEverythingOnce(producers, sent)
  })
})

describe('a database that is away', () => {
  test('the wall: 503 with Retry-After, not ready; then it recovers by itself', async () => {
    const ledger = stack.ledgers.at(-1)
    const proxy = createClient(ledger?.url ?? '', stack.token('proxy'))
    await stack.wall.server.stop()
    const lines = buildLines(randomUUID(), 1, 2)
    const refused = await proxy.ingest(lines)
    expect(refused.status).toBe(503)
    expect(refused.headers.get('retry-after')).toBe('1')
    expect(await refused.json()).toMatchObject({ code: 'DATABASE_UNAVAILABLE' })
    await expect.poll(async () => (await fetch(`${ledger?.url}/readyz`)).status).toBe(503)
    expect((await fetch(`${ledger?.url}/livez`)).status).toBe(200)

    await stack.wall.restart()
    await expect.poll(async () => (await fetch(`${ledger?.url}/readyz`)).status, { timeout: 10_000 }).toBe(200)
    expect((await proxy.append(lines)).acks).toHaveLength(2)
  })

  test('the work database: events are still recorded, sessions wait', async () => {
    const ledger = stack.ledgers.at(-1)
    const proxy = createClient(ledger?.url ?? '', stack.token('proxy'))
    await stack.work.server.stop()
    const session = randomUUID()
    expect((await proxy.append(buildLines(session, 1, 2))).acks).toHaveLength(2)
    expect((await proxy.open(session)).status).toBe(503)
    await stack.work.restart()
    await expect.poll(async () => (await proxy.open(session)).status, { timeout: 10_000 }).toBe(200)
  })

  test('a ledger that starts before its databases listens, and becomes ready with them', async () => {
    await stack.wall.server.stop()
    const ledger = await stack.startLedger()
    expect((await fetch(`${ledger.url}/readyz`)).status).toBe(503)
    await stack.wall.restart()
    await expect.poll(async () => (await fetch(`${ledger.url}/readyz`)).status, { timeout: 10_000 }).toBe(200)
    await ledger.stop()
  })
})

test('two ledger processes on one wall never fork the chain', async () => {
  const ledgers = [await stack.startLedger(), await stack.startLedger()]
  const before = (await createClient(ledgers[0]?.url ?? '', stack.token('auditor')).verify()).head.seq
  const acks = await Promise.all(
    Array.from({ length: 40 }, (_, index) =>
      createClient(ledgers[index % 2]?.url ?? '', stack.token(index % 4 < 2 ? 'proxy' : 'second')).append(
        buildLines(randomUUID(), 1, 25),
      ),
    ),
  )
  const numbers = acks.flatMap((ack) => ack.acks.map((one) => one.seq))
  expect(new Set(numbers).size).toBe(1_000)
  // 25 events and the opening of its session each.
  const verdict = await createClient(ledgers[0]?.url ?? '', stack.token('auditor')).verify()
  expect(verdict).toMatchObject({ ok: true, head: { seq: before + 40 * 26 } })
  for (const ledger of ledgers) await ledger.stop()
})
