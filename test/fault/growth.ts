// What a record costs on disk, for the arithmetic of docs/operations.md: bytes by table and index, WAL, what vacuum has to do.
//   node test/fault/growth.ts [--records 200000] [--stamped] [--set wal_compression=lz4]
import { randomUUID } from 'node:crypto'
import { parseArgs } from 'node:util'
import pg from 'pg'
import { Agent, request } from 'undici'
import { startLedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildStamp, lineOf, stampHashOf } from '#test/support/producer.ts'
import { configure } from './administer.ts'

const { values: flags } = parseArgs({
  options: {
    records: { type: 'string', default: '200000' },
    stamped: { type: 'boolean', default: false },
    set: { type: 'string', multiple: true, default: [] },
  },
})
const records = Number(flags.records)
const TENANTS = 8
const BATCH = 250
/** With what else an event holds, 1 KB a line. */
const PADDING = 'x'.repeat(420)

const identities = Array.from({ length: TENANTS }, (_, index) => ({
  name: `t${index}`,
  tenant: `tenant-${index}`,
  producer_id: 'growth/api',
  scopes: ['audit:write', 'audit:read'],
}))
const agent = new Agent({ connections: 16, pipelining: 1 })
const stack = await startLedgerStack({ identities, ledgers: 0 })
const admin = new pg.Client(stack.wall.adminUrl)
await admin.connect()
const rows = async <T extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<T[]> =>
  (await admin.query<T>(sql, values)).rows
const one = async (sql: string, values: unknown[] = []): Promise<number> =>
  Number(Object.values((await rows(sql, values))[0] ?? {})[0])

function linesOf(tenant: string, session: string, first: number): string {
  const trace_id = randomUUID().replaceAll('-', '')
  return Array.from({ length: BATCH }, (_, index) => {
    const at = first + index
    // Ten events a trace, a thousand people, ten thousand resources.
    const event = buildEvent({
      trace_id: trace_id.slice(0, 30) + String(Math.floor(index / 10)).padStart(2, '0'),
      actor: `user:${at % 1_000}`,
      resource: `/reports/${at % 10_000}`,
      context: { padding: flags.stamped ? '' : PADDING, number: at },
    })
    if (!flags.stamped) return lineOf({ session, spool_seq: at, event })
    const stamp = buildStamp({ tenant, producerId: 'growth/api', event })
    return lineOf({ session, spool_seq: at, event: { ...event, stamp_hash: stampHashOf(stamp) }, stamp })
  }).join('\n')
}

try {
  await configure(
    stack.wall.adminUrl,
    Object.fromEntries(flags.set.map((pair) => pair.split('=', 2))) as Record<string, string>,
  )
  // The background verifier reads only.
  const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_VERIFY_SHARE: '0' } })
  const [{ lsn } = { lsn: '0/0' }] = await rows<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn')
  const before = await one('SELECT pg_database_size(current_database())')
  const startedAt = performance.now()
  let sent = 0
  let bytes = 0
  await Promise.all(
    identities.map(async ({ name, tenant }) => {
      const session = randomUUID()
      for (let at = 1; sent < records; at += BATCH) {
        sent += BATCH
        const body = linesOf(tenant, session, at)
        bytes += Buffer.byteLength(body)
        const { statusCode, body: answer } = await request(`${ledger.url}/api/audit/ingest`, {
          method: 'POST',
          headers: { authorization: `Bearer ${stack.token(name)}`, 'content-type': 'application/x-ndjson' },
          body,
          dispatcher: agent,
        })
        const text = await answer.text()
        if (statusCode !== 200) throw new Error(`${statusCode}: ${text.slice(0, 300)}`)
      }
    }),
  )
  const seconds = (performance.now() - startedAt) / 1_000
  while (
    (await one('SELECT (SELECT count(*) FROM signet.links) - (SELECT max(size) FROM signet.tree_checkpoints)')) > 0
  )
    await new Promise((resolve) => setTimeout(resolve, 200))
  const links = await one('SELECT count(*) FROM signet.links')
  const wal = await one('SELECT pg_current_wal_lsn() - $1::pg_lsn', [lsn])
  await admin.query('CHECKPOINT')
  const per = (value: number): string => (value / links).toFixed(1)
  const line = (name: string, value: number): void =>
    console.log(`${name.padEnd(44)} ${per(value).padStart(8)} bytes a record`)
  console.log(
    `${links} links, ${Math.round(sent / seconds)} events/s, ${(bytes / sent).toFixed(0)} bytes a line as sent`,
  )
  // A partition counts to its table, an index of a partition to the index of the table.
  const sizes = await rows<{ table: string; index: string | null; bytes: string }>(`
    WITH RECURSIVE part AS (
      SELECT c.oid, c.oid AS root FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = 'signet' AND c.relkind IN ('r', 'p', 'i', 'I') AND NOT c.relispartition
      UNION ALL SELECT i.inhrelid, p.root FROM pg_inherits i JOIN part p ON i.inhparent = p.oid)
    SELECT coalesce(t.relname, r.relname) AS table, CASE WHEN t.oid IS NULL THEN NULL ELSE r.relname END AS index,
           sum(CASE WHEN t.oid IS NULL THEN pg_table_size(p.oid) ELSE pg_relation_size(p.oid) END) AS bytes
      FROM part p JOIN pg_class r ON r.oid = p.root
      LEFT JOIN pg_index x ON x.indexrelid = r.oid LEFT JOIN pg_class t ON t.oid = x.indrelid
     GROUP BY 1, 2 ORDER BY 1, 2 NULLS FIRST`)
  for (const { table, index, bytes: size } of sizes)
    if (Number(size) / links >= 1) line(index === null ? table : `  ${index}`, Number(size))
  line('database', (await one('SELECT pg_database_size(current_database())')) - before)
  line('WAL', wal)
  const work = new pg.Client(stack.work.adminUrl)
  await work.connect()
  console.log(
    `work database: ${(await work.query('SELECT pg_database_size(current_database()) AS size')).rows[0]?.size} bytes in all`,
  )
  await work.end()
  const vacuumed = performance.now()
  await admin.query('VACUUM (FREEZE)')
  const [stats] =
    await rows(`SELECT sum(n_dead_tup) AS dead, sum(autovacuum_count) AS autovacuums, sum(autoanalyze_count) AS autoanalyzes
                                FROM pg_stat_user_tables WHERE schemaname = 'signet'`)
  console.log(
    `vacuum freeze of all: ${((performance.now() - vacuumed) / 1_000).toFixed(1)} s; ${JSON.stringify(stats)}`,
  )
  for (const index of ['records_words', 'records_trace']) {
    const built = performance.now()
    await admin.query(`REINDEX INDEX signet.${index}`)
    console.log(`building ${index}: ${((performance.now() - built) / 1_000).toFixed(1)} s`)
  }
} finally {
  await admin.end()
  await agent.close()
  await stack.stop()
}
