import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildStamp, createClient, lineOf, stampHashOf, type LogItem } from '#test/support/producer.ts'

let stack: LedgerStack
const client = (name = 'proxy') => createClient(stack.ledgers[0]?.url ?? '', stack.token(name))
const SESSION = randomUUID()
const STAMPED = buildEvent({ request_id: 'the/request?with=reserved&characters', trace_id: 'b'.repeat(32) })
const STAMP = buildStamp({ tenant: 'acme', producerId: 'demo/api', event: STAMPED })
const LONG = 'x'.repeat(150)

beforeAll(async () => {
  stack = await startLedgerStack()
  const events = [
    buildEvent({ actor: 'user:alice', action: 'GET', resource: '/a', timestamp_utc: '2026-01-01T00:00:00.000Z' }),
    buildEvent({
      actor: 'user:bob',
      action: 'PUT',
      resource: '/b',
      timestamp_utc: '2026-01-02T00:00:00.000Z',
      outcome: 'denied',
    }),
    buildEvent({
      actor: 'user:bob',
      stage: 'approve',
      event_type: 'approval.given',
      timestamp_utc: '2026-01-03T00:00:00.000Z',
    }),
    // The same first 100 characters: the index alone does not tell them apart.
    buildEvent({ actor: `${LONG}1`, timestamp_utc: '2026-01-04T00:00:00.000Z' }),
    buildEvent({ actor: `${LONG}2`, timestamp_utc: '2026-01-04T00:00:00.000Z', trace_id: 'a'.repeat(32) }),
  ]
  const lines = events.map((event, index) => lineOf({ session: SESSION, spool_seq: index + 1, event }))
  lines.push(
    lineOf({ session: SESSION, spool_seq: 6, event: { ...STAMPED, stamp_hash: stampHashOf(STAMP) }, stamp: STAMP }),
  )
  const ack = await client().append(lines)
  expect(ack.refused).toEqual([])
})
afterAll(() => stack.stop())

describe('filters', () => {
  // Positions in the session, newest first; 0 is its opening.
  test.each([
    { query: 'actor=user:bob', want: [3, 2] },
    { query: 'actor=user:bob&outcome=denied', want: [2] },
    { query: `actor=${LONG}1`, want: [4] },
    { query: `actor=${LONG}`, want: [] },
    { query: 'action=PUT', want: [2] },
    { query: 'resource=/a', want: [1] },
    { query: 'stage=approve', want: [3] },
    { query: 'event_type=approval.given', want: [3] },
    { query: `trace_id=${'a'.repeat(32)}`, want: [5] },
    { query: `request_id=${encodeURIComponent(STAMPED.request_id)}`, want: [6] },
    { query: `stamp_hash=${stampHashOf(STAMP)}`, want: [6] },
    { query: `session=${SESSION}`, want: [6, 5, 4, 3, 2, 1, 0] },
    { query: `session=${randomUUID()}`, want: [] },
    { query: 'from=2026-01-02T00:00:00.000Z&to=2026-01-03T00:00:00.000Z', want: [2] },
    { query: "actor=' OR true --", want: [] },
  ])('$query', async ({ query, want }) => {
    const { items } = await client().get<{ items: LogItem[] }>(`/api/audit/logs?${query}`)
    expect(items.map((item) => item.spool_seq)).toEqual(want)
  })
})

test('pages follow each other without holes, also while events arrive', async () => {
  const seen: number[] = []
  let path = '/api/audit/logs?limit=3'
  for (let pages = 0; pages < 10; pages++) {
    const page = await client().get<{ items: LogItem[]; next_cursor: string | null }>(path)
    seen.push(...page.items.map((item) => item.seq))
    await client().append([lineOf({ session: SESSION, spool_seq: 100 + pages, event: buildEvent() })])
    if (page.next_cursor === null) break
    path = `/api/audit/logs?limit=3&cursor=${page.next_cursor}`
  }
  expect(seen).toEqual([7, 6, 5, 4, 3, 2, 1])
})

describe('stamps', () => {
  const get = (path: string, name = 'proxy') =>
    fetch(`${stack.ledgers[0]?.url}${path}`, { headers: { authorization: `Bearer ${stack.token(name)}` } })
  const byHash = `/api/audit/stamps/${stampHashOf(STAMP)}`
  const byRequest = `/api/audit/requests/${encodeURIComponent(STAMPED.request_id)}/stamp`

  test.each([byHash, byRequest])('%s gives the exact bytes', async (path) => {
    const response = await get(path)
    expect([response.status, await response.text()]).toEqual([200, canonicalize(STAMP)])
  })

  test.each([
    { path: byHash, name: 'globex-proxy' },
    { path: byRequest, name: 'globex-proxy' },
    { path: `/api/audit/stamps/sha256:${'0'.repeat(64)}`, name: 'proxy' },
    { path: '/api/audit/stamps/nonsense', name: 'proxy' },
    { path: '/api/audit/requests/unknown%00/stamp', name: 'proxy' },
  ])('$path for $name is not found', async ({ path, name }) => {
    const response = await get(path, name)
    expect(response.status).toBe(404)
    expect(await response.json()).toMatchObject({ code: 'STAMP_MISSING' })
  })

  test('another producer cannot put its stamp in the place of the first one of a request', async () => {
    const event = buildEvent({ request_id: STAMPED.request_id, trace_id: STAMPED.trace_id })
    const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/second', event })
    const line = lineOf({
      session: randomUUID(),
      spool_seq: 1,
      event: { ...event, stamp_hash: stampHashOf(stamp) },
      stamp,
    })
    expect((await client('second').append([line])).refused).toEqual([])
    const ask = async (query: string): Promise<string | number> => {
      const response = await get(`${byRequest}${query}`)
      return response.status === 200 ? response.text() : response.status
    }
    expect(await ask('')).toBe(canonicalize(STAMP))
    expect(await ask('?producer_id=demo/api')).toBe(canonicalize(STAMP))
    expect(await ask('?producer_id=demo/second')).toBe(canonicalize(stamp))
    expect(await ask('?producer_id=demo/third')).toBe(404)
    expect(await ask('?producer=demo/api')).toBe(400)
    expect(await ask('?producer_id=demo/api&producer_id=demo/second')).toBe(400)
  })

  test('a token that may only write reads nothing', async () => {
    expect((await get(byHash, 'second')).status).toBe(403)
    expect((await get('/api/audit/logs', 'second')).status).toBe(403)
    expect((await get('/api/audit/verify', 'second')).status).toBe(403)
  })
})

test('metrics and probes are there without a token, and show no tenant', async () => {
  const url = stack.ledgers[0]?.url
  const metrics = await (await fetch(`${url}/metrics`)).text()
  expect(metrics).toMatch(/^signet_ledger_records_total \d+$/m)
  expect(metrics).not.toContain('acme')
  expect((await fetch(`${url}/livez`)).status).toBe(200)
  expect(await (await fetch(`${url}/readyz`)).json()).toEqual({
    status: 'ready',
    checks: { wall: 'ok', work: 'ok', keys: 'ok', sealing: 'ok' },
  })
})
