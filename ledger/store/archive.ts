import type { Client } from '#runtime/postgres/transaction.ts'
import type { WallReader } from '#runtime/wall/reader.ts'

/** Rows that a page of a table has at most, so that a page fits in memory whatever its records hold. */
const PAGE_ROWS = 100
const SMALL_PAGE_ROWS = 5_000

export type ArchiveHead = { readonly size: number; readonly root: Buffer; readonly note: string }
export type CoveredTenant = { readonly tenant: string; readonly lastSeq: number; readonly head: string }
export type NewPart = {
  readonly retentionClass: string
  readonly month: string
  readonly first: number
  readonly last: number
  readonly records: number
}

/** The last signed checkpoint; null where none is. */
export async function readArchiveHead(reader: WallReader): Promise<ArchiveHead | null> {
  return reader.inTree(async (client) => {
    const { rows } = await client.query<{ size: string; root: Buffer; note: string }>(
      'SELECT size, root, note FROM signet.tree_checkpoints ORDER BY size DESC LIMIT 1',
    )
    return rows[0] === undefined ? null : { ...rows[0], size: Number(rows[0].size) }
  })
}

/** The signed note of a size; null where there is none. */
export async function readCheckpointNote(reader: WallReader, size: number): Promise<string | null> {
  return reader.inTree(async (client) => {
    const { rows } = await client.query<{ note: string }>('SELECT note FROM signet.tree_checkpoints WHERE size = $1', [
      size,
    ])
    return rows[0]?.note ?? null
  })
}

/** The root that was signed for a size; null where none was. */
export async function readCheckpointRoot(reader: WallReader, size: number): Promise<Buffer | null> {
  return reader.inTree(async (client) => {
    const { rows } = await client.query<{ root: Buffer }>('SELECT root FROM signet.tree_checkpoints WHERE size = $1', [
      size,
    ])
    return rows[0]?.root ?? null
  })
}

/** How far the tree of `size` leaves has each chain. */
export async function readCovered(reader: WallReader, size: number): Promise<CoveredTenant[]> {
  return reader.inTree(async (client) => {
    const { rows } = await client.query<{ tenant: string; last: string; head: string }>(
      `SELECT t.tenant, t.last, encode(l.hash, 'hex') AS head
         FROM (SELECT tenant, max(first_seq + count - 1) AS last FROM signet.tree_runs WHERE first_leaf < $1 GROUP BY tenant) AS t
         JOIN signet.links l ON l.tenant = t.tenant AND l.seq = t.last ORDER BY t.tenant`,
      [size],
    )
    return rows.map(({ tenant, last, head }) => ({ tenant, lastSeq: Number(last), head }))
  })
}

/** Lowercase hex; null where the tenant has no such link. */
export async function readLinkHash(reader: WallReader, tenant: string, seq: number): Promise<string | null> {
  return reader.inTenant(tenant, async (client) => {
    const { rows } = await client.query<{ hash: string }>(
      "SELECT encode(hash, 'hex') AS hash FROM signet.links WHERE tenant = $1 AND seq = $2",
      [tenant, seq],
    )
    return rows[0]?.hash ?? null
  })
}

/** What links `after < seq <= to` have, by class and month, without what was purged. */
export async function readNewParts(reader: WallReader, tenant: string, after: number, to: number): Promise<NewPart[]> {
  return reader.inTenant(tenant, async (client) => {
    const { rows } = await client.query<{
      retention_class: string
      month: string
      first: string
      last: string
      records: string
    }>(
      `SELECT l.retention_class, l.month::text, min(l.seq) AS first, max(l.seq) AS last, count(*) AS records FROM signet.links l
        WHERE l.tenant = $1 AND l.seq > $2 AND l.seq <= $3
          AND NOT EXISTS (SELECT FROM signet.purges p WHERE p.tenant = $1 AND p.retention_class = l.retention_class AND p.month = l.month)
        GROUP BY 1, 2 ORDER BY 2, 1`,
      [tenant, after, to],
    )
    return rows.map((row) => ({
      retentionClass: row.retention_class,
      month: row.month,
      first: Number(row.first),
      last: Number(row.last),
      records: Number(row.records),
    }))
  })
}

/** Months that a tenant's records were purged of, as `CLASS MONTH`. */
export async function readPurged(reader: WallReader, tenant: string): Promise<ReadonlySet<string>> {
  return reader.inTenant(tenant, async (client) => {
    const { rows } = await client.query<{ part: string }>(
      "SELECT retention_class || ' ' || month::text AS part FROM signet.purges WHERE tenant = $1",
      [tenant],
    )
    return new Set(rows.map(({ part }) => part))
  })
}

/** Days that a class is archived for, by its name. */
export async function readArchiveDays(reader: WallReader): Promise<ReadonlyMap<string, number>> {
  return reader.inTree(async (client) => {
    const { rows } = await client.query<{ name: string; archive_days: number }>(
      'SELECT name, archive_days FROM signet.retention_classes',
    )
    return new Map(rows.map(({ name, archive_days }) => [name, archive_days]))
  })
}

/** `at`: its place among the rows of its section, ascending; null where all are read at once. */
export type ArchivedRow = { readonly line: string; readonly at: number | null }
type Page = { readonly rows: { readonly line: string; readonly at: number }[] }

/** Rows of a table as JSON texts, in pages that are a short transaction each. */
async function* paged(
  read: (work: (client: Client) => Promise<Page>) => Promise<Page>,
  after: number,
  limit: number,
  sql: string,
  values: readonly unknown[],
): AsyncGenerator<ArchivedRow> {
  for (let from = after; ;) {
    const { rows } = await read(async (client) => {
      const found = await client.query<{ line: string; at: string }>(sql, [...values, from, limit])
      return { rows: found.rows.map(({ line, at }) => ({ line, at: Number(at) })) }
    })
    yield* rows
    const last = rows.at(-1)
    if (rows.length < limit || last === undefined) return
    from = last.at
  }
}

export function linkRows(reader: WallReader, tenant: string, to: number, after: number): AsyncGenerator<ArchivedRow> {
  return paged(
    (work) => reader.inTenant(tenant, work),
    after,
    SMALL_PAGE_ROWS,
    `SELECT row_to_json(l)::text AS line, l.seq AS at FROM signet.links l WHERE l.tenant = $1 AND l.seq <= $2 AND l.seq > $3 ORDER BY l.seq LIMIT $4`,
    [tenant, to],
  )
}

/** `after`: a seq before the part, or one of it. */
export function recordRows(
  reader: WallReader,
  tenant: string,
  part: NewPart,
  after: number,
): AsyncGenerator<ArchivedRow> {
  return paged(
    (work) => reader.inTenant(tenant, work),
    after,
    PAGE_ROWS,
    `SELECT row_to_json(r)::text AS line, r.seq AS at FROM signet.records r
      WHERE r.tenant = $1 AND r.retention_class = $2 AND r.month = $3::date AND r.seq <= $4 AND r.seq > $5 ORDER BY r.seq LIMIT $6`,
    [tenant, part.retentionClass, part.month, part.last],
  )
}

/** Stamps that records of the part were the first to carry. */
export function stampRows(
  reader: WallReader,
  tenant: string,
  part: NewPart,
  after: number,
): AsyncGenerator<ArchivedRow> {
  return paged(
    (work) => reader.inTenant(tenant, work),
    after,
    PAGE_ROWS,
    `SELECT row_to_json(s)::text AS line, r.seq AS at FROM signet.records r
       JOIN signet.stamps s ON s.tenant = r.tenant AND s.stamp_hash = r.stamp_hash AND s.seq = r.seq
      WHERE r.tenant = $1 AND r.retention_class = $2 AND r.month = $3::date AND r.seq <= $4 AND r.seq > $5 ORDER BY r.seq LIMIT $6`,
    [tenant, part.retentionClass, part.month, part.last],
  )
}

/** `after`: first leaf of the run before; -1 where there is none. */
export function runRows(reader: WallReader, size: number, after: number): AsyncGenerator<ArchivedRow> {
  return paged(
    (work) => reader.inTree(work),
    after,
    SMALL_PAGE_ROWS,
    'SELECT row_to_json(t)::text AS line, t.first_leaf AS at FROM signet.tree_runs t WHERE t.first_leaf < $1 AND t.first_leaf > $2 ORDER BY t.first_leaf LIMIT $3',
    [size],
  )
}

export function checkpointRows(reader: WallReader, size: number, after: number): AsyncGenerator<ArchivedRow> {
  return paged(
    (work) => reader.inTree(work),
    after,
    SMALL_PAGE_ROWS,
    'SELECT row_to_json(c)::text AS line, c.size AS at FROM signet.tree_checkpoints c WHERE c.size <= $1 AND c.size > $2 ORDER BY c.size LIMIT $3',
    [size],
  )
}

export async function* classRows(reader: WallReader): AsyncGenerator<ArchivedRow> {
  yield* await reader.inTree(async (client) => {
    const { rows } = await client.query<{ line: string }>(
      'SELECT row_to_json(c)::text AS line FROM signet.retention_classes c ORDER BY name',
    )
    return rows.map(({ line }) => ({ line, at: null }))
  })
}

/** Small tables of a tenant that a snapshot has whole. */
export const TENANT_TABLES = [
  'legal_holds',
  'legal_hold_releases',
  'purges',
  'purge_summaries',
  'purged_sessions',
] as const
export type TenantTable = (typeof TENANT_TABLES)[number]

const OF_PURGE = `EXISTS (SELECT FROM signet.purges p WHERE p.tenant = t.tenant AND p.retention_class = t.retention_class
  AND p.month = t.month AND p.authorized_seq <= $2)`

/** Of purges, what the chain up to `lastSeq` allowed. */
export async function* tenantRows(
  reader: WallReader,
  table: TenantTable,
  tenants: readonly CoveredTenant[],
): AsyncGenerator<ArchivedRow> {
  const where = table.startsWith('purge') ? OF_PURGE : '$2::bigint IS NOT NULL'
  for (const { tenant, lastSeq } of tenants) {
    yield* await reader.inTenant(tenant, async (client) => {
      const { rows } = await client.query<{ line: string }>(
        `SELECT row_to_json(t)::text AS line FROM signet.${table} t WHERE t.tenant = $1 AND ${where}`,
        [tenant, lastSeq],
      )
      return rows.map(({ line }) => ({ line, at: null }))
    })
  }
}
