import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'

let stack: LedgerStack
let login: pg.Client
let admin: pg.Client

beforeAll(async () => {
  stack = await startLedgerStack()
  const url = stack.ledgers[0]?.url ?? ''
  const event = buildEvent()
  const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
  const session = randomUUID()
  const stamped = lineOf({ session, spool_seq: 1, event: { ...event, stamp_hash: stampHashOf(stamp) }, stamp })
  await createClient(url, stack.token('proxy')).append([stamped, ...buildLines(session, 2, 2)])
  await createClient(url, stack.token('globex-proxy')).append(buildLines(randomUUID(), 1, 2))
  login = new pg.Client(stack.wall.loginUrl)
  admin = new pg.Client(stack.wall.adminUrl)
  await Promise.all([login.connect(), admin.connect()])
})
afterAll(async () => {
  await Promise.all([login.end(), admin.end()])
  await stack.stop()
})

/** SQLSTATE of the refusal; fails the test when the statement goes through. */
async function refusal(client: pg.Client, sql: string): Promise<string> {
  await client.query('BEGIN')
  try {
    await client.query(sql)
    return `not refused: ${sql}`
  } catch (error) {
    return error instanceof pg.DatabaseError ? (error.code ?? '') : String(error)
  } finally {
    await client.query('ROLLBACK')
  }
}

const TABLES = ['links', 'records', 'compliance_stamps']

describe("the ledger's login", () => {
  const statements = [
    ...TABLES.flatMap((table) => [
      `UPDATE signet.${table} SET seq = 9`,
      `DELETE FROM signet.${table}`,
      `TRUNCATE signet.${table}`,
      `ALTER TABLE signet.${table} DISABLE TRIGGER ALL`,
      `ALTER TABLE signet.${table} DISABLE ROW LEVEL SECURITY`,
      `DROP TABLE signet.${table}`,
    ]),
    'SELECT * FROM signet.links_0',
    'SELECT * FROM signet.records_default_rest',
    'CREATE TABLE signet.mine (x int)',
    'CREATE TABLE public.mine (x int)',
    'CREATE TEMP TABLE mine (x int)',
    'CREATE ROLE evil SUPERUSER',
    'SET ROLE signet_owner',
    "SELECT signet.guard('signet.links', true)",
  ]
  // 42501 insufficient_privilege.
  test.each(statements)('%s', async (sql) => {
    expect(await refusal(login, sql)).toBe('42501')
  })
})

describe.each([
  { who: 'owner', setup: 'SET LOCAL ROLE signet_owner;' },
  { who: 'superuser', setup: '' },
])('$who', ({ setup }) => {
  test.each(
    TABLES.flatMap((table) => [
      `TRUNCATE signet.${table}`,
      `UPDATE signet.${table} SET seq = 9`,
      `DELETE FROM signet.${table}`,
    ]),
  )('%s is refused by trigger', async (sql) => {
    if (setup === '' || sql.startsWith('TRUNCATE')) {
      expect(await refusal(admin, `${setup} ${sql}`)).toBe('42501')
    } else {
      // Row level security hides every row from the owner before a trigger could see one.
      await admin.query('BEGIN')
      await admin.query(setup)
      const { rowCount } = await admin.query(sql)
      await admin.query('ROLLBACK')
      expect(rowCount).toBe(0)
    }
  })

  test('with session_replication_role = replica the triggers still fire', async () => {
    expect(await refusal(admin, 'SET LOCAL session_replication_role = replica; DELETE FROM signet.links')).toBe('42501')
  })

  test('every partition refuses TRUNCATE', async () => {
    const { rows } = await admin.query<{ name: string }>(
      "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent::regclass::text LIKE 'signet.%' AND inhrelid::regclass::text NOT LIKE '%key' AND (SELECT relkind FROM pg_class WHERE oid = inhrelid) IN ('r', 'p')",
    )
    expect(rows.length).toBeGreaterThan(20)
    for (const { name } of rows)
      expect([name, await refusal(admin, `${setup} TRUNCATE ${name}`)]).toEqual([name, '42501'])
  })
})

describe('tenants', () => {
  const count = async (client: pg.Client, tenant: string | null): Promise<number> => {
    await client.query('BEGIN')
    if (tenant !== null) await client.query("SELECT set_config('signet.tenant', $1, true)", [tenant])
    const { rows } = await client.query<{ n: number }>('SELECT count(*)::int AS n FROM signet.records')
    await client.query('ROLLBACK')
    return rows[0]?.n ?? -1
  }

  test.each([
    { tenant: 'acme', want: 4 },
    { tenant: 'globex', want: 3 },
    { tenant: 'initech', want: 0 },
    { tenant: null, want: 0 },
  ])('the login sees of $tenant: $want', async ({ tenant, want }) => {
    expect(await count(login, tenant)).toBe(want)
  })

  test('a row of another tenant cannot be added', async () => {
    const sql = `SELECT set_config('signet.tenant', 'acme', true);
      INSERT INTO signet.compliance_stamps VALUES ('globex', 'sha256:x', 1, 't', 'r', 'default', '')`
    expect(await refusal(login, sql)).toBe('42501')
  })

  test('over HTTP a tenant sees its own', async () => {
    const url = stack.ledgers[0]?.url ?? ''
    const acme = await createClient(url, stack.token('auditor')).all()
    const globex = await createClient(url, stack.token('globex-proxy')).all()
    expect([acme.length, globex.length]).toEqual([4, 3])
    expect(new Set(acme.map((item) => item.event.tenant))).toEqual(new Set(['acme']))
    expect(new Set(globex.map((item) => item.event.tenant))).toEqual(new Set(['globex']))
  })
})

test('partitions for the months ahead are there, and asking again makes none', async () => {
  const { rows } = await login.query<{ made: number }>('SELECT signet.ensure_partitions() AS made')
  expect(rows).toEqual([{ made: 0 }])
  const { rows: parts } = await admin.query(
    "SELECT 1 FROM pg_inherits WHERE inhparent = 'signet.records_default'::regclass",
  )
  expect(parts).toHaveLength(4)
})
