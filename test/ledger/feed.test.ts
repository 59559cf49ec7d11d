import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ocsfFaults } from '#test/support/ocsf.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, createClient } from '#test/support/producer.ts'

type Page<T = { seq: number; nonce: string; bytes: string; commitment: string }> = {
  items: T[]
  absent: { from_seq: number; to_seq: number }[]
  cursor: string | null
  more: boolean
  lag: number
}

let stack: LedgerStack
const client = (name = 'proxy') => createClient(stack.ledgers[0]?.url ?? '', stack.token(name))
const feed = (query = '', name = 'auditor') => client(name).get<Page>(`/api/audit/feed?${query}`)
const status = async (query: string, name = 'auditor') => {
  const answer = await fetch(`${client().url}/api/audit/feed?${query}`, { headers: client(name).headers })
  return [answer.status, ((await answer.json()) as { code?: string }).code]
}
const SESSION = randomUUID()

beforeAll(async () => {
  stack = await startLedgerStack()
  await client().append(buildLines(SESSION, 1, 9))
})
afterAll(() => stack.stop())

test('goes through a chain from the beginning, page after page, with the bytes that were committed to', async () => {
  const seen: number[] = []
  for (let after = ''; ;) {
    const page = await feed(`limit=4${after}`)
    expect(page.absent).toEqual([])
    for (const { seq, nonce, bytes, commitment } of page.items) {
      const committed = createHash('sha256').update(Buffer.from(nonce, 'hex')).update(Buffer.from(bytes, 'base64'))
      expect(committed.digest('hex')).toBe(commitment)
      seen.push(seq)
    }
    expect(page.lag).toBe(10 - seen.length)
    if (!page.more) break
    after = `&after=${page.cursor}`
  }
  // The first is the opening of the session.
  expect(seen).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
})

test('a request that waits is answered when something comes, and when its time is up', async () => {
  const { cursor, items } = await feed('after=latest')
  expect(items).toEqual([])
  const waiting = feed(`after=${cursor}&wait=25`)
  await sleep(300)
  await client().append(buildLines(SESSION, 10, 1))
  const page = await waiting
  expect(page.items).toHaveLength(1)
  const startedAt = Date.now()
  const none = await feed(`after=${page.cursor}&wait=1`)
  expect(none.items).toEqual([])
  expect(none.cursor).toBe(page.cursor)
  expect(Date.now() - startedAt).toBeGreaterThanOrEqual(990)
})

test('waiting is bounded for each tenant', async () => {
  const { cursor } = await feed('after=latest')
  const waiting = Promise.all(Array.from({ length: 33 }, () => status(`after=${cursor}&wait=3`)))
  const statuses = (await waiting).map(([code]) => code)
  expect(statuses.filter((code) => code === 429)).toHaveLength(1)
  expect(statuses.filter((code) => code === 200)).toHaveLength(32)
})

test('a tenant sees its own chain only, and a cursor is good in one chain only', async () => {
  await client('globex-proxy').append(buildLines(randomUUID(), 1, 12))
  const { items, cursor } = await client('globex-proxy').get<Page<{ event: { tenant: string } }>>('/api/audit/feed')
  expect(new Set(items.map(({ event }) => event.tenant))).toEqual(new Set(['globex']))
  expect(await status(`after=${cursor}`)).toEqual([409, 'FEED_CURSOR_MISMATCH'])
})

test.each([
  { query: 'after=nonsense', want: 400 },
  { query: `after=${Buffer.from('f1:99999999:0123456789abcdef').toString('base64url')}`, want: 409 },
  { query: `after=${Buffer.from('f1:1:0123456789abcdef').toString('base64url')}`, want: 409 },
  { query: 'limit=0', want: 400 },
  { query: 'limit=1001', want: 400 },
  { query: 'wait=26', want: 400 },
  { query: 'format=xml', want: 400 },
  { query: 'tenant=globex', want: 400 },
  { query: 'after=latest&after=latest', want: 400 },
])('$query is refused with $want', async ({ query, want }) => {
  expect((await status(query))[0]).toBe(want)
})

test('needs the scope audit:read', async () => {
  expect((await status('', 'second'))[0]).toBe(403)
  expect((await fetch(`${client().url}/api/audit/feed`)).status).toBe(401)
})

test('speaks CloudEvents and OCSF', async () => {
  const event = buildEvent({ action: 'DELETE', outcome: 'denied' })
  const { cursor } = await feed('after=latest')
  expect((await client().post('/api/audit/logs', JSON.stringify(event))).status).toBe(201)
  const cloud = await client().get<Page<Record<string, unknown>>>(`/api/audit/feed?after=${cursor}&format=cloudevents`)
  expect(cloud.items[0]).toMatchObject({
    specversion: '1.0',
    id: event.event_id,
    type: 'dev.signet.egress.decided',
    source: '/signet/signet-ledger/acme',
    partitionkey: `acme/${event.trace_id}`,
  })
  const ocsf = await client().get<Page<Record<string, unknown>>>(`/api/audit/feed?after=${cursor}&format=ocsf`)
  expect(ocsf.items[0]).toMatchObject({ class_uid: 6003, type_uid: 600304, status_id: 2 })
  // All that was recorded so far, the ledger's own events too.
  const all = await client().get<Page<unknown>>('/api/audit/feed?limit=1000&format=ocsf')
  expect(all.items.flatMap(ocsfFaults)).toEqual([])
  expect(all.items.length).toBeGreaterThan(1)
})

test('a record that was taken away leaves a range that is named, one that was changed its fault', async () => {
  const admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  try {
    await admin.query("SET session_replication_role = 'replica'")
    await admin.query('ALTER TABLE signet.records DISABLE TRIGGER ALL')
    await admin.query("DELETE FROM signet.records WHERE tenant = 'acme' AND seq IN (3, 4)")
    await admin.query("UPDATE signet.records SET bytes = bytes || ' ' WHERE tenant = 'acme' AND seq = 5")
  } finally {
    await admin.end()
  }
  const page = await client().get<Page<{ seq: number; fault?: string }>>('/api/audit/feed?limit=3')
  expect(page.absent).toEqual([{ from_seq: 3, to_seq: 4 }])
  expect(page.items.map(({ seq, fault }) => [seq, fault])).toEqual([
    [1, undefined],
    [2, undefined],
    [5, 'edit'],
  ])
})

test('a ledger that is told to stop answers who waits', async () => {
  const { cursor } = await feed('after=latest', 'globex-proxy')
  const waiting = feed(`after=${cursor}&wait=25`, 'globex-proxy')
  await sleep(300)
  const startedAt = Date.now()
  await stack.ledgers[0]?.stop()
  expect((await waiting).items).toEqual([])
  expect(Date.now() - startedAt).toBeLessThan(15_000)
})
