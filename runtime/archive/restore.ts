import type { KeyObject } from 'node:crypto'
import pg from 'pg'
import type { ArchiveManifest, ArchiveObject, ArchivePart } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { RebuiltTile } from '#core/tree/rebuild.ts'
import type { ObjectStore } from './object-store.ts'
import { readRows, type Row } from './read.ts'
import { eachRow, verifyArchive, type ArchiveReport } from './verify.ts'

const ROWS_AT_ONCE = 500
/** Written by the tenant's own name; the others are of no tenant. */
const TENANT_TABLES = ['legal_holds', 'legal_hold_releases', 'purges', 'purge_summaries', 'purged_sessions']

/**
 * Puts a snapshot into a wall that is migrated and empty, in one transaction, and verifies the archive as it goes: where anything is wrong
 * nothing is restored. `client` may become the wall's owner. Months that were purged stay purged.
 * @throws SignetError ARCHIVE_INVALID, ARCHIVE_UNAVAILABLE, CONFLICT where the wall is not empty
 */
export async function restoreArchive(
  client: pg.Client,
  store: ObjectStore,
  manifest: ArchiveManifest,
  publicKeys: readonly KeyObject[],
): Promise<ArchiveReport> {
  await client.query('BEGIN')
  try {
    await client.query(`SET LOCAL ROLE signet_owner`)
    await client.query("SELECT set_config('signet.tree', 'on', true)")
    const { rows } = await client.query<{ used: boolean }>(
      'SELECT EXISTS (SELECT FROM signet.links) OR EXISTS (SELECT FROM signet.tree_checkpoints) AS used',
    )
    if (rows[0]?.used !== false)
      throw new SignetError('CONFLICT', 'the wall is not empty: a snapshot is restored into one without a record')
    const of = (table: string): readonly ArchiveObject[] => manifest.tables[table] ?? []
    for await (const row of eachRow(store, of('retention_classes')))
      await client.query('SELECT signet.ensure_retention_class($1, $2, $3, $4)', [
        row['hot_days'],
        row['archive_days'],
        row['never'],
        row['keep_summary'],
      ])
    for (const table of TENANT_TABLES)
      for (const object of of(table)) await restoreByTenant(client, table, await readRows(store, object))
    const purged = new Set<string>()
    for await (const row of eachRow(store, of('purges')))
      purged.add([row['tenant'], row['retention_class'], row['month']].map(String).join(' '))
    for (const { tenant, links, parts } of manifest.tenants) {
      await client.query("SELECT set_config('signet.tenant', $1, true)", [tenant])
      for (const object of links) await insert(client, 'links', await readRows(store, object))
      for (const part of parts) {
        if (purged.has(`${tenant} ${part.retention_class} ${part.month}`)) continue
        await ensureMonth(client, part)
        for (const object of part.objects) await insert(client, 'records', await readRows(store, object))
        for (const object of part.stamps) {
          const stamps = await readRows(store, object)
          const classed = stamps.filter(({ month }) => month !== null)
          const others = stamps.filter(({ month }) => month === null)
          await insert(client, 'class_stamps', classed)
          await insert(client, 'compliance_stamps', others)
        }
      }
    }
    for (const object of manifest.runs) await insert(client, 'tree_runs', await readRows(store, object))
    for (const object of of('tree_checkpoints')) await insert(client, 'tree_checkpoints', await readRows(store, object))
    const onTile = async ({ level, index, hashes, root }: RebuiltTile): Promise<void> => {
      await client.query('INSERT INTO signet.tree_tiles (level, index, hashes, root) VALUES ($1, $2, $3, $4)', [
        level,
        index,
        hashes,
        root,
      ])
    }
    const report = await verifyArchive(store, manifest, publicKeys, onTile)
    await client.query('COMMIT')
    return report
  } catch (error) {
    await client.query('ROLLBACK').catch(() => undefined)
    throw error
  }
}

/** Tables of the month's own, as it had them: in the rest of its class nobody could purge it. */
async function ensureMonth(
  client: pg.Client,
  { retention_class, month }: Pick<ArchivePart, 'retention_class' | 'month'>,
): Promise<void> {
  for (const kind of ['records', 'stamps']) {
    const { rows } = await client.query<{ statement: string; part: string }>(
      `SELECT format('CREATE TABLE signet.%I PARTITION OF signet.%I FOR VALUES FROM (%L) TO (%L)', name, of, $3::date, ($3::date + interval '1 month')::date)
                AS statement, format('signet.%I', name) AS part
         FROM (SELECT $1 || '_' || $2 AS of, $1 || '_' || $2 || to_char($3::date, '"_"YYYY"_"MM') AS name) AS n
        WHERE to_regclass(format('signet.%I', of)) IS NOT NULL AND to_regclass(format('signet.%I', name)) IS NULL`,
      [kind, retention_class, month],
    )
    if (rows[0] === undefined) continue
    await client.query(rows[0].statement)
    await client.query('SELECT signet.guard($1::regclass, true)', [rows[0].part])
  }
}

async function restoreByTenant(client: pg.Client, table: string, rows: readonly Row[]): Promise<void> {
  for (const [tenant, some] of Map.groupBy(rows, (row) => String(row['tenant']))) {
    await client.query("SELECT set_config('signet.tenant', $1, true)", [tenant])
    await insert(client, table, some)
  }
}

/** Columns by name, as the archive has them: a column that came later takes its default. */
async function insert(client: pg.Client, table: string, rows: readonly Row[]): Promise<void> {
  for (let at = 0; at < rows.length; at += ROWS_AT_ONCE) {
    const some = rows.slice(at, at + ROWS_AT_ONCE)
    const found = await client.query<{ name: string }>(
      `SELECT attname AS name FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped`,
      [`signet.${table}`],
    )
    const columns = found.rows
      .filter(({ name }) => name in (some[0] ?? {}))
      .map(({ name }) => pg.escapeIdentifier(name))
      .join(', ')
    await client.query(
      `INSERT INTO signet.${pg.escapeIdentifier(table)} (${columns})
         SELECT ${columns} FROM json_populate_recordset(NULL::signet.${pg.escapeIdentifier(table)}, $1::json)`,
      [JSON.stringify(some)],
    )
  }
}
