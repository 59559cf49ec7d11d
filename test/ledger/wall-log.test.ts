import path from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { migrateWall } from '#ledger/store/migrations.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'

type Attempt = { kind: string; database_role: string | null; command: string; count: number; sqlstate: string | null }

let stack: LedgerStack
let admin: pg.Client
let env: Record<string, string>

beforeAll(async () => {
  const identities = [{ name: 'reader', tenant: 'platform', scopes: ['audit:read'] }]
  stack = await startLedgerStack({ identities, ledgers: 0, wallLog: true })
  env = { SIGNET_LEDGER_WALL_LOG: path.join(stack.wall.server.dataDir, 'data/log') }
  await stack.startLedger({ env })
  // A superuser who does not go around the event triggers, and whose statements are all logged (docs/wall-log.md).
  admin = new pg.Client(stack.wall.adminUrl.replace(/\?.*/, ''))
  await admin.connect()
}, 120_000)

afterAll(async () => {
  await admin?.end()
  await stack?.stop()
})

async function attempts(): Promise<Attempt[]> {
  const url = stack.ledgers.at(-1)?.url
  const response = await fetch(`${url}/api/audit/logs?event_type=audit.wall.attempt&limit=500`, {
    headers: { authorization: `Bearer ${stack.token('reader')}` },
  })
  expect(response.status).toBe(200)
  const body = (await response.json()) as { items: { event: { context: Attempt } }[] }
  return body.items.map(({ event }) => event.context)
}

const DEADLOCK = '40P01'

// A definition takes its locks table by table beside a ledger that writes: PostgreSQL may end it as a deadlock before the
// event trigger is asked. The one who tries says it again, as a person would; the ledger's side is tried again by itself.
async function refused(client: pg.Client, sql: string, tries = 5): Promise<string | undefined> {
  try {
    await client.query(sql)
    return 'done'
  } catch (error) {
    const { code } = error as { code?: string }
    return code === DEADLOCK && tries > 1 ? refused(client, sql, tries - 1) : code
  }
}

async function found(want: Partial<Attempt>): Promise<Attempt> {
  let seen: Attempt | undefined
  const matches = (attempt: Attempt): boolean =>
    Object.entries(want).every(([name, value]) => attempt[name as keyof Attempt] === value)
  await expect
    .poll(async () => (seen = (await attempts()).find(matches)), { timeout: 30_000, interval: 500 })
    .toBeDefined()
  return seen as Attempt
}

test('a superuser is refused definitions of the wall, and each refusal is in the chain', async () => {
  for (const sql of [
    'DROP TABLE signet.links CASCADE',
    'ALTER TABLE signet.links DISABLE TRIGGER ALL',
    'ALTER TABLE signet.records NO FORCE ROW LEVEL SECURITY',
    'CREATE TABLE signet.other (a int)',
    'ALTER SCHEMA signet RENAME TO gone',
    'ALTER TABLE signet.links SET SCHEMA public',
    'GRANT UPDATE ON signet.links TO signet_ledger',
    'DROP FUNCTION signet_guard.refuse_definition() CASCADE',
    'SET session_replication_role = replica; DROP TRIGGER refuse_change ON signet.links',
    "SET ROLE signet_owner; COMMENT ON TABLE signet.links IS 'a password: hunter2'",
  ]) {
    expect(await refused(admin, sql), sql).toBe('42501')
    await admin.query('RESET ROLE')
  }
  await admin.query('RESET session_replication_role')
  await found({
    kind: 'definition-refused',
    command: 'ALTER TABLE signet.links DISABLE TRIGGER ALL',
    database_role: 'postgres',
  })
  await found({ kind: 'definition-refused', command: 'SET ROLE signet_owner; COMMENT ON TABLE signet.links IS ?' })
  await found({ kind: 'connection', database_role: 'postgres' })
})

test('refused changes and missing rights are in the chain, without the values', async () => {
  expect(await refused(admin, "DELETE FROM signet.links WHERE tenant = 'hunter2'")).toBe('done')
  expect(await refused(admin, 'TRUNCATE signet.links')).toBe('42501')
  await found({ kind: 'change-refused', command: 'TRUNCATE signet.links', sqlstate: '42501' })
  const login = new pg.Client(stack.wall.loginUrl)
  await login.connect()
  try {
    expect(await refused(login, "UPDATE signet.links SET tenant = 'hunter2' WHERE seq = 42")).toBe('42501')
  } finally {
    await login.end()
  }
  const { database_role: who } = await found({
    kind: 'permission-denied',
    command: 'UPDATE signet.links SET tenant = ? WHERE seq = ?',
  })
  expect(who).toBe('signet_ledger')
})

test('a superuser who goes around the triggers is in the chain with what he said, not with what he wrote', async () => {
  await admin.query("ALTER ROLE postgres SET log_statement = 'all'")
  const around = new pg.Client(stack.wall.adminUrl)
  await around.connect()
  try {
    await around.query('ALTER TABLE signet.links DISABLE TRIGGER refuse_change')
    await around.query("UPDATE signet.links SET key_id = 'hunter2' WHERE seq = $1", [1])
    await around.query('ALTER TABLE signet.links ENABLE ALWAYS TRIGGER refuse_change')
    await around.query("SET log_statement = 'none'")
  } finally {
    await around.end()
  }
  await found({
    kind: 'statement',
    command: 'ALTER TABLE signet.links DISABLE TRIGGER refuse_change',
    database_role: 'postgres',
  })
  await found({ kind: 'statement', command: 'UPDATE signet.links SET key_id = ? WHERE seq = $1' })
  await found({ kind: 'statement', command: 'SET log_statement = ?' })
  expect(JSON.stringify(await attempts())).not.toContain('hunter2')
})

test('migrations and the functions of the ledger go on, and a migration is in the log', async () => {
  await migrateWall(stack.wall.adminUrl.replace(/\?.*/, ''))
  await admin.query('DROP TABLE IF EXISTS signet.nothing')
  await admin.query(
    'BEGIN; SET LOCAL signet.migration = "on"; CREATE TABLE signet.more (a int); DROP TABLE signet.more; COMMIT',
  )
  await found({ kind: 'definition-migrated', command: 'CREATE TABLE of signet.more in a migration' })
  await admin
    .query('BEGIN; SET LOCAL signet.migration = "on"; DROP TABLE signet.records_default_2027_01; COMMIT')
    .catch(() => admin.query('ROLLBACK'))
  const login = new pg.Client(stack.wall.loginUrl)
  await login.connect()
  try {
    const { rows } = await login.query(
      'SELECT signet.ensure_partitions(), signet.ensure_retention_class(30, 60, false, true) AS name',
    )
    expect(rows[0]).toMatchObject({ name: expect.stringMatching(/./) })
  } finally {
    await login.end()
  }
})

test('a flood is one event with a number; after kill -9 nothing is lost or doubled', async () => {
  const flood = async (table: string, times: number): Promise<void> => {
    for (let n = 0; n < times; n++) expect(await refused(admin, `TRUNCATE signet.${table}`)).toBe('42501')
  }
  const total = async (table: string): Promise<number> =>
    (await attempts())
      .filter(({ kind, command }) => kind === 'change-refused' && command === `TRUNCATE signet.${table}`)
      .reduce((sum, { count }) => sum + count, 0)
  await flood('records', 30)
  await stack.ledgers.at(-1)?.kill()
  await flood('records', 30)
  await flood('tree_runs', 1)
  await stack.startLedger({ env })
  // The claim of the one that was killed has to run out.
  await expect.poll(() => total('tree_runs'), { timeout: 60_000, interval: 500 }).toBe(1)
  expect(await total('records')).toBe(60)
  const groups = (await attempts()).filter(({ command }) => command === 'TRUNCATE signet.records')
  expect(groups.length).toBeLessThan(30)
}, 120_000)
