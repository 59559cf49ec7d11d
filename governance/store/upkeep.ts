import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'

/**
 * Deletes, a batch of a tenant at a time, actions that the ledger has since before `before`, and tokens that ran out before it. Of somebody's
 * sessions the last one stays: when they were here is what checks look at. What is not recorded stays however old it is.
 * @returns how many rows went
 */
export async function deleteOld(pool: Pool, tenant: string, before: Date, limit: number): Promise<number> {
  return withTenant(pool, tenant, async (client) => {
    const actions = await client.query(
      `DELETE FROM signet.actions WHERE tenant = $1 AND id IN
         (SELECT id FROM signet.actions WHERE tenant = $1 AND recorded_at < $2 ORDER BY recorded_at LIMIT $3)`,
      [tenant, before, limit],
    )
    const tokens = await client.query(
      `DELETE FROM signet.tokens WHERE tenant = $1 AND id IN
         (SELECT t.id FROM signet.tokens t WHERE t.tenant = $1 AND t.expires_at < $2 AND (t.kind = 'api' OR EXISTS
           (SELECT 1 FROM signet.tokens later WHERE later.tenant = $1 AND later.kind = 'session'
            AND later.principal_kind = t.principal_kind AND later.principal_id = t.principal_id
            AND (later.created_at, later.id) > (t.created_at, t.id)))
          ORDER BY t.expires_at LIMIT $3)`,
      [tenant, before, limit],
    )
    return (actions.rowCount ?? 0) + (tokens.rowCount ?? 0)
  })
}
