import { execFile } from 'node:child_process'
import { copyFile, mkdir, readdir, symlink, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { OWNER_ROLE } from '#ledger/store/migrations.ts'
import { migrate } from '#runtime/postgres/migrate.ts'
import { provisionDatabase } from '#runtime/postgres/provision.ts'
import { asAdmin } from '#test/fault/administer.ts'
import { reconcile, startLoad, type Load } from '#test/fault/load.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack, type TestDatabase } from '#test/support/ledger.ts'
import { createClient } from '#test/support/producer.ts'
import { fsck, newestCheckpoint } from './standby-fsck.ts'

/**
 * The former version's ledger itself (its sources, frozen by upgrade-freeze.ts) serves while the newer migrations run, one at a time, under
 * load; then it and the present one serve side by side, as in a rolling upgrade; then the present one alone.
 */
const FORMER = path.join(import.meta.dirname, 'upgrade-ledger-0003.tar.gz')
const ROOT = path.join(import.meta.dirname, '../..')
const STORES = ['wall', 'work'] as const
type Store = (typeof STORES)[number]
const NAMES = ['proxy', 'second', 'globex-proxy']
const READERS = ['auditor', 'globex-proxy']
/** No migration may hold appends up for longer, at the size of this test; what it costs at size is in docs/operations.md. */
const LONGEST_PAUSE_MS = 10_000

let stack: LedgerStack
let former: LedgerProcess
let load: Load
let formerMain: string
let migrations: Record<Store, string[]>
/** What the present version has and the former has not, in the order in which they run. */
const newer: { store: Store; name: string }[] = []

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  const dir = path.join(stack.dir, 'former')
  await mkdir(dir)
  await promisify(execFile)('tar', ['-xzf', FORMER, '-C', dir])
  await symlink(path.join(ROOT, 'node_modules'), path.join(dir, 'node_modules'))
  formerMain = path.join(dir, 'ledger/main.ts')
  migrations = { wall: await sqlOf(ROOT, 'wall'), work: await sqlOf(ROOT, 'work') }
  for (const store of STORES) {
    const had = new Set(await sqlOf(dir, store))
    for (const name of migrations[store]) if (!had.has(name)) newer.push({ store, name })
  }
  newer.sort((a, b) => (a.name < b.name ? -1 : 1))
  for (const store of STORES) await startOver(stack[store], `signet_${store}`)
  await promisify(execFile)(process.execPath, [formerMain, 'migrate'], {
    env: {
      PATH: process.env['PATH'],
      SIGNET_LEDGER_AUDIT_DB_OWNER_URL: stack.wall.adminUrl,
      SIGNET_LEDGER_STATE_OWNER_URL: stack.work.adminUrl,
    },
  })
  former = await stack.startLedger({ main: formerMain, env: { SIGNET_LEDGER_KEYRING: await formerKeyring() } })
})
afterAll(() => stack?.stop())

async function sqlOf(root: string, store: Store): Promise<string[]> {
  const names = await readdir(path.join(root, 'ledger/store', store, 'migrations'))
  return names.filter((name) => name.endsWith('.sql')).toSorted()
}

/** An empty database again: the stack comes with all migrations. */
async function startOver(of: TestDatabase, database: string): Promise<void> {
  const elsewhere = Object.assign(new URL(of.adminUrl), { pathname: '/postgres' }).toString()
  await asAdmin(elsewhere, (client) => client.query(`DROP DATABASE ${database}`))
  const loginPassword = decodeURIComponent(new URL(of.loginUrl).password)
  const roles = { ownerRole: OWNER_ROLE, loginRole: 'signet_ledger', loginPassword }
  await provisionDatabase({ adminUrl: elsewhere, database, ...roles })
}

/** The keys that the former version had: kinds of keys that came later are for the present one. */
async function formerKeyring(): Promise<string> {
  const file = path.join(stack.dir, 'former-keyring.json')
  const keys = stack.keyring.keys.filter(({ use }) =>
    ['chain', 'ack', 'stamp', 'stamp-root', 'workload-ca'].includes(use),
  )
  await writeFile(file, JSON.stringify({ ...stack.keyring, keys }), { mode: 0o600 })
  return file
}

/** Runs a store's migrations up to and with one. */
async function migrateTo(store: Store, name: string): Promise<string[]> {
  const dir = path.join(stack.dir, `${store}-${path.basename(name, '.sql')}`)
  await mkdir(dir)
  for (const one of migrations[store].filter((other) => other <= name))
    await copyFile(path.join(ROOT, 'ledger/store', store, 'migrations', one), path.join(dir, one))
  return migrate({ url: stack[store].adminUrl, ownerRole: OWNER_ROLE, schema: 'signet', dir })
}

async function grown(by: number): Promise<void> {
  const want = load.total() + by
  await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(want)
}

async function expectVerified(ledger: LedgerProcess): Promise<void> {
  for (const reader of READERS)
    expect(await createClient(ledger.url, stack.token(reader)).verify()).toMatchObject({ ok: true })
}

test('the former version serves while the newer migrations run, one after the other', async () => {
  expect(newer.length).toBeGreaterThan(0)
  const urls = [former.url]
  load = startLoad(stack, { urls: () => urls, names: NAMES, patienceMs: 30_000 })
  await grown(1_500)
  for (const { store, name } of newer) {
    const startedAt = performance.now()
    expect(await migrateTo(store, name)).toEqual([path.basename(name, '.sql')])
    await grown(300)
    expect(performance.now() - startedAt, `${store} ${name}`).toBeLessThan(LONGEST_PAUSE_MS)
  }
  await load.stop()
  // Nothing was refused or put off: a migration is a pause at most.
  expect(load.broken()).toBe(0)
  await expectVerified(former)
  await reconcile(stack, load, { url: former.url, readers: READERS })
})

test('former and present version side by side: each records, reads and verifies what the other wrote', async () => {
  const present = await stack.startLedger()
  const urls = [former.url, present.url]
  load = startLoad(stack, { urls: () => urls, names: NAMES })
  await grown(1_500)
  await load.stop()
  for (const ledger of [former, present]) {
    await expectVerified(ledger)
    await reconcile(stack, load, { url: ledger.url, readers: READERS })
  }
  // A pod of the former version that is started again while the upgrade goes on.
  await former.stop()
  former = await stack.startLedger({ main: formerMain, env: { SIGNET_LEDGER_KEYRING: await formerKeyring() } })
  await expect.poll(async () => (await fetch(`${former.url}/readyz`)).status, { timeout: 20_000 }).toBe(200)
  await expectVerified(former)
  await former.stop()
  // It does not take a keyring with kinds of keys that it does not know: docs/operations.md says what that means for the way back.
  await expect(stack.startLedger({ main: formerMain })).rejects.toThrow(/KEYRING_INVALID|keyring/)
})

test('the present version alone: everything of the former is there and verifies', async () => {
  const [present] = stack.ledgers.slice(-2)
  if (present === undefined) throw new Error('no ledger')
  load = startLoad(stack, { urls: () => [present.url], names: NAMES })
  await grown(500)
  await load.stop()
  await reconcile(stack, load, { url: present.url, readers: READERS })
  const links = (await Promise.all(READERS.map((reader) => createClient(present.url, stack.token(reader)).verify())))
    .map(({ head }) => head.seq)
    .reduce((sum, seq) => sum + seq, 0)
  await expect.poll(async () => (await newestCheckpoint(present.url)).size, { timeout: 30_000 }).toBe(links)
  const checkpoint = path.join(stack.dir, 'now.checkpoint')
  await writeFile(checkpoint, (await newestCheckpoint(present.url)).note)
  expect(await fsck(stack, stack.wall.loginUrl, '--checkpoint', checkpoint)).toMatchObject({ code: 0 })
})
