import { SignetError } from '#core/error/signet-error.ts'
import { unavailable, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Backlog, LinkRange } from '../tree/allot.ts'
import type { FullTile } from '../tree/edge.ts'

export type StoredCheckpoint = {
  readonly size: number
  readonly root: Buffer
  readonly note: string
  readonly madeAt: Date
}
export type Leaf = {
  readonly tenant: string
  readonly seq: number
  readonly commitment: Buffer
  readonly linkHash: Buffer
}
export type Run = {
  readonly firstLeaf: number
  readonly tenant: string
  readonly firstSeq: number
  readonly count: number
}

/** Runs `work` in one transaction that sees the links of all tenants; `readOnly` where it is for others to read. @throws DATABASE_UNAVAILABLE, and what `work` throws */
export async function withTree<T>(
  pool: Pool,
  work: (client: Client) => Promise<T>,
  options: { readOnly?: boolean } = {},
): Promise<T> {
  const client = await pool.connect().catch((error: unknown) => {
    throw unavailable(error) ?? error
  })
  let broken = false
  try {
    const begin = options.readOnly === true ? 'BEGIN READ ONLY' : 'BEGIN'
    await client.query(`${begin}; SELECT set_config('signet.tree', 'on', true)`)
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {
      broken = true
    })
    throw unavailable(error) ?? error
  } finally {
    client.release(broken)
  }
}

/** Takes the tree to the end of the transaction, or says that another process has it. */
export async function tryLockTree(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ taken: boolean }>(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('signet.tree', 0)) AS taken",
  )
  return rows[0]?.taken === true
}

/** The last checkpoint of at most `size` leaves, or the last of all. */
export async function readCheckpoint(client: Client, size = Number.MAX_SAFE_INTEGER): Promise<StoredCheckpoint | null> {
  const { rows } = await client.query<{ size: string; root: Buffer; note: string; made_at: Date }>(
    'SELECT size, root, note, made_at FROM signet.tree_checkpoints WHERE size <= $1 ORDER BY size DESC LIMIT 1',
    [size],
  )
  const [row] = rows
  return row === undefined ? null : { size: Number(row.size), root: row.root, note: row.note, madeAt: row.made_at }
}

/** Every tenant whose chain goes further than the tree. Finds the tenants by leaping from one to the next, not by reading all links. */
export async function readBacklogs(client: Client): Promise<Backlog[]> {
  const { rows } = await client.query<{ tenant: string; head: string; integrated: string }>(
    `WITH RECURSIVE tenants AS (
       (SELECT tenant FROM signet.links ORDER BY tenant LIMIT 1)
       UNION ALL
       SELECT (SELECT l.tenant FROM signet.links l WHERE l.tenant > t.tenant ORDER BY l.tenant LIMIT 1) FROM tenants t WHERE t.tenant IS NOT NULL
     )
     SELECT t.tenant, h.seq AS head, coalesce(r.last, 0) AS integrated
       FROM tenants t
       JOIN LATERAL (SELECT seq FROM signet.links l WHERE l.tenant = t.tenant ORDER BY seq DESC LIMIT 1) AS h ON true
       LEFT JOIN LATERAL (SELECT first_seq + count - 1 AS last FROM signet.tree_runs r WHERE r.tenant = t.tenant ORDER BY first_seq DESC LIMIT 1) AS r ON true
      WHERE h.seq > coalesce(r.last, 0)`,
  )
  return rows.map((row) => ({ tenant: row.tenant, head: Number(row.head), integrated: Number(row.integrated) }))
}

/** The links of the ranges, range after range, each in order. */
export async function readLeaves(client: Client, ranges: readonly LinkRange[]): Promise<Leaf[]> {
  const { rows } = await client.query<{ tenant: string; seq: string; commitment: Buffer; hash: Buffer }>(
    `SELECT l.tenant, l.seq, l.commitment, l.hash
       FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS r(tenant, first, last, place)
       JOIN signet.links l ON l.tenant = r.tenant AND l.seq BETWEEN r.first AND r.last
      ORDER BY r.place, l.seq`,
    [ranges.map((range) => range.tenant), ranges.map((range) => range.first), ranges.map((range) => range.last)],
  )
  return rows.map((row) => ({
    tenant: row.tenant,
    seq: Number(row.seq),
    commitment: row.commitment,
    linkHash: row.hash,
  }))
}

/** Leaves `from` to before `to`, in the order of the tree. @throws SignetError CHAIN_BROKEN where a link of the tree is gone */
export async function readTreeLeaves(client: Client, from: number, to: number): Promise<Leaf[]> {
  if (from >= to) return []
  const { rows } = await client.query<{ tenant: string; first: string; last: string }>(
    `SELECT tenant, first_seq + greatest($1 - first_leaf, 0) AS first, first_seq + least($2 - first_leaf, count) - 1 AS last
       FROM signet.tree_runs
      WHERE first_leaf < $2 AND first_leaf >= coalesce((SELECT max(first_leaf) FROM signet.tree_runs WHERE first_leaf <= $1), 0)
      ORDER BY first_leaf`,
    [from, to],
  )
  const ranges = rows.map((row) => ({ tenant: row.tenant, first: Number(row.first), last: Number(row.last) }))
  const leaves = await readLeaves(client, ranges)
  if (leaves.length !== to - from) {
    throw new SignetError(
      'CHAIN_BROKEN',
      `leaves ${from} to ${to - 1} of the tree: ${to - from - leaves.length} of their links are missing`,
    )
  }
  return leaves
}

/** An event's link, and which leaf of the tree it is (null while it is none). Null where the tenant has no such event. */
export async function findLeaf(
  client: Client,
  tenant: string,
  eventId: string,
): Promise<(Leaf & { readonly index: number | null }) | null> {
  const { rows } = await client.query<{ seq: string; commitment: Buffer; hash: Buffer; index: string | null }>(
    `SELECT l.seq, l.commitment, l.hash,
            (SELECT CASE WHEN r.first_seq + r.count > l.seq THEN r.first_leaf + l.seq - r.first_seq END
               FROM signet.tree_runs r WHERE r.tenant = $1 AND r.first_seq <= l.seq ORDER BY r.first_seq DESC LIMIT 1) AS index
       FROM signet.links l WHERE l.tenant = $1 AND l.event_id = $2`,
    [tenant, eventId],
  )
  const [row] = rows
  if (row === undefined) return null
  const index = row.index === null ? null : Number(row.index)
  return { tenant, seq: Number(row.seq), commitment: row.commitment, linkHash: row.hash, index }
}

export async function readTile(client: Client, level: number, index: number): Promise<Buffer | null> {
  const { rows } = await client.query<{ hashes: Buffer }>(
    'SELECT hashes FROM signet.tree_tiles WHERE level = $1 AND index = $2',
    [level, index],
  )
  return rows[0]?.hashes ?? null
}

/** Roots of the full tiles `from` to before `to` of a level, in order. */
export async function readTileRoots(client: Client, level: number, from: number, to: number): Promise<Buffer[]> {
  const { rows } = await client.query<{ root: Buffer }>(
    'SELECT root FROM signet.tree_tiles WHERE level = $1 AND index >= $2 AND index < $3 ORDER BY index',
    [level, from, to],
  )
  return rows.map((row) => row.root)
}

/** Adds what one integration made. */
export async function insertGrowth(
  client: Client,
  growth: { readonly runs: readonly Run[]; readonly tiles: readonly FullTile[]; readonly checkpoint: StoredCheckpoint },
): Promise<void> {
  const { runs, tiles, checkpoint } = growth
  await client.query(
    `INSERT INTO signet.tree_runs (first_leaf, tenant, first_seq, count)
     SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::integer[])`,
    [
      runs.map((run) => run.firstLeaf),
      runs.map((run) => run.tenant),
      runs.map((run) => run.firstSeq),
      runs.map((run) => run.count),
    ],
  )
  for (const tile of tiles) {
    await client.query('INSERT INTO signet.tree_tiles (level, index, hashes, root) VALUES ($1, $2, $3, $4)', [
      tile.level,
      tile.index,
      tile.hashes,
      tile.root,
    ])
  }
  await client.query('INSERT INTO signet.tree_checkpoints (size, root, note, made_at) VALUES ($1, $2, $3, $4)', [
    checkpoint.size,
    checkpoint.root,
    checkpoint.note,
    checkpoint.madeAt,
  ])
}
