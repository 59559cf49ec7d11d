import type { Client } from '#runtime/postgres/transaction.ts'

/** What a person closed although the rule found it counts as nothing that went wrong. */
const COUNTS = `NOT (v.state = 'resolved' AND coalesce(v.resolution->>'by', '') = 'person' AND coalesce(v.resolution->>'still_found', '') = 'true')`

export type Offender = { readonly subject: string; readonly violations: number }

/** Who violated a rule at least `atLeast` times since `since`, the worst first, in an order that is always the same. */
export async function offendersOf(
  client: Client,
  tenant: string,
  rule: string,
  { since, atLeast, limit }: { readonly since: Date; readonly atLeast: number; readonly limit: number },
): Promise<Offender[]> {
  const { rows } = await client.query<Offender>(
    `SELECT v.subject, count(*)::int AS violations FROM signet.compliance_violations v
     WHERE v.tenant = $1 AND v.rule = $2 AND v.created_at > $3 AND v.subject IS NOT NULL AND ${COUNTS}
     GROUP BY v.subject HAVING count(*) >= $4 ORDER BY count(*) DESC, v.subject COLLATE "C" LIMIT $5`,
    [tenant, rule, since, atLeast, limit],
  )
  return rows
}

/** `good`: nothing was wrong with it. `violated`: the rule that is asked about was. */
export type PastEvent = { readonly subject: string | null; readonly good: boolean; readonly violated: boolean }

/** Events since `since`, the newest first. */
export async function pastEvents(
  client: Client,
  tenant: string,
  rule: string,
  { since, limit }: { readonly since: Date; readonly limit: number },
): Promise<PastEvent[]> {
  const { rows } = await client.query<PastEvent>(
    `SELECT e.subject,
       NOT EXISTS (SELECT 1 FROM signet.compliance_violations v WHERE v.tenant = $1 AND v.event_id = e.id AND ${COUNTS}) AS good,
       EXISTS (SELECT 1 FROM signet.compliance_violations v WHERE v.tenant = $1 AND v.event_id = e.id AND v.rule = $2 AND ${COUNTS}) AS violated
     FROM (SELECT id, subject, created_at FROM signet.compliance_events WHERE tenant = $1 AND created_at > $3
       ORDER BY created_at DESC, id DESC LIMIT $4) e
     ORDER BY e.created_at DESC, e.id DESC`,
    [tenant, rule, since, limit],
  )
  return rows
}
