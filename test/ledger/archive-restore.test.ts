import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { ListObjectVersionsCommand } from '@aws-sdk/client-s3'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { publishPolicy } from '#core/retention/published.ts'
import { extendLocks, leadOf } from '#ledger/archive/locks.ts'
import { takeSnapshot } from '#ledger/archive/snapshot.ts'
import { publicKeysOf } from '#ledger/archive/public-keys.ts'
import { ledgerKeys } from '#ledger/keys.ts'
import { readSnapshots } from '#ledger/store/snapshots.ts'
import { ArchivedCheckpoints } from '#runtime/archive/checkpoints.ts'
import { openObjectStore, type ObjectStore } from '#runtime/archive/object-store.ts'
import { createPool, type Pool } from '#runtime/postgres/transaction.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { startObjectStore, type TestObjectStore } from '#test/support/object-store.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'
import { createPastLedger, makePastMonth, monthOf } from '#test/support/retention.ts'

/** A wall with tenants, classes, a purged month, a hold and sealed people; its archive, and what comes back from that alone. In order. */
const BUCKET = 'archive'
const CLI = path.resolve('cli/bin.mjs')
const DAY_MS = 86_400_000
const RETAIN_DAYS = 2_557
const daysAgo = (days: number): Date => new Date(Date.now() - days * DAY_MS)
const CLASS = 'h30_a60'
const [OLDER, OLD] = [daysAgo(150), daysAgo(100)]
const [ALICE, BOB] = ['alice.liddell@oxford.example', 'bob.dodgson@oxford.example']
const payments = publishPolicy(
  { name: 'payments', uid: '', generation: 1 },
  { selector: { dataDomains: ['payments'] }, hot: '30d', archive: '60d' },
)
const trades = publishPolicy(
  { name: 'trades', uid: '', generation: 1 },
  { selector: { dataDomains: ['trades'] }, hot: '90d', archive: '4000d' },
)
const session = { acme: randomUUID(), globex: randomUUID(), initech: randomUUID() }
const sent = { acme: 0, globex: 0, initech: 0 }
type Tenant = keyof typeof sent

let stack: LedgerStack
let other: LedgerStack
let store: TestObjectStore
let objects: ObjectStore
let wall: Pool
let work: Pool
let env: Record<string, string>

beforeAll(async () => {
  const identities = (['acme', 'globex', 'initech'] as const).flatMap((tenant) => [
    { name: tenant, tenant, producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
    { name: `${tenant}-admin`, tenant, scopes: ['audit:admin', 'audit:read', 'audit:personal'] },
  ])
  ;[store, stack, other] = await Promise.all([
    startObjectStore(),
    startLedgerStack({ ledgers: 0, identities }),
    startLedgerStack({ ledgers: 0 }),
  ])
  await store.createBucket(BUCKET)
  objects = openObjectStore({
    bucket: BUCKET,
    region: store.region,
    endpoint: store.endpoint,
    prefix: '',
    credentials: store.credentials,
  })
  wall = createPool({ url: stack.wall.loginUrl, size: 2, applicationName: 'archive test' })
  work = createPool({ url: stack.work.loginUrl, size: 2, applicationName: 'archive test' })
  env = {
    SIGNET_ARCHIVE_BUCKET: BUCKET,
    SIGNET_ARCHIVE_ENDPOINT: store.endpoint,
    SIGNET_ARCHIVE_EVERY_MINUTES: '0',
    AWS_ACCESS_KEY_ID: store.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.credentials.secretAccessKey,
    SIGNET_LEDGER_PURGE_EVERY_MINUTES: '0',
    SIGNET_LEDGER_VERIFY_SHARE: '0',
    SIGNET_LEDGER_RETENTION_POLICIES: path.join(stack.dir, 'policies.json'),
  }
  await writeFile(path.join(stack.dir, 'policies.json'), JSON.stringify({ version: 1, policies: [trades] }))
  await asAdmin(stack, async (admin) => {
    await admin.query('SELECT signet.ensure_retention_class(30, 60, false, true)')
    await makePastMonth(admin, CLASS, monthOf(OLDER))
    await makePastMonth(admin, CLASS, monthOf(OLD))
  })
  const past = await createPastLedger(stack, [payments])
  for (const at of [OLDER, OLD]) {
    for (const tenant of ['acme', 'globex'] as const)
      await past.append(tenant, lines(tenant, 9, { data_domain: 'payments', timestamp_utc: at.toISOString() }), at)
    await past.append('acme', [stamped({ data_domain: 'payments', timestamp_utc: at.toISOString() })], at)
    await past.sign(at)
  }
  // Purges wait for a clock that leaps: the last checkpoint is of the day before yesterday, as where little goes on.
  await past.append('acme', lines('acme', 1), daysAgo(1.8))
  await past.sign(daysAgo(1.8))
  await past.stop()
  await stack.startLedger({ env })
})
afterAll(async () => {
  await Promise.all([wall?.end(), work?.end()])
  objects?.close()
  await other?.stop()
  await stack?.stop()
  await store?.stop()
})

function lines(tenant: Tenant, count: number, overrides: Parameters<typeof buildEvent>[0] = {}): string[] {
  const first = sent[tenant] + 1
  sent[tenant] += count
  return buildLines(session[tenant], first, count, { actor: 'service:one', ...overrides })
}
function stamped(overrides: Parameters<typeof buildEvent>[0]): string {
  const event = buildEvent({ actor: 'service:one', ...overrides })
  const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
  return lineOf({
    session: session.acme,
    spool_seq: ++sent.acme,
    event: { ...event, stamp_hash: stampHashOf(stamp) },
    stamp,
  })
}
async function asAdmin<T>(of: LedgerStack, action: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client(of.wall.adminUrl)
  await admin.connect()
  try {
    return await action(admin)
  } finally {
    await admin.end()
  }
}
const url = (): string => stack.ledgers.at(-1)?.url ?? ''
const client = (who: string) => createClient(url(), stack.token(who))
async function post(
  who: string,
  target: string,
  body: unknown,
): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await client(who).post(target, JSON.stringify(body))
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}
async function snapshotOfAll(): Promise<void> {
  await vi.waitFor(
    () =>
      asAdmin(stack, async (admin) => {
        const { rows } = await admin.query<{ links: string; size: string }>(
          'SELECT (SELECT count(*) FROM signet.links) AS links, (SELECT max(size) FROM signet.tree_checkpoints) AS size',
        )
        expect(rows[0]?.size).toBe(rows[0]?.links)
      }),
    { timeout: 60_000, interval: 200 },
  )
  expect((await post('acme-admin', '/api/audit/archive/snapshots', '')).status).toBe(201)
}
async function signet(args: string[], more: Record<string, string> = {}): Promise<{ code: number; output: string }> {
  const run = promisify(execFile)(process.execPath, [CLI, ...args, '--json', '--keyring', stack.keyringFile], {
    env: { PATH: process.env['PATH'], ...env, ...more },
  })
  return run.then(
    ({ stdout }) => ({ code: 0, output: stdout }),
    ({ code, stdout, stderr }: { code: number; stdout: string; stderr: string }) => ({ code, output: stdout + stderr }),
  )
}
type Opened = { event: { actor: string }; opened?: { event: { actor: string }; missing: unknown[] } }
async function actorOf(event: { trace_id: string }): Promise<string> {
  const [item] = (await client('acme-admin').all(`&trace_id=${event.trace_id}`)) as unknown as Opened[]
  return item?.opened?.event.actor ?? item?.event.actor ?? ''
}

const [alices, bobs] = [buildEvent({ actor: ALICE }), buildEvent({ actor: BOB })]
const personLine = (event: ReturnType<typeof buildEvent>): string =>
  lineOf({ session: session.acme, spool_seq: ++sent.acme, event })

describe('a wall with all that it can have', () => {
  it('is archived, purged of a month, held, and forgets somebody', async () => {
    await client('acme').append([...lines('acme', 20), ...lines('acme', 5, { data_domain: 'trades' }), stamped({})])
    await client('acme').append([personLine(alices), personLine(bobs)])
    await client('globex').append(lines('globex', 6, { data_domain: 'trades' }))
    await client('initech').append(lines('initech', 3))
    await snapshotOfAll()
    const purged = await post('acme-admin', '/api/audit/purges', {
      retention_class: CLASS,
      month: monthOf(OLDER).slice(0, 7),
    })
    expect(purged, JSON.stringify(purged.body)).toMatchObject({ status: 200, body: { items: [{ state: 'purged' }] } })
    expect((await post('globex-admin', '/api/audit/holds', { reason: 'case 7' })).status).toBe(201)
    expect((await post('acme-admin', '/api/audit/erasures', { subject: ALICE })).status).toBe(201)
    await client('initech').append(lines('initech', 4))
    await snapshotOfAll()
    expect(await signet(['archive', 'verify'])).toMatchObject({
      code: 0,
      output: expect.stringContaining('"tenants":3'),
    })
  })

  it('comes back from the archive alone, as it was, and verifies up to the last checkpoint that the archive has', async () => {
    const restored = await signet(['archive', 'restore'], { SIGNET_LEDGER_AUDIT_DB_OWNER_URL: other.wall.adminUrl })
    expect(restored, restored.output).toMatchObject({ code: 0 })
    const fsck = await signet(['fsck', '--archive'], { SIGNET_LEDGER_AUDIT_DB_URL: other.wall.loginUrl })
    expect(fsck, fsck.output).toMatchObject({ code: 0 })
    expect(JSON.parse(fsck.output)).toMatchObject({ result: 'verified', not_yet_proven: 0, faults: [] })
    const counts = (of: LedgerStack): Promise<Record<string, unknown>> =>
      asAdmin(of, async (admin) => {
        const found: Record<string, unknown> = {}
        for (const table of [
          'links',
          'class_stamps',
          'compliance_stamps',
          'legal_holds',
          'purges',
          'purge_summaries',
          'purged_sessions',
          'tree_runs',
          'tree_tiles',
          'tree_checkpoints',
          'retention_classes',
        ])
          found[table] = (await admin.query(`SELECT count(*) AS n FROM signet.${table}`)).rows[0].n
        found['records'] = (
          await admin.query(
            'SELECT tenant, retention_class, month::text, count(*) AS n, md5(string_agg(bytes::text, seq::text ORDER BY seq)) FROM signet.records GROUP BY 1, 2, 3 ORDER BY 1, 2, 3',
          )
        ).rows
        found['months'] = (
          await admin.query(
            "SELECT c.relname, pg_table_size(c.oid) > 0 AS used FROM pg_class c WHERE c.relname LIKE $1 AND c.relkind = 'r' ORDER BY 1",
            [`%${CLASS}_${monthOf(OLD).slice(0, 7).replace('-', '_')}`],
          )
        ).rows.map(({ relname }) => relname)
        return found
      })
    const [was, is] = await Promise.all([counts(stack), counts(other)])
    expect(is).toEqual(was)
    const ofClass = (month: Date): unknown => expect.objectContaining({ retention_class: CLASS, month: monthOf(month) })
    expect(is['records']).not.toContainEqual(ofClass(OLDER))
    expect(is['records']).toContainEqual(ofClass(OLD))
    expect(is['months']).toHaveLength(2)
  })

  it('and opens who was not forgotten, and nobody else', async () => {
    await stack.ledgers.at(-1)?.stop()
    await stack.startLedger({ env: { ...env, SIGNET_LEDGER_AUDIT_DB_URL: other.wall.loginUrl } })
    expect(await actorOf(bobs)).toBe(BOB)
    expect(await actorOf(alices)).toMatch(/^subject:/)
    await client('initech').append(lines('initech', 2))
    expect(await client('initech').verify()).toMatchObject({ ok: true })
    await stack.ledgers.at(-1)?.stop()
  })
})

/** With what is called counted. */
function counting(of: ObjectStore): { store: ObjectStore; puts: string[]; extended: string[] } {
  const [puts, extended]: string[][] = [[], []]
  const counted: ObjectStore = {
    ...of,
    put: (key, body, until) => {
      puts!.push(key)
      return of.put(key, body, until)
    },
    extendLock: (key, version, until) => {
      extended!.push(key)
      return of.extendLock(key, version, until)
    },
  }
  return { store: counted, puts: puts!, extended: extended! }
}

describe('a snapshot that was interrupted', () => {
  it('goes on with what it had written', async () => {
    const keys = ledgerKeys(JSON.stringify(stack.keyring))
    const from = (counted: ObjectStore) => ({
      wall,
      work,
      keys,
      store: counted,
      clock: () => new Date(),
      retainDays: RETAIN_DAYS,
    })
    const first = counting(objects)
    let left = 5
    const interrupted = takeSnapshot(from(first.store), null, async () => {
      if (left-- === 0) throw new Error('killed')
    })
    await expect(interrupted).rejects.toThrow('killed')
    expect(first.puts).toHaveLength(5)
    const second = counting(objects)
    const made = await takeSnapshot(from(second.store), null, async () => undefined)
    expect(second.puts.filter((key) => first.puts.includes(key))).toEqual([])
    expect(made?.objects).toBe(first.puts.length + second.puts.length - 1)
    expect(new Set([...first.puts, ...second.puts].map((key) => key.split('/')[1])).size).toBe(1)
    expect(await signet(['archive', 'verify', '--snapshot', made?.snapshot ?? ''])).toMatchObject({ code: 0 })
    const { Versions = [] } = await store.s3.send(
      new ListObjectVersionsCommand({ Bucket: BUCKET, Prefix: made?.manifestKey.replace('manifest.json', '') ?? '' }),
    )
    expect(Versions.length).toBe(first.puts.length + second.puts.length)
  })
})

describe('locks', () => {
  it('are made longer before they end, for all that is needed; not for what was purged', async () => {
    const [last] = await readSnapshots(work, 1)
    const later = Date.now() + RETAIN_DAYS * DAY_MS - leadOf(RETAIN_DAYS) / 2
    const counted = counting(objects)
    const keys = ledgerKeys(JSON.stringify(stack.keyring))
    const deps = {
      work,
      store: counted.store,
      keys,
      reader: poolReader(wall),
      archived: new ArchivedCheckpoints({
        store: objects,
        publicKeys: () => publicKeysOf(keys),
        origin: null,
        clock: () => new Date(),
      }),
      retainDays: RETAIN_DAYS,
    }
    const beat = async (): Promise<void> => undefined
    const soon = await extendLocks({ ...deps, clock: () => new Date() }, beat)
    expect(counted.extended).toEqual([])
    expect(soon?.getTime()).toBeLessThan(later + leadOf(RETAIN_DAYS))
    const ends = await extendLocks({ ...deps, clock: () => new Date(later) }, beat)
    expect(ends?.getTime()).toBeGreaterThan(later + leadOf(RETAIN_DAYS))
    const manifest = await objects.get(last!.manifestKey, { maxBytes: 10_000_000 })
    const { tenants, runs } = JSON.parse(manifest.toString()) as {
      runs: { key: string }[]
      tenants: {
        links: { key: string }[]
        parts: { month: string; retention_class: string; objects: { key: string }[] }[]
      }[]
    }
    const partKeys = (month: Date, retentionClass: string): string[] =>
      tenants.flatMap(({ parts }) =>
        parts
          .filter((part) => part.month === monthOf(month) && part.retention_class === retentionClass)
          .flatMap((part) => part.objects.map(({ key }) => key)),
      )
    const needed = [
      last!.manifestKey,
      ...runs.map(({ key }) => key),
      ...tenants.flatMap(({ links }) => links.map(({ key }) => key)),
    ]
    for (const key of [...needed, ...partKeys(OLD, CLASS)]) expect(counted.extended).toContain(key)
    expect(partKeys(OLDER, CLASS)).toHaveLength(2)
    for (const key of partKeys(OLDER, CLASS)) expect(counted.extended).not.toContain(key)
    for (const key of needed)
      expect((await objects.lockedUntil(key))?.getTime()).toBeGreaterThan(later + leadOf(RETAIN_DAYS))
    const again = counting(objects)
    await extendLocks({ ...deps, store: again.store, clock: () => new Date(later) }, beat)
    expect(again.extended).toEqual([])
  })
})
