import type { Client } from '#runtime/postgres/transaction.ts'

export type Forgotten = { readonly events: number; readonly violations: number; readonly attempts: number }

/** Events older than `before`, oldest first, `limit` at most: none whose violations are not resolved, or were resolved since then. */
export async function oldEvents(client: Client, tenant: string, before: Date, limit: number): Promise<string[]> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT e.id FROM signet.compliance_events e WHERE e.tenant = $1 AND e.created_at < $2
       AND NOT EXISTS (SELECT 1 FROM signet.compliance_violations v
         WHERE v.tenant = $1 AND v.event_id = e.id AND (v.state <> 'resolved' OR v.resolved_at >= $2))
     ORDER BY e.created_at, e.id LIMIT $3`,
    [tenant, before, limit],
  )
  return rows.map(({ id }) => id)
}

/** Deletes events with their violations, and what was tried about them. @throws where a violation is not resolved: the database says so */
export async function forgetEvents(client: Client, tenant: string, ids: readonly string[]): Promise<Forgotten> {
  const attempts = await client.query(
    `DELETE FROM signet.resolution_attempts WHERE tenant = $1 AND violation_id IN
       (SELECT id FROM signet.compliance_violations WHERE tenant = $1 AND event_id = ANY($2))`,
    [tenant, ids],
  )
  const violations = await client.query(
    'DELETE FROM signet.compliance_violations WHERE tenant = $1 AND event_id = ANY($2)',
    [tenant, ids],
  )
  const events = await client.query('DELETE FROM signet.compliance_events WHERE tenant = $1 AND id = ANY($2)', [
    tenant,
    ids,
  ])
  return {
    events: events.rowCount ?? 0,
    violations: violations.rowCount ?? 0,
    attempts: attempts.rowCount ?? 0,
  }
}
