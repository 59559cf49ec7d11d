import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { publishPolicy, type PublishedPolicy } from '#core/retention/published.ts'
import { isPurgeSigned, signPurge, type PurgeSignature, type PurgeStatement } from '#core/retention/purge.ts'
import { purgeAbandoned, purgeAuthorized } from '#ledger/retention/notice.ts'
import { purgeMonth, type PurgeDeps } from '#ledger/retention/purge.ts'
import { createPool, withTenant } from '#runtime/postgres/transaction.ts'
import { readLinks } from '#runtime/wall/chain.ts'
import { createPurgeProofs } from '#runtime/wall/purges.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'
import { createPastLedger, makePastMonth, monthOf, proveArchive, type PastLedger } from '#test/support/retention.ts'
import { verifyTampered, wallKeys } from '#test/support/tamper.ts'

const DAY_MS = 86_400_000
const CLASS = 'h30_a60'
const NOW = Date.now()
const daysAgo = (days: number): Date => new Date(NOW - days * DAY_MS)
// Of different months, both past their hot period; and one in which nobody purged anything yet.
const OLDER = daysAgo(150)
const OLD = daysAgo(100)
const [OLDER_MONTH, OLD_MONTH] = [monthOf(OLDER), monthOf(OLD)]

const payments: PublishedPolicy = publishPolicy(
  { name: 'payments', uid: '', generation: 1 },
  { selector: { dataDomains: ['payments'] }, hot: '30d', archive: '60d' },
)
const session = { acme: randomUUID(), globex: randomUUID() }
const stampedEvent = buildEvent({ data_domain: 'payments' })
const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event: stampedEvent })

let stack: LedgerStack
let past: PastLedger
let admin: pg.Client
let login: pg.Client
let sent = 0

beforeAll(async () => {
  stack = await startLedgerStack({
    ledgers: 0,
    identities: [
      { name: 'proxy', tenant: 'acme', producer_id: 'demo/api', scopes: ['audit:write', 'audit:read'] },
      { name: 'admin', tenant: 'acme', scopes: ['audit:admin', 'audit:read'] },
      { name: 'auditor', tenant: 'acme', scopes: ['audit:read'] },
      { name: 'globex-admin', tenant: 'globex', scopes: ['audit:admin', 'audit:read'] },
    ],
  })
  admin = new pg.Client(stack.wall.adminUrl)
  login = new pg.Client(stack.wall.loginUrl)
  await Promise.all([admin.connect(), login.connect()])
  await makeArchiveProofs()
  await admin.query('SELECT signet.ensure_retention_class(30, 60, false, true)')
  await makePastMonth(admin, CLASS, OLDER_MONTH)
  await makePastMonth(admin, CLASS, OLD_MONTH)
  past = await createPastLedger(stack, [payments])
  await write('acme', OLDER, 30)
  await write('globex', OLDER, 5)
  await past.sign(OLDER)
  await write('acme', OLD, 12)
  await past.sign(OLD)
  // The last checkpoint is of the day before yesterday, as where little goes on.
  await past.append('acme', buildLines(session.acme, ++sent, 1), daysAgo(1.8))
  await past.sign(daysAgo(1.8))
  await writeFile(policyFile(), JSON.stringify({ version: 1, policies: [] }))
  await stack.startLedger({
    env: { SIGNET_LEDGER_PURGE_EVERY_MINUTES: '0', SIGNET_LEDGER_RETENTION_POLICIES: policyFile() },
  })
})
afterAll(async () => {
  await past?.stop()
  await Promise.all([admin.end(), login.end()])
  await stack.stop()
})

/** Payments, and things of no policy in between; one of acme's with a stamp. */
async function write(tenant: 'acme' | 'globex', at: Date, count: number): Promise<void> {
  const first = tenant === 'acme' ? sent + 1 : 1
  const lines = Array.from({ length: count }, (_, index) => {
    const domain = index % 3 === 2 ? {} : { data_domain: 'payments' }
    return buildLines(session[tenant], first + index, 1, { ...domain, timestamp_utc: at.toISOString() })[0]!
  })
  if (tenant === 'acme') sent += count
  if (tenant === 'acme' && at === OLDER) {
    const event = { ...stampedEvent, stamp_hash: stampHashOf(stamp) }
    lines.push(lineOf({ session: session.acme, spool_seq: ++sent, event, stamp }))
  }
  await past.append(tenant, lines, at)
}

const policyFile = (): string => path.join(stack.dir, 'policies.json')
const url = (): string => stack.ledgers[0]?.url ?? ''

type Answer<T> = { status: number; body: T }
// oxlint-disable-next-line typescript/no-unnecessary-type-parameters -- shorter than a cast at each of its many callers
async function call<T = unknown>(who: string, method: string, target: string, body?: unknown): Promise<Answer<T>> {
  const response = await fetch(url() + target, {
    method,
    headers: {
      authorization: `Bearer ${stack.token(who)}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await response.text()
  return { status: response.status, body: (text === '' ? null : JSON.parse(text)) as T }
}

type Item = {
  retention_class: string
  month: string
  state: string
  reasons: { reason: string; whose: string; detail: string }[]
}
async function stateOf(month: string, who = 'admin'): Promise<string> {
  const { body } = await call<{ items: Item[] }>(who, 'POST', '/api/audit/purges', { dry_run: true })
  const found = body.items.find((item) => item.month === month)
  return found === undefined
    ? 'none'
    : `${found.state}: ${found.reasons.map(({ reason, whose }) => `${reason} (${whose})`).join(', ')}`
}
const purge = (month: string, who = 'admin') =>
  call<{ items: Item[] }>(who, 'POST', '/api/audit/purges', { retention_class: CLASS, month: month.slice(0, 7) })
const recordsOf = async (month: string): Promise<number> =>
  Number(
    (
      await admin.query<{ n: string }>(
        'SELECT count(*) AS n FROM signet.records WHERE retention_class = $1 AND month = $2::date',
        [CLASS, month],
      )
    ).rows[0]?.n,
  )
async function refusal(client: pg.Client, month: string): Promise<string> {
  try {
    await client.query('SELECT signet.purge_month($1, $2::date)', [CLASS, month])
    return 'not refused'
  } catch (error) {
    return error instanceof pg.DatabaseError ? `${error.code} ${error.message.split(': ').at(-1)}` : String(error)
  }
}

/** As the archive's migration makes it, until that is there. */
async function makeArchiveProofs(): Promise<void> {
  const { rows } = await admin.query<{ there: boolean }>(
    "SELECT to_regclass('signet.archive_proofs') IS NOT NULL AS there",
  )
  if (rows[0]?.there === true) return
  await admin.query(`SET ROLE signet_owner;
    CREATE TABLE signet.archive_proofs (tenant text, retention_class text, month date, snapshot uuid, first_seq bigint, last_seq bigint,
      records bigint, manifest_sha256 bytea, object_key text, retain_until timestamptz, tree_size bigint, verified_at timestamptz,
      PRIMARY KEY (tenant, retention_class, month, snapshot));
    SELECT signet.guard('signet.archive_proofs', false);
    GRANT SELECT, INSERT ON signet.archive_proofs TO signet_ledger; RESET ROLE`)
}

describe('a class is fixed when a record is written', () => {
  test('what the policy selects is in its class, the rest and what the ledger says is kept', async () => {
    const { rows } = await admin.query<{ retention_class: string; types: string }>(
      `SELECT retention_class, string_agg(DISTINCT coalesce(data_domain, 'none') || ' ' || event_type, ', ' ORDER BY coalesce(data_domain, 'none') || ' ' || event_type) AS types
         FROM signet.records GROUP BY 1 ORDER BY 1`,
    )
    expect(rows).toEqual([
      { retention_class: 'default', types: 'none audit.session.opened, none egress.decided' },
      { retention_class: CLASS, types: 'payments egress.decided' },
    ])
  })

  test('a stamp is in the class of its event', async () => {
    const { rows } = await admin.query('SELECT retention_class, month::text FROM signet.class_stamps')
    expect(rows).toEqual([{ retention_class: CLASS, month: OLDER_MONTH }])
    const answer = await call('admin', 'GET', `/api/audit/stamps/${stampHashOf(stamp)}`)
    expect(answer).toEqual({ status: 200, body: stamp })
  })
})

describe('what is in the way of a purge', () => {
  test('a month that is not archived stays, and nobody gets around that', async () => {
    expect(await stateOf(OLDER_MONTH)).toBe('blocked: not-archived (own), not-archived (other)')
    expect(await stateOf(OLD_MONTH)).toBe('blocked: not-archived (own)')
    expect(await refusal(login, OLDER_MONTH)).toBe('42501 not-archived')
    expect(await refusal(admin, OLDER_MONTH)).toBe('42501 not-archived')
    const { body } = await purge(OLDER_MONTH)
    expect(body.items.map(({ state }) => state)).toEqual(['blocked'])
    expect(await recordsOf(OLDER_MONTH)).toBe(25)
  })

  test("an archive without the other tenant's records, or of other records, or not locked for long enough, is none", async () => {
    await proveArchive(admin, {
      retentionClass: CLASS,
      month: OLDER_MONTH,
      retainUntil: daysAgo(-400),
      tenants: ['acme'],
    })
    expect(await stateOf(OLDER_MONTH)).toBe('blocked: not-archived (other)')
    await proveArchive(admin, {
      retentionClass: CLASS,
      month: OLDER_MONTH,
      retainUntil: daysAgo(100),
      tenants: ['globex'],
    })
    expect(await stateOf(OLDER_MONTH)).toBe('blocked: archive-short (other)')
    await proveArchive(admin, {
      retentionClass: CLASS,
      month: OLDER_MONTH,
      retainUntil: daysAgo(-400),
      tenants: ['globex'],
    })
    expect(await stateOf(OLDER_MONTH)).toBe('due: ')
  })

  test('with the archive proven, not even a superuser purges what the chain does not record', async () => {
    expect(await refusal(login, OLDER_MONTH)).toBe('42501 not-recorded')
    expect(await refusal(admin, OLDER_MONTH)).toBe('42501 not-recorded')
    expect(await recordsOf(OLDER_MONTH)).toBe(25)
  })

  test('nor with a record of other links, or with one that was given up', async () => {
    const said = async (): Promise<string | undefined> => {
      const { rows } = await admin.query<{ detail: string }>(
        "SELECT detail FROM signet.purge_obstacles($1, $2::date, true) WHERE tenant = 'acme'",
        [CLASS, OLDER_MONTH],
      )
      return rows[0]?.detail
    }
    const { rows } = await admin.query<{ first: string; last: string; records: string; snapshot: string }>(
      `SELECT first_seq AS first, last_seq AS last, records, snapshot FROM signet.archive_proofs WHERE tenant = 'acme' AND month = $1::date`,
      [OLDER_MONTH],
    )
    const { first, last, records, snapshot } = rows[0]!
    const drafted = (blocks: PurgeStatement['blocks']): PurgeStatement => ({
      v: 1,
      purge_id: randomUUID(),
      tenant: 'acme',
      retention_class: CLASS,
      month: OLDER_MONTH,
      first_seq: Number(first),
      last_seq: Number(last),
      records: Number(records),
      width: 1_024,
      blocks,
      snapshot,
      manifest_sha256: 'a'.repeat(64),
    })
    const record = (statement: PurgeStatement) =>
      past.sequencer.append(purgeAuthorized(statement, signPurge(statement, past.keys.ackKey(new Date())), 'a test'))
    const blocksThere = await admin.query<{ blocks: PurgeStatement['blocks'] }>(
      "SELECT set_config('signet.tenant', 'acme', false), signet.purge_blocks('acme', $1, $2::date, $3, $4, 1024) AS blocks",
      [CLASS, OLDER_MONTH, first, last],
    )
    const blocks = blocksThere.rows[0]!.blocks
    await past.sign(new Date())
    expect(await said()).toMatch(/no signed purge record/)
    const forged = drafted(blocks.map(([block, links]) => [block, links, 'b'.repeat(64)]))
    await record(forged)
    await past.sign(new Date())
    expect(await said()).toMatch(/of other records/)
    await past.sequencer.append(purgeAbandoned(forged, 'a test'))
    expect(await said()).toMatch(/no signed purge record/)
    const good = drafted(blocks)
    await record(good)
    await past.sign(new Date())
    expect(await said()).toBe(undefined)
    await past.sequencer.append(purgeAbandoned(good, 'a test'))
    expect(await said()).toMatch(/no signed purge record/)
  })

  test("another tenant's hold keeps the whole partition; who and why is not shown", async () => {
    const placed = await call<{ id: string }>('globex-admin', 'POST', '/api/audit/holds', {
      reason: 'case 7 against acme',
    })
    expect(placed.status).toBe(201)
    expect(await stateOf(OLDER_MONTH)).toBe('held: held (other)')
    expect(await stateOf(OLDER_MONTH, 'globex-admin')).toBe('held: held (own)')
    const { body } = await call<{ held: number; months: Item[] }>('auditor', 'GET', '/api/audit/retention')
    expect(body.held).toBe(1)
    expect(JSON.stringify(body)).not.toMatch(/case 7|globex/)
    expect((await purge(OLDER_MONTH)).body.items.map(({ state }) => state)).toEqual(['held'])
    expect(await recordsOf(OLDER_MONTH)).toBe(25)
    expect((await call('admin', 'DELETE', `/api/audit/holds/${placed.body.id}?reason=mine`)).status).toBe(404)
    expect((await call('globex-admin', 'DELETE', `/api/audit/holds/${placed.body.id}`)).status).toBe(400)
    expect((await call('globex-admin', 'DELETE', `/api/audit/holds/${placed.body.id}?reason=over`)).status).toBe(204)
    expect(await stateOf(OLDER_MONTH)).toBe('due: ')
  })

  test.each([
    { hold: { reason: 'r', data_domains: ['payments'] }, want: 'held: held (own)' },
    { hold: { reason: 'r', data_domains: ['health'] }, want: 'due: ' },
    { hold: { reason: 'r', regions: ['eu'] }, want: 'due: ' },
    { hold: { reason: 'r', from: OLDER_MONTH.slice(0, 7) }, want: 'held: held (own)' },
    { hold: { reason: 'r', from: OLD_MONTH.slice(0, 7) }, want: 'due: ' },
  ])('a hold of $hold: $want', async ({ hold, want }) => {
    const placed = await call<{ id: string }>('admin', 'POST', '/api/audit/holds', hold)
    expect(await stateOf(OLDER_MONTH)).toBe(want)
    await call('admin', 'DELETE', `/api/audit/holds/${placed.body.id}?reason=done`)
  })

  test('a hold says nothing for ever that somebody would have to be erased from', async () => {
    const named = 'letter of alice@example.com'
    for (const hold of [{ reason: named }, { reason: 'r', reference: named }])
      expect((await call('admin', 'POST', '/api/audit/holds', hold)).status).toBe(400)
    const placed = await call<{ id: string }>('admin', 'POST', '/api/audit/holds', { reason: 'case 7' })
    expect(placed.status).toBe(201)
    const place = `/api/audit/holds/${placed.body.id}`
    expect((await call('admin', 'DELETE', `${place}?reason=${encodeURIComponent(named)}`)).status).toBe(400)
    const standing = await call<{ items: { id: string }[] }>('admin', 'GET', '/api/audit/holds')
    expect(standing.body.items.map(({ id }) => id)).toContain(placed.body.id)
    const told = await admin.query(
      "SELECT 1 FROM signet.records WHERE event_type = 'audit.hold.released' AND resource_id = $1",
      [placed.body.id],
    )
    expect(told.rows).toEqual([])
    expect((await call('admin', 'DELETE', `${place}?reason=over`)).status).toBe(204)
  })

  test.each([
    { name: 'one that leapt ahead', made: "now() - interval '49 hours'", later: null, want: 'clock' },
    {
      name: 'one that leapt ahead and signs',
      made: "now() - interval '49 hours'",
      later: "now() - interval '1 minute'",
      want: 'clock',
    },
    { name: 'one that was set back', made: "now() + interval '3 hours'", later: null, want: 'clock' },
    { name: 'a good one', made: "now() - interval '47 hours'", later: "now() - interval '1 minute'", want: 'none' },
  ])('the clock: $name', async ({ made, later, want }) => {
    await admin.query('BEGIN')
    try {
      await admin.query('ALTER TABLE signet.tree_checkpoints DISABLE TRIGGER ALL')
      await admin.query(
        `UPDATE signet.tree_checkpoints SET made_at = ${made} WHERE made_at > now() - interval '49 hours'`,
      )
      if (later !== null)
        await admin.query(
          `INSERT INTO signet.tree_checkpoints SELECT max(size) + 1, (array_agg(root))[1], '', ${later} FROM signet.tree_checkpoints`,
        )
      const { rows } = await admin.query<{ reason: string }>(
        'SELECT reason FROM signet.purge_obstacles($1, $2::date, false)',
        [CLASS, OLDER_MONTH],
      )
      expect(rows[0]?.reason ?? 'none').toBe(want)
    } finally {
      await admin.query('ROLLBACK')
    }
  })

  test('records that were tampered with are not purged: they tell of it', async () => {
    await proveArchive(admin, { retentionClass: CLASS, month: OLD_MONTH, retainUntil: daysAgo(-400) })
    const change = async (sql: string): Promise<void> => {
      await admin.query('ALTER TABLE signet.records DISABLE TRIGGER ALL')
      await admin.query(sql, [CLASS, OLD_MONTH])
      await admin.query(
        'ALTER TABLE signet.records ENABLE TRIGGER ALL; ALTER TABLE signet.records ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_truncate',
      )
    }
    await change("UPDATE signet.records SET actor = 'user:mallory' WHERE retention_class = $1 AND month = $2::date")
    const { body } = await purge(OLD_MONTH)
    expect(body.items.map(({ state, reasons }) => `${state} ${reasons[0]?.reason}`)).toEqual(['blocked broken'])
    await change("UPDATE signet.records SET actor = 'user:alice' WHERE retention_class = $1 AND month = $2::date")
    expect((await call<{ ok: boolean }>('auditor', 'GET', '/api/audit/verify')).body.ok).toBe(true)
  })
})

describe('a purge', () => {
  const eventIds: string[] = []
  let statement: PurgeStatement

  test('takes the month, and says so in the chain of each tenant, before and after', async () => {
    const { rows } = await admin.query<{ event_id: string }>(
      "SELECT event_id FROM signet.records WHERE tenant = 'acme' AND retention_class = $1 AND month = $2::date ORDER BY seq",
      [CLASS, OLDER_MONTH],
    )
    eventIds.push(...rows.map(({ event_id }) => event_id))
    const pool = createPool({ url: stack.wall.loginUrl, size: 1, applicationName: 'verifies' })
    const proofs = createPurgeProofs(poolReader(pool), wallKeys(stack).chainKeys, 'acme')
    const links = await withTenant(pool, 'acme', (client) =>
      readLinks(client, 'acme', { after: 0, to: 20, limit: 20, traceHmac: null }),
    )
    const purged = links.filter(({ retentionClass }) => retentionClass === CLASS)
    expect((await proofs.provenOf(purged)).size).toBe(0)
    expect((await purge(OLDER_MONTH)).body).toEqual({
      dry_run: false,
      items: [{ retention_class: CLASS, month: OLDER_MONTH, state: 'purged', reasons: [] }],
    })
    // A verification that is under way sees what was purged meanwhile.
    expect((await proofs.provenOf(links)).size).toBe(purged.length)
    await pool.end()
    expect(await recordsOf(OLDER_MONTH)).toBe(0)
    const { rows: parts } = await admin.query(
      `SELECT to_regclass('signet.records_${CLASS}_${OLDER_MONTH.slice(0, 7).replace('-', '_')}') AS part`,
    )
    expect(parts).toEqual([{ part: null }])
    for (const who of ['admin', 'globex-admin']) {
      const items = await createClient(url(), stack.token(who)).all()
      // After what an earlier test had recorded and given up.
      const own = items.filter(({ event }) => event.event_type.startsWith('audit.purge')).slice(0, 2)
      expect(own.map(({ event }) => event.event_type)).toEqual(['audit.purge.completed', 'audit.purge.authorized'])
      const context = own[1]!.event.context as { statement: PurgeStatement; signature: PurgeSignature; by: string }
      expect(context).toMatchObject({
        by: 'acme/admin',
        statement: { retention_class: CLASS, month: OLDER_MONTH, records: who === 'admin' ? 21 : 4 },
      })
      expect(isPurgeSigned(context.statement, context.signature, wallKeys(stack).logKeys[0]!)).toBe(true)
      expect(isPurgeSigned({ ...context.statement, records: 1 }, context.signature, wallKeys(stack).logKeys[0]!)).toBe(
        false,
      )
      if (who === 'admin') statement = context.statement
    }
  })

  test('what remains verifies: the chain, a range, a trace, the store, the tree; and it is counted', async () => {
    for (const query of ['', '?from_seq=1&to_seq=20', '?from_seq=10']) {
      const { body } = await call<{ ok: boolean; purged: number }>('auditor', 'GET', `/api/audit/verify${query}`)
      expect(body, query).toMatchObject({ ok: true })
      expect(body.purged).toBeGreaterThan(5)
    }
    const report = await verifyTampered(admin, async () => undefined, wallKeys(stack), [])
    expect(report.faults).toEqual([])
    expect(report.tenants.map(({ tenant, purged }) => [tenant, purged])).toEqual([
      ['acme', 21],
      ['globex', 4],
    ])
  })

  test('an event that was purged is still proven to have been', async () => {
    const proof = await call<{ event_id: string }>('auditor', 'GET', `/api/audit/logs/${eventIds[3]}/proof`)
    expect(proof.status).toBe(200)
    expect(proof.body.event_id).toBe(eventIds[3])
    expect((await call('auditor', 'GET', `/api/audit/stamps/${stampHashOf(stamp)}`)).status).toBe(404)
  })

  test('leaves its record and counts', async () => {
    const { body } = await call<{ items: Record<string, unknown>[] }>('auditor', 'GET', '/api/audit/purges')
    expect(body.items).toEqual([
      expect.objectContaining({
        retention_class: CLASS,
        month: OLDER_MONTH,
        records: 21,
        first_seq: statement.first_seq,
        snapshot: statement.snapshot,
      }),
    ])
    const summary = await call<{ items: unknown[] }>(
      'auditor',
      'GET',
      `/api/audit/purges/${OLDER_MONTH.slice(0, 7)}/summary`,
    )
    expect(summary.body.items).toEqual([
      {
        retention_class: CLASS,
        day: OLDER.toISOString().slice(0, 10),
        event_type: 'egress.decided',
        outcome: 'allowed',
        records: 21,
      },
    ])
    expect(await stateOf(OLDER_MONTH)).toBe('none')
  })

  test('a session that goes on is no new one, and has no gap', async () => {
    const globex = await admin.query<{ spool_seq: string }>(
      "SELECT max(spool_seq) AS spool_seq FROM (SELECT spool_seq FROM signet.records WHERE tenant = 'globex' UNION ALL SELECT spool_seq FROM signet.purged_sessions WHERE tenant = 'globex') AS s",
    )
    expect(globex.rows[0]?.spool_seq).toBe('5')
    await past.append('globex', buildLines(session.globex, 6, 1), new Date())
    const { rows } = await admin.query(
      "SELECT 1 FROM signet.records WHERE tenant = 'globex' AND event_type = 'audit.gap'",
    )
    expect(rows).toEqual([])
  })

  test.each([
    {
      name: 'a partition dropped without a record',
      sql: () => `DROP TABLE signet.records_${CLASS}_${OLD_MONTH.slice(0, 7).replace('-', '_')}`,
      first:
        "SELECT min(seq) AS seq FROM signet.links WHERE tenant = 'acme' AND month = $1::date AND retention_class <> 'default'",
    },
    {
      name: 'a record deleted, its link marked as one that was purged',
      sql: () =>
        `DELETE FROM signet.records WHERE tenant = 'acme' AND seq = 40;
         UPDATE signet.links SET retention_class = '${CLASS}', month = '${OLDER_MONTH}' WHERE tenant = 'acme' AND seq = 40`,
      first: 'SELECT 40 AS seq, $1::date',
    },
    {
      name: 'the purge record deleted',
      sql: () => "DELETE FROM signet.records WHERE tenant = 'acme' AND event_type = 'audit.purge.authorized'",
      first:
        "SELECT min(seq) AS seq, $1::date FROM signet.links WHERE tenant = 'acme' AND retention_class <> 'default'",
    },
    {
      name: 'a purge record made up for a month that was dropped',
      sql: () =>
        `INSERT INTO signet.purges SELECT tenant, retention_class, '${OLD_MONTH}', 1, 2, 3, authorized_seq, snapshot, now() FROM signet.purges;
         DROP TABLE signet.records_${CLASS}_${OLD_MONTH.slice(0, 7).replace('-', '_')}`,
      first:
        "SELECT min(seq) AS seq FROM signet.links WHERE tenant = 'acme' AND month = $1::date AND retention_class <> 'default'",
    },
  ])('is not taken for: $name', async ({ sql, first }) => {
    const { rows } = await admin.query<{ seq: string }>(first, [OLD_MONTH])
    const report = await verifyTampered(admin, (client) => client.query(sql()), wallKeys(stack), [])
    expect(report.faults.filter(({ tenant }) => tenant === 'acme')).toEqual([
      expect.objectContaining({ tenant: 'acme', seq: Number(rows[0]?.seq), fault: 'delete' }),
    ])
  })
})

describe('policies', () => {
  const put = (name: string, spec: unknown, who = 'admin') =>
    call<Record<string, unknown>>(who, 'PUT', `/api/audit/retention-policies/${name}`, spec)
  const classOf = async (overrides: Record<string, unknown>): Promise<string | undefined> => {
    const [line] = buildLines(randomUUID(), 1, 1, overrides)
    const { acks } = await createClient(url(), stack.token('proxy')).append([line!])
    const { rows } = await admin.query<{ retention_class: string }>(
      'SELECT retention_class FROM signet.records WHERE event_id = $1',
      [acks[0]?.event_id],
    )
    return rows[0]?.retention_class
  }

  test.each([
    { name: 'purges everything soon', spec: { hot: '1d', archive: '1d' }, want: 422 },
    {
      name: 'is for another tenant',
      spec: { hot: '90d', archive: '90d', selector: { tenants: ['globex'] } },
      want: 422,
    },
    { name: 'ends before it begins', spec: { hot: '90d', archive: '60d' }, want: 422 },
    { name: 'has a member that is none', spec: { hot: '90d', archive: '90d', purge: { mode: 'now' } }, want: 422 },
    {
      name: 'holds a text that no database takes',
      spec: { hot: '90d', archive: '90d', description: 'a\0' },
      want: 422,
    },
    { name: 'comes from who may only read', who: 'auditor', spec: { hot: '90d', archive: '90d' }, want: 403 },
  ])('one that $name is refused', async ({ spec, want, who = 'admin' }) => {
    expect((await put('bad', spec, who)).status).toBe(want)
  })

  test('what is put decides from then on, the longest time wins, and regulations have the last word', async () => {
    expect(await classOf({ data_domain: 'health' })).toBe('default')
    const made = await put('health', { selector: { dataDomains: ['health'] }, hot: '90d', archive: '1y' })
    expect(made).toMatchObject({ status: 201, body: { retention_class: 'h90_a366', hot_days: 90, archive_days: 366 } })
    expect(made.body['raised_by']).toContainEqual({ regulation: 'HIPAA', hot_days: 90, archive_days: 2_196 })
    expect(await classOf({ data_domain: 'health' })).toBe('h90_a366')
    expect(await classOf({ data_domain: 'health', context: { regulations: ['HIPAA', 'GDPR'] } })).toBe('h90_a2196')
    expect((await put('all', { hot: '60d', archive: '2y', purge: { mode: 'never' } })).status).toBe(201)
    expect(await classOf({ data_domain: 'health' })).toBe('h90_a732_never')
    expect(await classOf({ data_domain: 'other' })).toBe('h60_a732_never')
    expect((await call('admin', 'DELETE', '/api/audit/retention-policies/all')).status).toBe(204)
    expect(await classOf({ data_domain: 'other' })).toBe('default')
    expect((await put('health', { selector: { dataDomains: ['health'] }, hot: '30d', archive: '30d' })).status).toBe(
      200,
    )
    expect(await classOf({ data_domain: 'health' })).toBe('h30_a30')
    const listed = await call<{ items: { name: string; source: string }[] }>(
      'auditor',
      'GET',
      '/api/audit/retention-policies',
    )
    expect(listed.body.items.map(({ name, source }) => `${source}/${name}`)).toEqual(['api/health'])
    const changes = (await createClient(url(), stack.token('admin')).all()).filter(
      ({ event }) => event.event_type === 'audit.retention.changed',
    )
    expect(
      changes
        .map(({ event }) => `${event.resource_id} ${event.context?.['policy'] === null ? 'gone' : 'put'}`)
        .toReversed(),
    ).toEqual(['api/health put', 'api/all put', 'api/all gone', 'api/health put'])
    expect((await call<{ ok: boolean }>('auditor', 'GET', '/api/audit/verify')).body.ok).toBe(true)
  })

  test("the platform's come from the operator's file, with holds that nobody else lifts", async () => {
    const policy = (held: boolean): PublishedPolicy => ({
      ...payments,
      name: 'platform',
      generation: held ? 1 : 2,
      selector: { data_domains: ['payments'] },
      legal_hold: held ? { reason: 'case 9' } : null,
    })
    const publish = (held: boolean) => writeFile(policyFile(), JSON.stringify({ version: 1, policies: [policy(held)] }))
    const holds = async () =>
      (await call<{ items: { id: string; policy: string; reason: string }[] }>('admin', 'GET', '/api/audit/holds')).body
        .items
    await publish(true)
    const [hold] = await vi.waitFor(
      async () => {
        const found = await holds()
        expect(found).toMatchObject([{ policy: 'operator/platform', reason: 'case 9' }])
        return found
      },
      { timeout: 60_000, interval: 250 },
    )
    expect(await stateOf(OLD_MONTH)).toBe('held: held (own)')
    expect((await call('admin', 'DELETE', `/api/audit/holds/${hold!.id}?reason=mine`)).status).toBe(423)
    await writeFile(policyFile(), '{"version": 2}')
    await vi.waitFor(() => expect(stack.ledgers[0]?.output()).toContain('the former ones stay'), {
      timeout: 30_000,
      interval: 100,
    })
    expect(await holds()).toHaveLength(1)
    await publish(false)
    await vi.waitFor(async () => expect(await holds()).toEqual([]), { timeout: 60_000, interval: 250 })
    expect(await classOf({ data_domain: 'payments' })).toBe(CLASS)
    const items = await createClient(url(), stack.token('globex-admin')).all()
    const types = new Set(items.map(({ event }) => event.event_type))
    for (const type of ['audit.retention.changed', 'audit.hold.placed', 'audit.hold.released'])
      expect(types).toContain(type)
  })

  test('no more classes than there may be: what comes after is kept longer', async () => {
    await admin.query(
      'SELECT signet.ensure_retention_class(700 + n, 4000, false, true) FROM generate_series(1, 32 - (SELECT count(*)::int FROM signet.retention_classes)) AS n',
    )
    await expect(login.query('SELECT signet.ensure_retention_class(31, 62, false, true)')).rejects.toMatchObject({
      code: '53400',
    })
    await put('odd', { selector: { dataDomains: ['odd'] }, hot: '633d', archive: '633d' })
    expect(await classOf({ data_domain: 'odd' })).toMatch(/^h7\d\d_a4000$/)
    const metrics = await (await fetch(`${url()}/metrics`)).text()
    expect(metrics).toMatch(/signet_ledger_retention_uncovered_total [1-9]/)
    expect(metrics).toMatch(/signet_ledger_retention_months\{state="held"\}|signet_ledger_retention_classes/)
  })
})

describe('a purge that breaks off', () => {
  const types = async (): Promise<string[]> => {
    const items = (await createClient(url(), stack.token('admin')).all()).toReversed()
    return items.map(({ event }) => event.event_type).filter((type) => type.startsWith('audit.purge'))
  }
  /** The purge of a process that dies when it is about to record an event of this type, or right after. */
  async function dies(when: 'before' | 'after', type: string): Promise<void> {
    const wall = createPool({ url: stack.wall.loginUrl, size: 2, applicationName: 'dies' })
    try {
      const sequencer: PurgeDeps['sequencer'] = {
        async append(batch) {
          const isLast = batch.entries.some((entry) => entry.kind === 'notice' && entry.type === type)
          if (isLast && when === 'before') throw new Error('it died')
          const outcome = await past.sequencer.append(batch)
          if (isLast) throw new Error('it died')
          return outcome
        },
      }
      const which = { retentionClass: CLASS, month: OLD_MONTH }
      const clock = (): Date => new Date()
      const purging = purgeMonth(
        { wall, keys: past.keys, sequencer, clock },
        which,
        'a test',
        new AbortController().signal,
      )
      await expect(purging).rejects.toThrow('it died')
    } finally {
      await wall.end()
    }
  }
  const isSound = async (): Promise<boolean> =>
    (await call<{ ok: boolean }>('auditor', 'GET', '/api/audit/verify')).body.ok
  const before = ['authorized', 'abandoned', 'authorized', 'abandoned', 'authorized', 'completed'].map(
    (kind) => `audit.purge.${kind}`,
  )

  test('is declared void where something has come in its way', async () => {
    await past.sign(new Date())
    const { rows } = await admin.query<{ seq: string }>(
      'SELECT max(seq) AS seq FROM signet.records WHERE retention_class = $1 AND month = $2::date',
      [CLASS, OLD_MONTH],
    )
    const lastSeq = Number(rows[0]?.seq)
    await dies('after', 'audit.purge.authorized')
    expect(await types()).toEqual([...before, 'audit.purge.authorized'])
    // What may go goes as a whole: one record of it that is missing was taken by somebody.
    const taken = await verifyTampered(
      admin,
      (client) => client.query(`DELETE FROM signet.records WHERE retention_class = '${CLASS}' AND seq = $1`, [lastSeq]),
      wallKeys(stack),
      [],
    )
    expect(taken.faults).toEqual([expect.objectContaining({ tenant: 'acme', seq: lastSeq, fault: 'delete' })])
    const hold = await call<{ id: string }>('admin', 'POST', '/api/audit/holds', { reason: 'after all' })
    expect((await purge(OLD_MONTH)).body.items.map(({ state }) => state)).toEqual(['held'])
    expect(await types()).toEqual([...before, 'audit.purge.authorized', 'audit.purge.abandoned'])
    await call('admin', 'DELETE', `/api/audit/holds/${hold.body.id}?reason=done`)
    // What was given up allows nothing, and excuses nothing.
    expect(await refusal(admin, OLD_MONTH)).toBe('42501 not-recorded')
    const report = await verifyTampered(
      admin,
      (client) => client.query(`DROP TABLE signet.records_${CLASS}_${OLD_MONTH.slice(0, 7).replace('-', '_')}`),
      wallKeys(stack),
      [],
    )
    expect(report.faults).toEqual([expect.objectContaining({ tenant: 'acme', fault: 'delete' })])
    expect(await isSound()).toBe(true)
  })

  test('is ended by the next, where the month is gone', async () => {
    await dies('after', 'audit.purge.authorized')
    // The next one takes up what the other had recorded, and dies too.
    await dies('before', 'audit.purge.completed')
    const after = before.length + 2
    expect(await recordsOf(OLD_MONTH)).toBe(0)
    expect(await isSound()).toBe(true)
    expect((await types()).slice(after)).toEqual(['audit.purge.authorized'])
    // By itself, in a ledger that is to purge.
    await stack.startLedger({ env: { SIGNET_LEDGER_PURGE_EVERY_MINUTES: '1' } })
    await vi.waitFor(
      async () => expect((await types()).slice(after)).toEqual(['audit.purge.authorized', 'audit.purge.completed']),
      { timeout: 90_000, interval: 500 },
    )
    expect((await purge(OLD_MONTH)).body.items).toEqual([])
    expect((await types()).length).toBe(after + 2)
    expect(await isSound()).toBe(true)
  })

  test('the background verifier, and fsck, find nothing wrong', async () => {
    const metric = async (name: RegExp): Promise<number> => {
      const text = await (await fetch(`${url()}/metrics`)).text()
      return text
        .split('\n')
        .filter((line) => name.test(line))
        .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
    }
    const since = Date.now() / 1_000
    await vi.waitFor(
      async () => expect(await metric(/^signet_ledger_verification_pass_timestamp_seconds /)).toBeGreaterThan(since),
      {
        timeout: 90_000,
        interval: 500,
      },
    )
    expect(await metric(/^signet_ledger_verification_failures_total\{/)).toBe(0)
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [path.join(import.meta.dirname, '../../cli/main.ts'), 'fsck', '--keyring', stack.keyringFile],
      {
        env: { PATH: process.env['PATH'], SIGNET_LEDGER_AUDIT_DB_URL: stack.wall.loginUrl },
      },
    ).catch((error: { code: number; stdout: string; stderr: string }) =>
      error.code === 3 ? error : Promise.reject(new Error(error.stdout + error.stderr)),
    )
    expect(stdout).toMatch(/acme: \d+ links, 29 of them purged as the chain records/)
  }, 150_000)
})
