import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createPool, withTenant } from '#runtime/postgres/transaction.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, createClient, lineOf, type LogItem } from '#test/support/producer.ts'

let stack: LedgerStack
const client = (name = 'proxy') => createClient(stack.ledgers[0]?.url ?? '', stack.token(name))
const SESSION = randomUUID()
type List = { items: LogItem[]; next_cursor: string | null; count?: { value: number; exact: boolean } }
const list = (query: string, name?: string) => client(name).get<List>(`/api/audit/logs?${query}`)
const places = (page: List): (number | null)[] => page.items.map((item) => item.spool_seq)

beforeAll(async () => {
  stack = await startLedgerStack()
  const events = [
    buildEvent({
      context: { message: 'Holds personal data', rule: 'no-ssn', n: 4711 },
      data_domain: 'hr',
      region: 'eu',
    }),
    buildEvent({ context: { message: 'holds nothing', nested: [{ deep: 'Übergröße' }] }, data_domain: 'finance' }),
    buildEvent({ resource_type: 'report', resource_id: 'user/7', actor: 'user:bob', outcome: 'denied' }),
    // U+0000 has no place in PostgreSQL's json, and a record must be written all the same.
    buildEvent({ context: { message: 'zero\u0000byte survives', 'q\u0000uote': '\\u0000' } }),
    // Too many words for one tsvector, were they all taken.
    buildEvent({ context: { first: 'earlyword', pad: Array.from({ length: 60_000 }, (_, i) => `w${i}`).join(' ') } }),
    buildEvent({ context: { message: "quote ' OR true -- & | ! <-> (" } }),
  ]
  const ack = await client().append(
    events.map((event, index) => lineOf({ session: SESSION, spool_seq: index + 1, event })),
  )
  expect(ack.refused).toEqual([])
  const other = await client('globex-proxy').append([
    lineOf({
      session: randomUUID(),
      spool_seq: 1,
      event: buildEvent({ context: { message: 'personal data of globex' } }),
    }),
  ])
  expect(other.refused).toEqual([])
})
afterAll(() => stack.stop())

describe('full text on the context, and the new filters', () => {
  test.each([
    { query: 'q=personal', want: [1] },
    { query: 'q=HOLDS', want: [2, 1] },
    { query: 'q=data+holds', want: [1] },
    { query: 'q=4711', want: [1] },
    { query: 'q=message', want: [6, 4, 2, 1] },
    { query: `q=${encodeURIComponent('übergröße')}`, want: [2] },
    { query: 'q=byte+survives', want: [4] },
    { query: 'q=earlyword', want: [5] },
    { query: 'q=absent', want: [] },
    { query: `q=${encodeURIComponent("' OR true --")}`, want: [6] },
    { query: 'q=globex', want: [] },
    { query: 'q=holds&data_domain=hr', want: [1] },
    { query: `q=holds&order=asc&session=${SESSION}`, want: [1, 2] },
    { query: `q=holds&actor=${encodeURIComponent("x' OR 'a'='a")}`, want: [] },
    { query: 'data_domain=finance', want: [2] },
    { query: 'region=eu', want: [1] },
    { query: 'resource_type=report', want: [3] },
    { query: 'resource_id=user/7', want: [3] },
    { query: 'producer_id=demo/api&outcome=denied', want: [3] },
    { query: 'producer_id=demo/second', want: [] },
  ])('$query', async ({ query, want }) => {
    expect(places(await list(query))).toEqual(want)
  })

  test.each([
    'q=',
    'q=%26%20-',
    'order=up',
    'count=yes',
    'q=a&q=b',
    'order=asc&cursor=djE6NQ',
    `q=${'x'.repeat(1001)}`,
  ])('%s is refused', async (query) => {
    const response = await fetch(`${client().url}/api/audit/logs?${query}`, { headers: client().headers })
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([400, 'REQUEST_INVALID'])
  })

  test('pages go on in either order, with words too', async () => {
    for (const query of ['order=asc', 'order=desc', 'order=asc&q=message', 'q=message']) {
      const whole = await list(query)
      const seen: number[] = []
      let cursor: string | null = ''
      while (cursor !== null) {
        const page: List = await list(`${query}&limit=2${cursor === '' ? '' : `&cursor=${cursor}`}`)
        seen.push(...page.items.map((item) => item.seq))
        cursor = page.next_cursor
      }
      expect(seen).toEqual(whole.items.map((item) => item.seq))
      expect(seen).toEqual(seen.toSorted((a, b) => (query.startsWith('order=asc') ? a - b : b - a)))
    }
  })

  test('counts', async () => {
    expect((await list('q=holds&count=true&limit=1')).count).toEqual({ value: 2, exact: true })
    expect((await list('count=true&limit=1')).count).toEqual({ value: 7, exact: true })
    expect((await list('limit=1')).count).toBeUndefined()
  })

  test('the trail of audit is the same list, events at the top', async () => {
    const trail = await client('auditor').get<{ data: Record<string, unknown>[]; count: unknown }>(
      '/api/v1/audit-trail?q=holds&order=asc',
    )
    expect(trail.count).toEqual({ value: 2, exact: true })
    expect(trail.data.map(({ data_domain, intact, producer_id }) => ({ data_domain, intact, producer_id }))).toEqual([
      { data_domain: 'hr', intact: true, producer_id: 'demo/api' },
      { data_domain: 'finance', intact: true, producer_id: 'demo/api' },
    ])
  })
})

test('words never fail, whatever the bytes are: a record must be written, and what was tampered with stay readable', async () => {
  const login = new pg.Client(stack.wall.loginUrl)
  await login.connect()
  try {
    const words = async (bytes: Buffer): Promise<string> => {
      const { rows } = await login.query<{ words: string }>('SELECT signet.context_words($1, $2)::text AS words', [
        'acme',
        bytes,
      ])
      return rows[0]?.words ?? ''
    }
    const none = await words(Buffer.from('{}'))
    expect(none).toMatch(/^'=[0-9a-f]{32}'$/)
    for (const bytes of ['', '{', '[]', '"x"', '{"event":{"context":null}}', '{"event":7}'])
      expect([bytes, await words(Buffer.from(bytes))]).toEqual([bytes, none])
    expect(await words(Buffer.of(0xff, 0xfe))).toBe(none)
    expect(await words(Buffer.from('{"event":{"context":{"a":"\\\\u0000 =acme"}}}'))).toContain("'acme'")
  } finally {
    await login.end()
  }
})

describe('as the login that row level security holds', () => {
  const explain = async (condition: string): Promise<string> => {
    const pool = createPool({ url: stack.wall.loginUrl, size: 1, applicationName: 'test' })
    try {
      return await withTenant(pool, 'acme', async (login) => {
        await login.query(
          'SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off',
        )
        const { rows } = await login.query<{ 'QUERY PLAN': string }>(
          `EXPLAIN SELECT seq FROM signet.records WHERE tenant = 'acme' AND ${condition} ORDER BY seq DESC LIMIT 100`,
        )
        return rows.map((row) => row['QUERY PLAN']).join('\n')
      })
    } finally {
      await pool.end()
    }
  }

  // What is not LEAKPROOF is a filter there, applied to every record of the tenant.
  test.each(['actor', 'resource', 'resource_id', 'request_id', 'producer_id', 'event_type'])(
    'a filter by %s uses its index',
    async (column) => {
      expect(await explain(`${column} = 'x' AND md5(${column}) = md5('x')`)).toContain(`md5(${column}) =`)
      expect(await explain(`${column} = 'x' AND md5(${column}) = md5('x')`)).toMatch(/Index Cond: .*md5/)
    },
  )

  test('the function that searches words sees the tenant of the transaction only', async () => {
    const search = 'SELECT signet.search_words($1, $2, $3, NULL, NULL, NULL, false, 100) AS seq'
    const login = new pg.Client(stack.wall.loginUrl)
    await login.connect()
    try {
      const found = async (tenant: string | null): Promise<number> => {
        await login.query('BEGIN')
        if (tenant !== null) await login.query("SELECT set_config('signet.tenant', $1, true)", [tenant])
        const { rows } = await login.query(search, ['personal', [], []])
        await login.query('ROLLBACK')
        return rows.length
      }
      expect([
        await found('acme'),
        await found('globex'),
        await found('initech'),
        await found(null),
        await found(''),
      ]).toEqual([1, 1, 0, 0, 0])
      await login.query("SELECT set_config('signet.tenant', 'acme', false)")
      await expect(login.query(search, ['personal', ['tenant'], ['globex']])).rejects.toThrow('no column to search by')
      await expect(login.query(search, ['personal', ['seq IS NOT NULL OR true --'], ['x']])).rejects.toThrow(
        'no column',
      )
    } finally {
      await login.end()
    }
  })
})
