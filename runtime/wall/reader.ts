import { withTenant, type Client, type Pool } from '../postgres/transaction.ts'

/** Read access to a wall, in transactions that see one tenant's rows, or the tree with the links of all. */
export type WallReader = {
  inTenant<T>(tenant: string, work: (client: Client) => Promise<T>): Promise<T>
  /** Also sees the runs and links of all tenants. One snapshot for all of `work`. */
  inTree<T>(work: (client: Client) => Promise<T>): Promise<T>
}

/** Sees the runs and links of all tenants, in the transaction under way. */
const SEE_TREE = "SELECT set_config('signet.tree', 'on', true)"

/** Reads through a pool: each call is a short transaction of its own, so that a long verification holds nothing. */
export function poolReader(pool: Pool): WallReader {
  return {
    inTenant: (tenant, work) => withTenant(pool, tenant, work, { readOnly: true }),
    inTree: (work) =>
      withTenant(
        pool,
        '',
        async (client) => {
          await client.query(SEE_TREE)
          return work(client)
        },
        { readOnly: true, snapshot: true },
      ),
  }
}

/** Reads through one client, in one snapshot from beginning to end. `client` has a transaction of isolation REPEATABLE READ under way. */
export function snapshotReader(client: Client): WallReader {
  let last: Promise<unknown> = Promise.resolve()
  let seen: string | null = null
  let seesTree = false
  // One thing at a time: a client takes one query at a time, and a tenant is that of the whole transaction.
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work)
    last = done.catch(() => undefined)
    return done
  }
  return {
    inTenant: (tenant, work) =>
      inTurn(async () => {
        if (seen !== tenant) await client.query("SELECT set_config('signet.tenant', $1, true)", [tenant])
        seen = tenant
        return work(client)
      }),
    inTree: (work) =>
      inTurn(async () => {
        if (!seesTree) await client.query(SEE_TREE)
        seesTree = true
        return work(client)
      }),
  }
}
