import type { Client } from '#runtime/postgres/transaction.ts'
import type { Cursor } from './paging.ts'

export type BlockTarget = {
  readonly kind: 'agent' | 'route'
  /** What an agent is called; the template of a route. */
  readonly value: string
  /** Of a route; '' for any. */
  readonly method: string
}
export type BlockRow = BlockTarget & {
  readonly id: string
  readonly violation_id: string
  readonly expires_at: Date
  readonly lifted_at: Date | null
  readonly lifted_by: string | null
  readonly lift_comment: string
  readonly created_at: Date
}

const BLOCK =
  'id, violation_id, kind, value, method, expires_at, lifted_at, lifted_by, lift_comment, created_at' as const

/** The row that holds it: this one, or the one that was there for the same violation; `isNew`: it was not. */
export async function insertBlock(
  client: Client,
  tenant: string,
  made: BlockTarget & Pick<BlockRow, 'id' | 'violation_id' | 'expires_at'>,
): Promise<BlockRow & { readonly isNew: boolean }> {
  const { rows } = await client.query<BlockRow & { isNew: boolean }>(
    `INSERT INTO signet.proxy_blocks AS b (tenant, id, violation_id, kind, value, method, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (tenant, violation_id, kind, value, method) WHERE lifted_at IS NULL
       DO UPDATE SET expires_at = greatest(b.expires_at, excluded.expires_at)
     RETURNING ${BLOCK}, id = $2 AS "isNew"`,
    [tenant, made.id, made.violation_id, made.kind, made.value, made.method, made.expires_at],
  )
  return rows[0]!
}

export async function findBlock(client: Client, tenant: string, id: string, lock = false): Promise<BlockRow | null> {
  const { rows } = await client.query<BlockRow>(
    `SELECT ${BLOCK} FROM signet.proxy_blocks WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

/** One more than `limit` where there is a next page; newest first. */
export async function listBlocks(
  client: Client,
  tenant: string,
  { after, limit }: { after: Cursor | null; limit: number },
): Promise<BlockRow[]> {
  const { rows } = await client.query<BlockRow>(
    `SELECT ${BLOCK} FROM signet.proxy_blocks WHERE tenant = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
     ORDER BY created_at DESC, id DESC LIMIT $4`,
    [tenant, after?.at ?? null, after?.id ?? null, limit + 1],
  )
  return rows
}

/** How many are held at `now`, of whatever violation. */
export async function countBlocks(client: Client, tenant: string, now: Date): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.proxy_blocks WHERE tenant = $1 AND lifted_at IS NULL AND expires_at > $2',
    [tenant, now],
  )
  return rows[0]?.count ?? 0
}

export type BlockInForce = BlockTarget & Pick<BlockRow, 'id' | 'expires_at'>

/** What is held at `now`, each thing once (the block that ends last), in an order that is always the same. */
export async function blocksInForce(client: Client, tenant: string, now: Date, limit: number): Promise<BlockInForce[]> {
  const { rows } = await client.query<BlockInForce>(
    `SELECT DISTINCT ON (kind, value, method) id, kind, value, method, expires_at FROM signet.proxy_blocks
     WHERE tenant = $1 AND lifted_at IS NULL AND expires_at > $2 ORDER BY kind, value, method, expires_at DESC, id LIMIT $3`,
    [tenant, now, limit],
  )
  return rows
}

export type Lift = { readonly by: string; readonly comment: string; readonly now: Date }

/** Of a violation, all that are held. @returns which */
export async function liftBlocksOf(
  client: Client,
  tenant: string,
  violationId: string,
  { by, comment, now }: Lift,
): Promise<BlockRow[]> {
  const { rows } = await client.query<BlockRow>(
    `UPDATE signet.proxy_blocks SET lifted_at = $3, lifted_by = $4, lift_comment = $5
     WHERE tenant = $1 AND violation_id = $2 AND lifted_at IS NULL RETURNING ${BLOCK}`,
    [tenant, violationId, now, by, comment],
  )
  return rows
}

/** Changes nothing where it is lifted. */
export async function liftBlock(
  client: Client,
  tenant: string,
  id: string,
  { by, comment, now }: Lift,
): Promise<BlockRow | null> {
  const { rows } = await client.query<BlockRow>(
    `UPDATE signet.proxy_blocks SET lifted_at = $3, lifted_by = $4, lift_comment = $5
     WHERE tenant = $1 AND id = $2 AND lifted_at IS NULL RETURNING ${BLOCK}`,
    [tenant, id, now, by, comment],
  )
  return rows[0] ?? null
}
