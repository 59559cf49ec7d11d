import pg from 'pg'
import { leafHash, writeLeafHash } from '#core/tree/hash.ts'
import type { TreeRun } from '#core/tree/runs.ts'
import type { Client } from '../postgres/transaction.ts'
import { CopyArena, copyOut } from './copy.ts'

export type TreeCheckpoint = { readonly size: number; readonly root: Buffer; readonly note: string }
export type StoredTile = {
  readonly level: number
  readonly index: number
  readonly hashes: Buffer
  readonly root: Buffer
}
/** Links as leaves of the tree, in order. `hashes`: end to end, each RFC 6962 over commitment ‖ link hash. */
export type StoredLeaves = { readonly seqs: Float64Array; readonly hashes: Buffer }
const NO_LEAVES: StoredLeaves = { seqs: new Float64Array(0), hashes: Buffer.alloc(0) }
const HASH_BYTES = 32

/** A tile has 256 leaves, each in a run of its own at worst; later runs are of no interest. */
const MAX_LAST_RUNS = 300

/** Runs in the order of their leaves, `limit` at most, whose first leaf is `from` or later; of one tenant where one is given. */
export async function readRuns(
  client: Client,
  { from, limit, tenant }: { from: number; limit: number; tenant: string | null },
): Promise<TreeRun[]> {
  const ofTenant = tenant === null ? '' : `AND tenant = ${pg.escapeLiteral(tenant)}`
  const rows = await copyOut(
    client,
    `SELECT first_leaf, tenant, first_seq, count FROM signet.tree_runs WHERE first_leaf >= ${from} ${ofTenant} ORDER BY first_leaf LIMIT ${limit}`,
  )
  const runs: TreeRun[] = []
  while (rows.next()) {
    runs.push({ firstLeaf: rows.bigint(), tenant: rows.text(), firstSeq: rows.bigint(), count: rows.integer() })
  }
  return runs
}

/** The runs that have leaves from `leaf` on, in order. */
export async function readLastRuns(client: Client, leaf: number): Promise<TreeRun[]> {
  const { rows } = await client.query<{ first: string | null }>(
    'SELECT max(first_leaf) AS first FROM signet.tree_runs WHERE first_leaf <= $1',
    [leaf],
  )
  return readRuns(client, { from: Number(rows[0]?.first ?? 0), limit: MAX_LAST_RUNS, tenant: null })
}

/** The links of a part of a chain as leaves, in order. */
export async function readLeaves(
  client: Client,
  tenant: string,
  first: number,
  last: number,
  arena = new CopyArena(),
): Promise<StoredLeaves> {
  if (last < first) return NO_LEAVES
  const rows = await copyOut(
    client,
    `SELECT seq, commitment || hash FROM signet.links WHERE tenant = ${pg.escapeLiteral(tenant)} AND seq BETWEEN ${first} AND ${last} ORDER BY seq`,
    arena,
  )
  const table = rows.table(2, arena)
  const seqs = new Float64Array(table.count)
  const hashes = Buffer.alloc(table.count * HASH_BYTES)
  for (let row = 0; row < table.count; row++) {
    seqs[row] = table.bigint(row, 0)
    const [from, to] = table.place(row, 1)
    if (to - from === 2 * HASH_BYTES) writeLeafHash(table.bytes, from, hashes, row * HASH_BYTES)
    else leafHash(table.bytes.subarray(from, to)).copy(hashes, row * HASH_BYTES)
  }
  return { seqs, hashes }
}

/** Stored tiles `from` to before `to` of a level, in order. */
export async function readTiles(client: Client, level: number, from: number, to: number): Promise<StoredTile[]> {
  const rows = await copyOut(
    client,
    `SELECT index, hashes, root FROM signet.tree_tiles WHERE level = ${level} AND index >= ${from} AND index < ${to} ORDER BY index`,
  )
  const tiles: StoredTile[] = []
  while (rows.next()) tiles.push({ level, index: rows.bigint(), hashes: rows.bytes(), root: rows.bytes() })
  return tiles
}

/** Roots of the full tiles `from` to before `to` of a level, with their index, in order. */
export async function readTileRoots(
  client: Client,
  level: number,
  from: number,
  to: number,
): Promise<{ index: number; root: Buffer }[]> {
  const rows = await copyOut(
    client,
    `SELECT index, root FROM signet.tree_tiles WHERE level = ${level} AND index >= ${from} AND index < ${to} ORDER BY index`,
  )
  const roots: { index: number; root: Buffer }[] = []
  while (rows.next()) roots.push({ index: rows.bigint(), root: rows.bytes() })
  return roots
}

/** How many full tiles each level has, as stored. */
export async function countTiles(client: Client): Promise<ReadonlyMap<number, number>> {
  const { rows } = await client.query<{ level: number; count: string }>(
    'SELECT level, count(*) AS count FROM signet.tree_tiles GROUP BY level',
  )
  return new Map(rows.map(({ level, count }) => [level, Number(count)]))
}

/** Checkpoints with `from <= size`, in order of size, `limit` at most. */
export async function readCheckpoints(client: Client, from: number, limit: number): Promise<TreeCheckpoint[]> {
  const rows = await copyOut(
    client,
    `SELECT size, root, note FROM signet.tree_checkpoints WHERE size >= ${from} ORDER BY size LIMIT ${limit}`,
  )
  const checkpoints: TreeCheckpoint[] = []
  while (rows.next()) checkpoints.push({ size: rows.bigint(), root: rows.bytes(), note: rows.text() })
  return checkpoints
}

/** The largest tree that was signed; null where none was. */
export async function readLastCheckpoint(client: Client): Promise<TreeCheckpoint | null> {
  const rows = await copyOut(client, 'SELECT size, root, note FROM signet.tree_checkpoints ORDER BY size DESC LIMIT 1')
  return rows.next() ? { size: rows.bigint(), root: rows.bytes(), note: rows.text() } : null
}

/** Every tenant with a link or a run. Finds them by leaping from one to the next, not by reading all. */
export async function readTenants(client: Client): Promise<string[]> {
  const leap = (table: string): string => `WITH RECURSIVE tenants AS (
      (SELECT tenant FROM ${table} ORDER BY tenant LIMIT 1)
      UNION ALL
      SELECT (SELECT l.tenant FROM ${table} l WHERE l.tenant > t.tenant ORDER BY l.tenant LIMIT 1) FROM tenants t WHERE t.tenant IS NOT NULL
    ) SELECT tenant FROM tenants WHERE tenant IS NOT NULL`
  const { rows } = await client.query<{ tenant: string }>(
    `SELECT tenant FROM (${leap('signet.links')}) AS l UNION SELECT tenant FROM (${leap('signet.tree_runs')}) AS r ORDER BY tenant`,
  )
  return rows.map(({ tenant }) => tenant)
}

/** The last link of a tenant that is in the tree; 0 where none is. */
export async function readLastIntegrated(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ last: string }>(
    'SELECT first_seq + count - 1 AS last FROM signet.tree_runs WHERE tenant = $1 ORDER BY first_seq DESC LIMIT 1',
    [tenant],
  )
  return Number(rows[0]?.last ?? 0)
}

/** The last link of a tenant that is among the first `size` leaves of the tree; 0 where none is. */
export async function readLastWithin(client: Client, tenant: string, size: number): Promise<number> {
  const { rows } = await client.query<{ last: string }>(
    `SELECT first_seq + least(count, $2 - first_leaf) - 1 AS last FROM signet.tree_runs WHERE tenant = $1 AND first_leaf < $2
      ORDER BY first_seq DESC LIMIT 1`,
    [tenant, size],
  )
  return Number(rows[0]?.last ?? 0)
}
