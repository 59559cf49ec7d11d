import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, Producer, type Message } from '@platformatic/kafka'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startBroker, type TestBroker } from '#test/support/kafka.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, createClient } from '#test/support/producer.ts'

const OUT = 'signet-audit'
const SMALL = 'signet-audit-small'
const IN = { acme: 'in-acme', globex: 'in-globex' }
const IDENTITIES = [
  { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
  { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
  { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
  { name: 'globex-proxy', tenant: 'globex', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
]
const DEADLINE_MS = 90_000

let broker: TestBroker
let stack: LedgerStack
const env: Record<string, string> = {}
const running = () => stack.ledgers.filter(({ child }) => child.exitCode === null && child.signalCode === null)
const client = (name = 'proxy') => createClient(running()[0]?.url ?? '', stack.token(name))

type Seen = { partition: number; key: string; value: Buffer; headers: Record<string, string> }

/** What a topic holds, from its beginning: read until `enough` says so. */
async function drain(topic: string, enough: (seen: readonly Seen[]) => boolean): Promise<Seen[]> {
  const consumer = new Consumer({
    clientId: 'reader',
    groupId: `reader-${randomUUID()}`,
    bootstrapBrokers: [broker.bootstrap],
    retries: 10,
    maxWaitTime: 200,
    maxBytes: 16 * 1024 * 1024,
  })
  const seen: Seen[] = []
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
  const deadline = setTimeout(() => stream.destroy(new Error(`only ${seen.length} messages of ${topic}`)), DEADLINE_MS)
  try {
    if (enough(seen)) return seen
    for await (const message of stream as AsyncIterable<Message>) {
      const headers = Object.fromEntries([...message.headers].map(([name, value]) => [String(name), String(value)]))
      const { partition, key, value } = message
      seen.push({ partition, key: String(key), value: Buffer.from(value ?? ''), headers })
      if (enough(seen)) return seen
    }
    return seen
  } finally {
    clearTimeout(deadline)
    await consumer.close(true)
  }
}

async function produce(topic: string, values: readonly (string | Buffer)[]): Promise<void> {
  const producer = new Producer({ clientId: 'writer', bootstrapBrokers: [broker.bootstrap], retries: 10 })
  await producer.send({ acks: -1, messages: values.map((value) => ({ topic, value: Buffer.from(value) })) })
  await producer.close()
}

async function until<T>(what: string, look: () => Promise<T>, holds: (value: T) => boolean): Promise<T> {
  for (const deadline = Date.now() + DEADLINE_MS; ;) {
    const value = await look()
    if (holds(value)) return value
    if (Date.now() > deadline) throw new Error(`${what} did not come: ${JSON.stringify(value)}`)
    await sleep(200)
  }
}

const idsOf = (seen: readonly Seen[]) => new Set(seen.map(({ headers }) => headers['ce_id']))
const recordedBy = async (producerId: string, name = 'auditor') => {
  const { items } = await client(name).get<{ items: { event: { event_id: string; tenant: string } }[] }>(
    `/api/audit/logs?producer_id=${producerId}&event_type=egress.decided&limit=1000`,
  )
  return items.map(({ event }) => event)
}
const metric = async (name: string): Promise<number[]> =>
  Promise.all(
    running().map(async ({ url }) => {
      const text = await (await fetch(`${url}/metrics`)).text()
      return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
    }),
  )

beforeAll(async () => {
  ;[broker, stack] = await Promise.all([startBroker(), startLedgerStack({ ledgers: 0, identities: IDENTITIES })])
  const ins = Object.values(IN)
  await broker.createTopics([OUT, ...ins, ...ins.map((topic) => `${topic}.dead-letter`)])
  await broker.createTopics([SMALL], { config: { 'max.message.bytes': '8000' } })
  Object.assign(env, {
    SIGNET_KAFKA_BOOTSTRAP_SERVERS: broker.bootstrap,
    SIGNET_KAFKA_TOPIC: OUT,
    SIGNET_KAFKA_INGEST_TOPICS: `${IN.acme}=acme,${IN.globex}=globex`,
  })
  await stack.startLedger({ env })
  await stack.startLedger({ env })
})
afterAll(async () => {
  await stack?.stop()
  await broker?.stop()
})

test('every record is handed on as a CloudEvent, with its exact bytes, in the order of its trace', async () => {
  const session = randomUUID()
  const traces = ['a', 'b', 'c'].map((digit) => digit.repeat(32))
  for (let first = 1; first <= 300; first += 100) {
    const lines = traces.flatMap((trace_id, index) =>
      buildLines(session, first + index * 33, 33, { trace_id, actor: 'service:reports' }),
    )
    await client().append(lines)
  }
  const seen = await drain(
    OUT,
    (all) => all.filter(({ headers }) => headers['ce_type'] === 'dev.signet.egress.decided').length >= 297,
  )
  const last = new Map<string, string>()
  for (const { key, value, headers } of seen) {
    expect(headers).toMatchObject({ ce_specversion: '1.0', 'content-type': 'application/json', ce_tenant: 'acme' })
    expect(key).toBe(headers['ce_partitionkey'])
    const committed = createHash('sha256')
      .update(Buffer.from(headers['ce_nonce'] ?? '', 'hex'))
      .update(value)
    expect(committed.digest('hex')).toBe(headers['ce_commitment'])
    const sequence = headers['ce_sequence'] ?? ''
    expect(sequence > (last.get(key) ?? '')).toBe(true)
    last.set(key, sequence)
  }
  const lag = await until(
    'a lag of nothing',
    () => metric('signet_feed_lag_events'),
    (lags) => lags.every((one) => one === 0),
  )
  expect(lag).toHaveLength(2)
  // One of the two at a time.
  expect((await metric('signet_feed_sent_total')).filter((sent) => sent > 0)).toHaveLength(1)
})

test('messages of a topic are recorded for its tenant, once, whatever they claim; poison goes to the dead letters', async () => {
  const events = Array.from({ length: 40 }, () => buildEvent({ actor: 'service:legacy' }))
  const good = events.map((event) => JSON.stringify(event))
  const [first] = events
  if (first === undefined) throw new Error('no event')
  const conflicting = JSON.stringify({ ...first, action: 'PUT' })
  const reserved = JSON.stringify(buildEvent({ event_type: 'audit.erasure' }))
  await produce(IN.acme, good)
  await until(
    'the events',
    () => recordedBy(`kafka/${IN.acme}`),
    (found) => found.length >= 40,
  )
  await produce(IN.acme, [...good, '{"not": "an event"}', '\u0000', conflicting, reserved])
  const letters = await drain(`${IN.acme}.dead-letter`, (all) => all.length >= 4)
  expect(
    letters.map(({ headers }) => headers['signet-error-code']).toSorted((a = '', b = '') => a.localeCompare(b)),
  ).toEqual(['AUDIT_EVENT_INVALID', 'EVENT_ID_CONFLICT', 'EVENT_TYPE_RESERVED', 'JSON_INVALID'])
  expect(letters.some(({ value }) => value.toString() === conflicting)).toBe(true)
  const found = await recordedBy(`kafka/${IN.acme}`)
  expect(found).toHaveLength(40)
  expect(new Set(found.map(({ tenant }) => tenant))).toEqual(new Set(['acme']))
  const { items } = await client('auditor').get<{ items: { event: { context: { count?: number } } }[] }>(
    '/api/audit/logs?event_type=audit.refused',
  )
  expect(items.reduce((sum, { event }) => sum + (event.context.count ?? 0), 0)).toBe(4)
})

test('tenants stay apart', async () => {
  await produce(IN.globex, [JSON.stringify(buildEvent({ tenant: 'acme' }))])
  const found = await until(
    'it',
    () => recordedBy(`kafka/${IN.globex}`, 'globex-proxy'),
    (all) => all.length === 1,
  )
  expect(found[0]?.tenant).toBe('globex')
  expect(await recordedBy(`kafka/${IN.globex}`)).toEqual([])
})

test('a ledger that dies hands its partitions and its word over to the other', async () => {
  const sent = await metric('signet_feed_sent_total')
  const [victim] = running().filter((_, index) => (sent[index] ?? 0) > 0)
  const events = Array.from({ length: 200 }, () => buildEvent({ actor: 'service:legacy' }))
  await produce(
    IN.acme,
    events.slice(0, 100).map((event) => JSON.stringify(event)),
  )
  await victim?.kill()
  await produce(
    IN.acme,
    events.slice(100).map((event) => JSON.stringify(event)),
  )
  const found = await until(
    'all of them',
    () => recordedBy(`kafka/${IN.acme}`),
    (all) => all.length >= 240,
  )
  expect(found).toHaveLength(240)
  const wanted = events.map(({ event_id }) => event_id)
  await drain(OUT, (all) => {
    const ids = idsOf(all)
    return wanted.every((id) => ids.has(id))
  })
})

test('a broker that dies and comes back, and one that says nothing for a while, lose nothing', async () => {
  await broker.kill()
  const session = randomUUID()
  const lines = buildLines(session, 1, 50, { actor: 'service:reports' })
  // What is recorded does not wait for Kafka.
  await client().append(lines)
  await until(
    'a lag',
    () => metric('signet_feed_lag_events'),
    (lags) => lags.some((lag) => lag >= 50),
  )
  await broker.restart()
  const ids = lines.map((line) => (JSON.parse(line) as { event: { event_id: string } }).event.event_id)
  await drain(OUT, (all) => ids.every((id) => idsOf(all).has(id)))

  broker.freeze()
  const more = buildLines(session, 51, 20, { actor: 'service:reports' })
  await client().append(more)
  await sleep(3_000)
  broker.thaw()
  const later = more.map((line) => (JSON.parse(line) as { event: { event_id: string } }).event.event_id)
  await drain(OUT, (all) => later.every((id) => idsOf(all).has(id)))
})

test('intake goes on when the wall comes back', async () => {
  const events = Array.from({ length: 20 }, () => buildEvent({ actor: 'service:legacy' }))
  await stack.wall.server.kill('SIGKILL')
  await produce(
    IN.acme,
    events.map((event) => JSON.stringify(event)),
  )
  await sleep(1_000)
  await stack.wall.restart()
  const found = await until(
    'them',
    () => recordedBy(`kafka/${IN.acme}`).catch(() => []),
    (all) => all.length >= 260,
  )
  expect(found).toHaveLength(260)
})

test('a record that the topic does not take goes out as a reference, in its place', async () => {
  await Promise.all(running().map((ledger) => ledger.stop()))
  await stack.startLedger({ env: { ...env, SIGNET_KAFKA_TOPIC: SMALL } })
  const large = buildEvent({ actor: 'service:reports', context: { text: 'x'.repeat(20_000) } })
  expect((await client().post('/api/audit/logs', JSON.stringify(large))).status).toBe(201)
  const seen = await drain(SMALL, (all) => idsOf(all).has(large.event_id))
  const message = seen.find(({ headers }) => headers['ce_id'] === large.event_id)
  expect(message?.value).toHaveLength(0)
  const { items } = await client('auditor').get<{ items: { event: { event_id: string } }[] }>(
    message?.headers['ce_dataref'] ?? '',
  )
  expect(items[0]?.event.event_id).toBe(large.event_id)
})

test('intake goes on after a silence that began while it was recording', async () => {
  // One process has all partitions: its client is alone with the silence.
  await Promise.all(running().map((ledger) => ledger.stop()))
  await stack.startLedger({ env })
  const comesTo = (topic: 'acme' | 'globex', eventId: string) =>
    until(
      `the event of ${topic}`,
      () => recordedBy(`kafka/${IN[topic]}`, topic === 'acme' ? 'auditor' : 'globex-proxy'),
      (found) => found.some(({ event_id }) => event_id === eventId),
    )
  for (let round = 0; round < 3; round++) {
    const [first, second] = [buildEvent({}), buildEvent({})]
    // The second comes while the first is being recorded, when nobody waits for the client's stream.
    await produce(IN.acme, [JSON.stringify(first)])
    await produce(IN.globex, [JSON.stringify(second)])
    await comesTo('acme', first.event_id)
    await comesTo('globex', second.event_id)
    // The silence is the point: several of the client's fetches have to come back empty.
    await sleep(3_000)
  }
})

test('while its writer is revoked, what comes by a topic goes to the dead letters; that of another topic is recorded', async () => {
  const admin = createClient(running()[0]?.url ?? '', stack.token('admin'))
  const revocations = '/api/audit/tokens/revocations'
  const made = await admin.post(revocations, JSON.stringify({ producer_id: `kafka/${IN.acme}`, reason: 'incident 12' }))
  const { id, ...rest } = (await made.json()) as { id: string }
  expect([made.status, rest]).toMatchObject([201, { state: 'revoked' }])
  const shutOut = buildEvent({ actor: 'service:revoked' })
  const other = buildEvent({ actor: 'service:other' })
  await produce(IN.acme, [JSON.stringify(shutOut)])
  await produce(IN.globex, [JSON.stringify(other)])
  const letters = await drain(`${IN.acme}.dead-letter`, (all) =>
    all.some(({ headers }) => headers['signet-error-code'] === 'CREDENTIAL_REVOKED'),
  )
  expect(letters.at(-1)?.value.toString()).toBe(JSON.stringify(shutOut))
  await until(
    'the event of the other topic',
    () => recordedBy(`kafka/${IN.globex}`, 'globex-proxy'),
    (found) => found.some(({ event_id }) => event_id === other.event_id),
  )
  const lifted = await fetch(`${running()[0]?.url}${revocations}/${id}?reason=over`, {
    method: 'DELETE',
    headers: { authorization: `Bearer ${stack.token('admin')}` },
  })
  expect([lifted.status, await lifted.json()]).toMatchObject([200, { state: 'lifted' }])
  // From the dead letters, the same again.
  await produce(IN.acme, [JSON.stringify(shutOut)])
  await until(
    'the event that was shut out',
    () => recordedBy(`kafka/${IN.acme}`),
    (found) => found.some(({ event_id }) => event_id === shutOut.event_id),
  )
})
