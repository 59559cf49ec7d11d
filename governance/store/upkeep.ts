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
    // Counted from `before`, which is ninety days ago.
    const results = await client.query(
      `DELETE FROM signet.scan_results WHERE tenant = $1 AND id IN
         (SELECT r.id FROM signet.scan_results r WHERE r.tenant = $1 AND r.created_at < $2::timestamptz - CASE WHEN r.passed THEN interval '0' ELSE interval '310 days' END
            AND NOT EXISTS (SELECT 1 FROM signet.remediation_actions a WHERE a.tenant = $1 AND (a.result_id = r.id OR a.verified_by = r.id))
          ORDER BY r.created_at LIMIT $3)`,
      [tenant, before, limit],
    )
    return (actions.rowCount ?? 0) + (tokens.rowCount ?? 0) + (results.rowCount ?? 0)
  })
}
