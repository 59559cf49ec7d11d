import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, truncate } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parseStampHeader } from '#core/stamp/header.ts'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { createClient, type LogItem } from '#test/support/producer.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startUpstream, type Upstream } from '#test/support/upstream.ts'

/**
 * Clients fetch through the proxy while proxy, ledger and both PostgreSQL servers are killed, one after the other or two at once, at
 * random moments. Afterwards every answer that a client got to its end is in the ledger, once.
 * `npm run test:fault` does many rounds (SIGNET_FAULT_ROUNDS).
 */
const ROUNDS = Number(process.env['SIGNET_FAULT_ROUNDS'] ?? 16)
const ROUND_MS = 15_000
const WORKERS = 6
const VICTIMS = ['proxy', 'ledger', 'wall', 'work'] as const
type Victim = (typeof VICTIMS)[number]

let ledgers: LedgerStack
let upstream: Upstream
let proxy: ProxyStack

beforeAll(async () => {
  upstream = await startUpstream()
  upstream.answer = (request, response) => {
    const [, kind, number] = request.url.split('/')
    const large = Buffer.alloc(1_200_000, Number(number))
    if (kind === 'item')
      response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ number, filler: 'x'.repeat(800) }))
    else if (kind === 'table')
      response.writeHead(200, { 'content-type': 'text/csv' }).end(`number,square\n${number},${Number(number) ** 2}\n`)
    else if (kind === 'large')
      response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': large.length }).end(large)
    else if (kind === 'people')
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"first_name":"Ada","last_name":"Lovelace"}')
    else response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"no such thing"}')
  }
  ledgers = await startLedgerStack()
  const ack = ledgers.keyring.keys.find((key) => key.use === 'ack')
  if (ack === undefined) throw new Error('the ledger has no acknowledgement key')
  const { private_key: _, ...ackKey } = ack
  const url = ledgers.ledgers[0]?.url ?? ''
  proxy = await startProxyStack({
    upstream: upstream.url,
    ledger: { url, token: ledgers.token('proxy'), ackKey },
    env: { SIGNET_DRAIN_MS: '20000' },
  })
  await proxy.ready()
})
afterAll(async () => {
  await proxy?.stop()
  await ledgers?.stop()
  await upstream?.close()
})

/** What a client got to its end: the stamp's hash, or the id of a request that was refused or streamed. */
type Received = {
  readonly what: 'stamped' | 'streamed' | 'refused'
  readonly id: string
  readonly status: number
  readonly target: string
}

function received(target: string, answer: HttpAnswer): Received | null {
  const { status, headers } = answer
  const stamp = headers['compliance-stamp']
  if (stamp !== undefined) return { what: 'stamped', id: parseStampHeader(String(stamp)).hash, status, target }
  const request = /signet\/requests\/([^>]+)>/.exec(String(headers.link))?.[1]
  if (request !== undefined) return { what: 'streamed', id: request, status, target }
  if (headers['content-type'] !== 'application/problem+json')
    throw new Error(`${target}: ${status} has neither stamp nor reason`)
  const { request_id: id } = JSON.parse(answer.body.toString()) as { request_id: string }
  return { what: 'refused', id, status, target }
}

/** Clients that never stop asking; what breaks off is not theirs to keep. */
function startTraffic() {
  const all: Received[] = []
  const stopping = new AbortController()
  let broken = 0
  let number = 0
  const worker = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      number++
      const kind = number % 41 === 0 ? 'large' : (['item', 'table', 'item', 'people', 'missing'] as const)[number % 5]
      const target = `/${kind}/${number % 256}?n=${number}`
      const origin = number % 3 === 0 ? proxy.internal : proxy.external
      const answer = await exchange(origin + target).catch(() => null)
      const got = answer?.complete === true ? received(target, answer) : null
      if (got === null) broken++
      else all.push(got)
      await sleep(got === null ? 25 : 8)
    }
  }
  const workers = Array.from({ length: WORKERS }, worker)
  return {
    all,
    broken: () => broken,
    async stop(): Promise<void> {
      stopping.abort()
      await Promise.all(workers)
    },
  }
}

const kill: Record<Victim, () => Promise<() => Promise<void>>> = {
  async proxy() {
    await proxy.kill()
    return async () => {
      proxy = await proxy.restart()
    }
  },
  async ledger() {
    const victim = ledgers.ledgers.at(-1)
    await victim?.kill()
    return async () => {
      await ledgers.startLedger({ port: victim?.port ?? 0 })
    }
  },
  async wall() {
    await ledgers.wall.server.kill('SIGKILL')
    return () => ledgers.wall.restart()
  },
  async work() {
    await ledgers.work.server.kill('SIGKILL')
    return () => ledgers.work.restart()
  },
}

test(
  `kill -9 of proxy, ledger and PostgreSQL, ${ROUNDS} rounds: nothing that was received is lost, doubled or forged`,
  async () => {
    const traffic = startTraffic()
    const kills: Victim[] = []
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(randomInt(200, 1_500))
      // Each in turn, and now and then a second one with it.
      const first = VICTIMS[round % VICTIMS.length] as Victim
      const second = VICTIMS[randomInt(VICTIMS.length)] as Victim
      const victims = round % 3 === 2 && second !== first ? [first, second] : [first]
      kills.push(...victims)
      const revivals = await Promise.all(victims.map((victim) => kill[victim]()))
      await sleep(randomInt(0, 700))
      for (const revive of revivals) await revive()
    }
    await proxy.ready(30_000)
    await sleep(500)
    await traffic.stop()
    const { all } = traffic
    console.log(`${kills.length} kills; ${all.length} answers received, ${traffic.broken()} broken off`)
    expect(all.length).toBeGreaterThan(ROUNDS * 40)
    const kinds = new Set(all.map(({ what, status }) => `${what} ${status}`))
    // What the proxy cannot do for the moment it says so, and that is recorded like any other decision.
    kinds.delete('refused 503')
    expect(kinds).toEqual(new Set(['stamped 200', 'stamped 404', 'streamed 200', 'refused 422']))
    expect(all.filter(({ status }) => status === 503).length / all.length).toBeLessThan(0.5)

    await expect.poll(() => proxy.sample('signet_audit_pending_events'), { timeout: 60_000, interval: 200 }).toBe(0)
    await terminate(proxy)
    const auditor = createClient(ledgers.ledgers.at(-1)?.url ?? '', ledgers.token('auditor'))
    const items = await auditor.all()
    expectOnce(items, all)
    expectSessions(items, kills.filter((victim) => victim === 'proxy').length)
    expect(await auditor.verify()).toMatchObject({ ok: true, head: { seq: items.length } })
  },
  60_000 + ROUNDS * ROUND_MS,
)

test('a spool that lost its end: what is left arrives, and the ledger says from where on something is missing', async () => {
  if (proxy.child.exitCode !== null) proxy = await proxy.restart()
  await proxy.ready(30_000)
  const ledger = ledgers.ledgers.at(-1)
  await ledger?.kill()
  const all: Received[] = []
  for (let number = 1; number <= 40; number++) {
    const got = received(`/table/${number}`, await exchange(`${proxy.external}/table/${number}`))
    if (got !== null) all.push(got)
  }
  await proxy.kill()
  const segment = path.join(
    proxy.spoolDir,
    (await readdir(proxy.spoolDir))
      .filter((name) => name.endsWith('.spool'))
      .toSorted()
      .at(-1) ?? '',
  )
  const before = await readFile(segment)
  const whole = before.subarray(0, before.lastIndexOf('}') + 1)
  await truncate(segment, Math.floor(whole.length * 0.6))
  await ledgers.startLedger({ port: ledger?.port ?? 0 })
  proxy = await proxy.restart()
  await proxy.ready(30_000)
  await expect.poll(() => proxy.sample('signet_audit_pending_events'), { timeout: 30_000 }).toBe(0)

  const auditor = createClient(ledgers.ledgers.at(-1)?.url ?? '', ledgers.token('auditor'))
  const known = await Promise.all(
    all.map(async ({ id }) => (await auditor.all(`&stamp_hash=${encodeURIComponent(id)}`)).length),
  )
  const kept = known.filter((count) => count === 1).length
  expect(kept).toBeGreaterThan(5)
  expect(kept).toBeLessThan(40)
  // Those that arrived are the first ones, without a hole.
  expect(known).toEqual(known.map((_, index) => (index < kept ? 1 : 0)))
  await expect
    .poll(async () => (await auditor.all('&event_type=audit.gap'))[0]?.event.context)
    .toMatchObject({ from: kept + 1, to: null })
  expect(await auditor.verify()).toMatchObject({ ok: true })
})

/** SIGTERM, and its folder stays. */
async function terminate({ child }: ProxyStack): Promise<void> {
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  expect((await exited)[0]).toBe(0)
}

function expectOnce(items: readonly LogItem[], all: readonly Received[]): void {
  const events = items.map(({ event }) => event)
  const byStamp = Map.groupBy(events, ({ stamp_hash }) => stamp_hash)
  const byRequest = Map.groupBy(events, ({ request_id }) => request_id)
  const wrong: unknown[] = []
  for (const one of all) {
    const found = (one.what === 'stamped' ? byStamp.get(one.id) : byRequest.get(one.id)) ?? []
    const types = found.map(({ event_type }) => event_type).toSorted()
    const isRight =
      one.what === 'streamed'
        ? // Its last byte may have reached the client a moment before the proxy was killed.
          types.length <= 2 && types.filter((type) => type === 'egress.decided').length === 1
        : types.length === 1
    if (!isRight) wrong.push({ ...one, types })
  }
  expect(wrong).toEqual([])
  // None of the events of a proxy is there twice, whoever received what.
  expect(new Set(events.map(({ event_id }) => event_id)).size).toBe(events.length)
  const places = items
    .filter(({ spool_seq }) => spool_seq !== null && spool_seq > 0)
    .map(({ session, spool_seq }) => `${session} ${spool_seq}`)
  expect(new Set(places).size).toBe(places.length)
}

/** Each run of the proxy opened a session and closed it, or had it closed by the next run; nothing is missing within. */
function expectSessions(items: readonly LogItem[], killed: number): void {
  const ofType = (type: string): LogItem[] => items.filter(({ event }) => event.event_type === type)
  const seqs = Map.groupBy(
    items.filter(({ event }) => event.event_type.startsWith('egress.')),
    ({ session }) => session,
  )
  for (const [session, list] of seqs) {
    const numbers = list.map(({ spool_seq }) => spool_seq ?? 0).toSorted((a, b) => a - b)
    expect(numbers, `session ${session}`).toEqual(numbers.map((_, index) => index + 1))
  }
  const closed = ofType('audit.session.closed').map(
    ({ event }) => event.context as { clean: boolean; last_spool_seq: number; recorded_spool_seq: number },
  )
  for (const { last_spool_seq: last, recorded_spool_seq: recorded } of closed) expect(recorded).toBe(last)
  expect(closed.filter(({ clean }) => clean).length).toBeGreaterThanOrEqual(1)
  expect(ofType('audit.refused')).toEqual([])
  // Nothing that is known is missing. After a run that was killed nobody knows whether more was written than its spool held: the
  // ledger says so, once for each, behind the last event that it has.
  const ends = closed.filter(({ clean }) => !clean).map(({ last_spool_seq: last }) => ({ from: last + 1, to: null }))
  const gaps = ofType('audit.gap').map(({ event }) => event.context as { from: number; to: number | null })
  expect(gaps.map(({ from, to }) => ({ from, to }))).toEqual(ends)
  expect(ends.length).toBeLessThanOrEqual(killed)
}
