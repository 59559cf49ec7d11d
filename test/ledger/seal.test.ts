import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import type { Keyring } from '#core/keyring/schema.ts'
import { startLedgerStack, type LedgerStack } from '../support/ledger.ts'
import { buildEvent, buildLines, createClient, lineOf, type LogItem } from '../support/producer.ts'
import { findInDatabase } from '../support/wall-files.ts'

type Opened = { event: AuditEvent; missing: { path: string; why: string }[] }
type Item = LogItem & { opened?: Opened }

const WILMA = 'wilma.flintstone@bedrock.example'
const PHONE = '+49 30 901820'
/** What must be nowhere but in clear answers to who may see it. */
const PERSONAL = ['wilma.flintstone', 'fred-flintstone', PHONE, 'Bedrock Lane 7', 'pebbles', '198.51.100.7']

let stack: LedgerStack
const client = (name: string, ledger = 0) => createClient(stack.ledgers[ledger]?.url ?? '', stack.token(name))
const ledgerDirOf = (database: 'wall' | 'work') => ({
  database: stack[database],
  dataDir: path.join(stack.dir, database),
})

const personal = (): AuditEvent =>
  buildEvent({
    actor: WILMA,
    resource: `/customers/${WILMA}/orders?copy=wilma.flintstone%40bedrock.example`,
    resource_type: 'customer',
    resource_id: 'fred-flintstone',
    before: { address: { street: 'Bedrock Lane 7' }, tier: 'gold' },
    after: { children: 'pebbles of fred-flintstone', tier: 'silver' },
    context: { phone: PHONE, remote_ip: '198.51.100.7', note: `mail to ${WILMA}`, needle: 'findme' },
  })

let event: AuditEvent
let session: string
beforeAll(async () => {
  const reads = { tenant: 'acme', scopes: ['audit:read'] }
  stack = await startLedgerStack({
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      {
        name: 'globex-proxy',
        tenant: 'globex',
        producer_id: 'demo/api',
        scopes: ['audit:write', 'audit:read', 'audit:personal'],
      },
      { name: 'auditor', ...reads },
      { name: 'officer', tenant: 'acme', scopes: ['audit:read', 'audit:personal'] },
      { name: 'exporter', tenant: 'acme', scopes: ['audit:export', 'audit:export:raw', 'audit:read'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
    ],
    ledgers: 2,
  })
  event = personal()
  session = randomUUID()
  await client('proxy').append([lineOf({ session, spool_seq: 1, event })])
})
afterAll(() => stack.stop())

const onlyItem = async (name: string, query = `&trace_id=${event.trace_id}`): Promise<Item> => {
  const items = (await client(name).all(query)) as Item[]
  expect(items).toHaveLength(1)
  return items[0] as Item
}

describe('what is recorded', () => {
  it('names nobody: not on the wall, not in the work database, not in their files', async () => {
    expect(await findInDatabase(ledgerDirOf('wall'), [...PERSONAL, 'findme'])).toEqual(['findme'])
    expect(await findInDatabase(ledgerDirOf('work'), PERSONAL)).toEqual([])
    for (const ledger of stack.ledgers) for (const one of PERSONAL) expect(ledger.output()).not.toContain(one)
  })

  it('is a valid event with references and sealed values', async () => {
    const item = await onlyItem('auditor')
    expect(item.opened).toBeUndefined()
    expect(item.event).toMatchObject({
      event_id: event.event_id,
      actor: expect.stringMatching(/^subject:[0-9a-f-]{36}$/) as string,
      resource_id: expect.stringMatching(/^subject:[0-9a-f-]{36}$/) as string,
      before: { address: { sealed: 'v1' }, tier: 'gold' },
      after: { children: { sealed: 'v1' }, tier: 'silver' },
      context: { phone: { sealed: 'v1' }, needle: 'findme' },
    })
    expect(item.event.resource).toBe(`/customers/${item.event.actor}/orders?copy=${item.event.actor}`)
    expect(item.event.actor).not.toBe(item.event.resource_id)
  })

  it('opens for who may see it, exactly as it came in', async () => {
    const { opened } = await onlyItem('officer')
    expect(opened).toEqual({ event: { ...event, tenant: 'acme' }, missing: [] })
    const trail = await client('officer').get<{ data: AuditEvent[] }>(`/api/v1/audit-trail?trace_id=${event.trace_id}`)
    expect(trail.data[0]).toMatchObject({ actor: WILMA, context: event.context })
    const journey = await client('officer').get<{ events: Item[] }>(`/api/audit/traces/${event.trace_id}`)
    expect(journey.events[0]?.opened?.event.actor).toBe(WILMA)
    const closed = await client('auditor').get<{ events: Item[] }>(`/api/audit/traces/${event.trace_id}`)
    expect(JSON.stringify(closed)).not.toMatch(/wilma|Bedrock Lane/)
  })

  it('verifies', async () => {
    expect(await client('auditor').verify()).toMatchObject({ ok: true, head: { seq: 2 } })
  })

  it('opens in no other tenant', async () => {
    const sealed = (await onlyItem('auditor')).event
    const { 'signet:sealed': _, ...context } = sealed.context ?? {}
    const moved = buildEvent({ actor: sealed.actor, context })
    await client('globex-proxy').append(buildLines(randomUUID(), 1, 1, { ...moved, event_id: sealed.event_id }))
    const items = (await client('globex-proxy').all(`&actor=${sealed.actor}`)) as Item[]
    expect(items[0]?.opened).toMatchObject({
      event: { actor: sealed.actor },
      missing: expect.arrayContaining([
        { path: '/actor', subjects: [sealed.actor.slice(8)], why: 'unknown' },
      ]) as unknown,
    })
  })
})

describe('a hostile producer', () => {
  it('hides nobody else by references that it makes up', async () => {
    const victim = buildEvent({ actor: 'user:betty', trace_id: randomUUID().replaceAll('-', '') })
    const forged = Array.from({ length: 320 }, () => ({
      sealed: 'v1',
      subjects: Array.from({ length: 64 }, () => randomUUID()),
      text: 'AA',
    }))
    await client('proxy').append([lineOf({ session: randomUUID(), spool_seq: 1, event: victim })])
    const crowd = buildEvent({ actor: 'user:bamm', trace_id: victim.trace_id, after: forged })
    await client('proxy').append([lineOf({ session: randomUUID(), spool_seq: 1, event: crowd })])
    const items = (await client('officer').all(`&trace_id=${victim.trace_id}`)) as Item[]
    const seenOf = (one: AuditEvent) => items.find(({ event: { event_id } }) => event_id === one.event_id)?.opened
    expect(seenOf(victim)).toMatchObject({ event: { actor: 'user:betty' }, missing: [] })
    expect(seenOf(crowd)?.event.actor).toBe('user:bamm')
    expect(seenOf(crowd)?.missing).toHaveLength(320)
  })

  it('makes no record that cannot be read, and none that is many times what it sent', async () => {
    const nested = (depth: number): object => (depth === 0 ? { ip: '1' } : [nested(depth - 1)])
    const deep = buildEvent({ actor: 'user:betty', after: nested(59) })
    const wide = buildEvent({ actor: 'user:betty', after: Array.from({ length: 20_000 }, () => ({ ip: 1 })) })
    const session = randomUUID()
    const sent = [deep, wide].map((one, index) => lineOf({ session, spool_seq: index + 1, event: one }))
    expect((await client('proxy').append(sent)).acks).toHaveLength(2)
    for (const one of [deep, wide]) {
      const item = await onlyItem('officer', `&trace_id=${one.trace_id}`)
      expect(item.opened?.event.after).toEqual(one.after)
      expect(JSON.stringify(item.event).length).toBeLessThan(2 * JSON.stringify(one).length)
    }
    expect(await client('auditor').verify()).toMatchObject({ ok: true })
  })
})

describe('finding a person', () => {
  it.each([
    { query: `actor=${encodeURIComponent(WILMA)}`, want: 1 },
    { query: `actor=${encodeURIComponent(WILMA.toUpperCase())}`, want: 1 },
    { query: 'resource_id=fred-flintstone', want: 1 },
    { query: `actor=${encodeURIComponent(WILMA)}&resource_id=fred-flintstone&q=findme&count=true`, want: 1 },
    { query: `actor=${encodeURIComponent(WILMA)}&q=elsewhere`, want: 0 },
    { query: 'actor=user:nobody', want: 0 },
    { query: 'q=flintstone', want: 0 },
  ])('by $query: $want', async ({ query, want }) => {
    const { items } = await client('auditor').get<{ items: Item[] }>(`/api/audit/logs?${query}`)
    expect(items).toHaveLength(want)
  })

  it('a search for words says whether something sealed was passed over, and finds none of it', async () => {
    const contexts = [{ note: 'plain' }, { note: 'plain', user: 'dino' }, { note: 'plain', phone: PHONE }]
    const events = contexts.map((context, index) => {
      const trace_id = randomUUID().replaceAll('-', '')
      return { event: buildEvent({ actor: 'service:crm', trace_id, context }), line: index + 1 }
    })
    const own = randomUUID()
    await client('proxy').append(
      events.map((each) => lineOf({ session: own, spool_seq: each.line, event: each.event })),
    )
    const search = async (query: string, name = 'officer', list = '/api/audit/logs') => {
      type Answer = { items?: unknown[]; data?: unknown[]; sealed_excluded?: boolean }
      const { items, data, sealed_excluded } = await client(name).get<Answer>(`${list}?${query}`)
      return [(items ?? data)?.length, sealed_excluded]
    }
    const [plain, named, sealed] = events.map(({ event: { trace_id } }) => `trace_id=${trace_id}`)
    // Where looking takes too long the answer is true: on a machine that is busy, ask again.
    await expect.poll(() => search(`q=plain&${plain}`), { timeout: 30_000 }).toEqual([1, false])
    expect(await search(`q=plain&${named}`)).toEqual([1, true])
    expect(await search(`q=dino&${named}`)).toEqual([0, true])
    expect(await search(`q=plain&${sealed}`)).toEqual([1, true])
    expect(await search(`q=901820&${sealed}`, 'officer', '/api/v1/audit-trail')).toEqual([0, true])
    expect(await search(`${sealed}`)).toEqual([1, undefined])
    await expect.poll(() => search(`q=plain&${sealed}`, 'globex-proxy'), { timeout: 30_000 }).toEqual([0, false])
  })

  it('finds everything that is held about somebody, wherever it stands', async () => {
    const named = [
      buildEvent({ actor: 'barney' }),
      buildEvent({ actor: 'service:crm', resource_type: 'user', resource_id: 'barney' }),
      buildEvent({ actor: 'service:crm', context: { user: 'barney' } }),
      buildEvent({ actor: 'service:crm', context: { data_subject: 'barney', phone: PHONE } }),
      buildEvent({ actor: 'service:crm', before: { user: 'barney' }, after: null }),
      buildEvent({ actor: 'service:crm', context: { user: 'betty' } }),
    ]
    const own = randomUUID()
    await client('proxy').append(named.map((one, index) => lineOf({ session: own, spool_seq: index + 1, event: one })))
    const wanted = named.slice(0, 5).map(({ event_id }) => event_id)
    const answer = await client('officer').get<{ items: Item[]; matched_by: string[] }>(
      '/api/audit/subjects/barney/records?order=asc',
    )
    expect(answer.items.map((item) => item.event.event_id)).toEqual(wanted)
    expect(answer.matched_by).toEqual(['actor', 'resource_id', 'sealed_for'])
    expect(answer.items.map((item) => item.opened?.missing)).toEqual(Array.from({ length: 5 }, () => []))
    expect(answer.items[3]?.opened?.event.context).toEqual({ data_subject: 'barney', phone: PHONE })
    const ref = answer.items[0]?.event.actor ?? ''
    const byRef = await client('auditor').get<{ items: Item[] }>(`/api/audit/subjects/${ref}/records?limit=3`)
    expect(byRef.items.map((item) => item.event.event_id)).toEqual(wanted.slice(2).toReversed())
    expect(JSON.stringify(byRef)).not.toContain('barney')
  })
})

describe('the same again', () => {
  it('is recognised by the bytes received', async () => {
    const line = lineOf({ session, spool_seq: 1, event })
    const first = await client('proxy', 1).append([line])
    expect(first.acks).toMatchObject([{ event_id: event.event_id, seq: 2 }])
    const other = await client('proxy').append([
      lineOf({ session, spool_seq: 9, event: { ...event, outcome: 'denied' } }),
    ])
    expect(other.refused).toMatchObject([{ code: 'EVENT_ID_CONFLICT' }])
  })

  it('refuses an event that says it is sealed already', async () => {
    const line = lineOf({ session, spool_seq: 10, event: buildEvent({ context: { 'signet:sealed': { a: 1 } } }) })
    expect((await client('proxy').append([line])).refused).toMatchObject([{ code: 'AUDIT_EVENT_INVALID' }])
  })

  it('is one person, however many processes meet the name first', async () => {
    const names = Array.from({ length: 60 }, (_, n) => `user:race-${n}`)
    await Promise.all(
      [0, 1, 0, 1].map((ledger) => {
        const own = randomUUID()
        const lines = names.map((actor, index) =>
          lineOf({ session: own, spool_seq: index + 1, event: buildEvent({ actor }) }),
        )
        return client('proxy', ledger).append(lines)
      }),
    )
    for (const actor of [names[0], names[59]]) {
      const items = await client('auditor').all(`&actor=${actor}`)
      expect(items).toHaveLength(4)
      expect(new Set(items.map((item) => item.event.actor)).size).toBe(1)
    }
    expect((await client('auditor').verify()).ok).toBe(true)
  })
})

it('exports ciphertext, and says of whom by reference', async () => {
  const exporter = client('exporter')
  const asked = await exporter.post('/api/audit/exports', JSON.stringify({ raw: true, actor: WILMA }))
  expect(asked.status).toBe(202)
  const { id } = (await asked.json()) as { id: string }
  const path_ = `/api/audit/exports/${id}`
  await expect.poll(async () => (await exporter.get<{ state: string }>(path_)).state, { timeout: 60_000 }).toBe('done')
  const answer = await fetch(`${exporter.url}${path_}/package`, { headers: exporter.headers })
  const unzipped = gunzipSync(Buffer.from(await answer.arrayBuffer())).toString('latin1')
  for (const one of [...PERSONAL, WILMA]) expect(unzipped).not.toContain(one)
  expect(unzipped).toContain(event.event_id)
  // What was asked is on record without the name, too.
  expect(await findInDatabase(ledgerDirOf('wall'), PERSONAL)).toEqual([])
  expect(await findInDatabase(ledgerDirOf('work'), PERSONAL)).toEqual([])
})

describe('master keys', () => {
  const changed = (change: (keys: Keyring['keys']) => Keyring['keys']): string =>
    JSON.stringify({ ...stack.keyring, keys: change(structuredClone(stack.keyring.keys)) })
  async function startWith(keyring: string) {
    const file = path.join(stack.dir, `keyring-${randomUUID()}.json`)
    await writeFile(file, keyring, { mode: 0o600 })
    return { file, ledger: await stack.startLedger({ env: { SIGNET_LEDGER_KEYRING: file } }) }
  }
  const other = {
    use: 'seal-master',
    alg: 'XAES-256-GCM',
    not_before: '2020-01-01T00:00:00.000Z',
    not_after: '2100-01-01T00:00:00.000Z',
  } as const

  it('a wrong one opens nothing, records nothing in clear, and shows', async () => {
    const secret = Buffer.alloc(32, 9).toString('base64url')
    const { ledger } = await startWith(
      changed((keys) => keys.map((key) => (key.use === 'seal-master' ? { ...key, secret } : key))),
    )
    const ready = (await (await fetch(`${ledger.url}/readyz`)).json()) as { checks: Record<string, string> }
    expect(ready.checks['sealing']).toMatch(/seal-master «seal-1» wrapped does not open/)
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const refused = await proxy.ingest(buildLines(randomUUID(), 1, 1, { actor: 'user:new-under-wrong-key' }))
    expect([refused.status, ((await refused.json()) as { code: string }).code]).toEqual([503, 'SEAL_KEY_UNAVAILABLE'])
    // What is nobody's goes on.
    await proxy.append(buildLines(randomUUID(), 1, 1, { actor: 'anonymous' }))
    const found = await fetch(`${ledger.url}/api/audit/logs?trace_id=${event.trace_id}`, {
      headers: client('officer').headers,
    })
    const [item] = ((await found.json()) as { items: Item[] }).items
    expect(item?.opened?.missing.map(({ why }) => why)).toEqual(Array(item?.opened?.missing.length).fill('damaged'))
    expect(item?.opened?.event.actor).toMatch(/^subject:/)
    await ledger.stop()
  })

  it('a new one takes over, and the former may then go', async () => {
    const added = { ...other, key_id: 'seal-2', secret: Buffer.alloc(32, 5).toString('base64url') }
    const { ledger } = await startWith(changed((keys) => [added, ...keys]))
    const masters = async (): Promise<string[]> => {
      const { Client } = (await import('pg')).default
      const admin = new Client({ connectionString: stack.work.adminUrl })
      await admin.connect()
      const { rows } = await admin.query<{ id: string }>(
        'SELECT DISTINCT master_key_id AS id FROM signet.subjects UNION SELECT master_key_id FROM signet.seal_tenants',
      )
      await admin.end()
      return rows.map(({ id }) => id)
    }
    await expect.poll(masters, { timeout: 30_000 }).toEqual(['seal-2'])
    await ledger.stop()
    const { ledger: later } = await startWith(
      changed((keys) => [added, ...keys.filter(({ use }) => use !== 'seal-master')]),
    )
    const found = await fetch(`${later.url}/api/audit/logs?trace_id=${event.trace_id}`, {
      headers: client('officer').headers,
    })
    expect(((await found.json()) as { items: Item[] }).items[0]?.opened).toMatchObject({
      event: { actor: WILMA },
      missing: [],
    })
    await later.stop()
    // Back under the first for what follows.
    const { ledger: back } = await startWith(changed((keys) => [...keys, added]))
    await expect.poll(masters, { timeout: 30_000 }).toEqual(['seal-1'])
    await back.stop()
  })

  it('without one the ledger does not start, unless it is told to seal nothing', async () => {
    const file = path.join(stack.dir, 'keyring-without.json')
    await writeFile(
      file,
      changed((keys) => keys.filter(({ use }) => use !== 'seal-master')),
      { mode: 0o600 },
    )
    await expect(stack.startLedger({ env: { SIGNET_LEDGER_KEYRING: file } })).rejects.toThrow(
      /no valid key with use .{0,3}seal-master/,
    )
    const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_KEYRING: file, SIGNET_LEDGER_SEALING: 'off' } })
    expect(ledger.output()).toMatch(/recorded in clear/)
    await createClient(ledger.url, stack.token('proxy')).append(
      buildLines(randomUUID(), 1, 1, { actor: 'user:in-clear' }),
    )
    await ledger.stop()
    // Records from before sealing are found by who seals, beside those from after.
    await client('proxy').append(buildLines(randomUUID(), 1, 1, { actor: 'user:in-clear' }))
    const items = await client('auditor').all('&actor=user:in-clear')
    expect(items.map((item) => item.event.actor.replace(/subject:.*/, 'subject'))).toEqual(['subject', 'user:in-clear'])
    // The command that the message names.
    await new Promise<void>((resolve, reject) =>
      execFile(
        process.execPath,
        [path.join(import.meta.dirname, '../../cli/main.ts'), 'keys', 'rotate', file, '--use', 'seal-master'],
        (error) => (error === null ? resolve() : reject(error)),
      ),
    )
    expect(await readFile(file, 'utf8')).toContain('seal-master')
  })
})

it('goes on while the work database is away, for people that it has just met', async () => {
  const own = randomUUID()
  await client('proxy').append(buildLines(own, 1, 1, { actor: 'user:just-met' }))
  await stack.work.server.kill('SIGKILL')
  await sleep(1_100)
  try {
    const known = await client('proxy').ingest(buildLines(own, 2, 1, { actor: 'user:just-met' }))
    const unknown = await client('proxy').ingest(buildLines(randomUUID(), 1, 1, { actor: 'user:never-met' }))
    expect([known.status, unknown.status]).toEqual([200, 503])
  } finally {
    await stack.work.restart()
  }
  await expect
    .poll(
      async () => (await client('proxy').ingest(buildLines(randomUUID(), 1, 1, { actor: 'user:never-met' }))).status,
      { timeout: 30_000 },
    )
    .toBe(200)
  expect((await client('auditor').all('&actor=user:just-met')).map((item) => item.event.actor)).toHaveLength(2)
})

describe('residency', () => {
  it('is enforced when something is written, and says where data live', async () => {
    const file = path.join(stack.dir, 'residency.yaml')
    await writeFile(
      file,
      `version: 1
here: eu-1
stores: [{ name: eu-1, regions: [eu] }, { name: us-1, regions: [us] }]
rules:
  - { tenant: acme, users: ['user:*@us.example'], region: us }
  - { tenant: acme, event_region: 'us-*', region: us }
  - { tenant: acme, region: eu }
`,
    )
    const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_RESIDENCY: file } })
    const proxy = createClient(ledger.url, stack.token('proxy'))
    const post = async (overrides: Partial<AuditEvent>) => {
      const answer = await proxy.post('/api/audit/logs', JSON.stringify(buildEvent(overrides)))
      return [answer.status, ((await answer.json()) as { code?: string }).code]
    }
    expect(await post({ actor: 'user:ann@eu.example' })).toEqual([201, undefined])
    expect(await post({ actor: 'user:bob@us.example' })).toEqual([422, 'RESIDENCY_VIOLATION'])
    expect(await post({ actor: 'service:x', resource_type: 'user', resource_id: 'user:bob@us.example' })).toEqual([
      422,
      'RESIDENCY_VIOLATION',
    ])
    expect(await post({ region: 'us-east-1' })).toEqual([422, 'RESIDENCY_VIOLATION'])
    const own = randomUUID()
    const batch = await proxy.append([
      lineOf({ session: own, spool_seq: 1, event: buildEvent({ actor: 'user:bob@us.example' }) }),
      lineOf({ session: own, spool_seq: 2, event: buildEvent({ actor: 'user:ann@eu.example' }) }),
    ])
    expect([batch.acks.length, batch.refused.map(({ code }) => code)]).toEqual([1, ['RESIDENCY_VIOLATION']])
    const refused = await client('auditor').all('&event_type=audit.refused&outcome=denied')
    expect(refused.filter((item) => JSON.stringify(item.event.context).includes('RESIDENCY_VIOLATION'))).toHaveLength(4)
    expect(await findInDatabase(ledgerDirOf('wall'), ['bob@us.example'])).toEqual([])

    const admin = createClient(ledger.url, stack.token('admin'))
    expect(await admin.get('/api/audit/residency')).toMatchObject({
      tenant: 'acme',
      enforced: true,
      store: { name: 'eu-1', regions: ['eu'] },
      rules: [
        { users: ['user:*@us.example'], region: 'us', store: 'us-1', here: false },
        { event_region: 'us-*', region: 'us', here: false },
        { users: null, region: 'eu', store: 'eu-1', here: true },
      ],
    })
    expect(await client('admin').get('/api/audit/residency')).toMatchObject({ enforced: false, store: null })
    await ledger.stop()
  })
})
