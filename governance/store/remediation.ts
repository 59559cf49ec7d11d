import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { RemediationStatus } from '../remediation/status.ts'
import type { Cursor } from './paging.ts'

export type RemediationRow = {
  readonly id: string
  readonly result_id: string
  readonly rule_id: string
  readonly user_id: string | null
  readonly severity: string
  readonly finding: string
  readonly status: RemediationStatus
  readonly assigned_to: string | null
  readonly verified: boolean
  readonly verified_by: string | null
  readonly metadata: JsonObject
  readonly due_at: Date
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}
export type HistoryRow = {
  readonly id: string
  readonly kind: 'opened' | 'status' | 'assigned' | 'verified' | 'comment' | 'seen_again'
  readonly made_by: string
  readonly details: JsonObject
  readonly created_at: Date
}

const COLUMNS =
  'id, result_id, rule_id, user_id, severity, finding, status, assigned_to, verified, verified_by, metadata, due_at, version, created_at, updated_at'

/** Null where one is open for this rule and user already. */
export async function insertRemediation(
  client: Client,
  tenant: string,
  made: Pick<
    RemediationRow,
    'id' | 'result_id' | 'rule_id' | 'user_id' | 'severity' | 'finding' | 'metadata' | 'due_at' | 'assigned_to'
  >,
): Promise<RemediationRow | null> {
  const { rows } = await client.query<RemediationRow>(
    `INSERT INTO signet.remediation_actions (tenant, id, result_id, rule_id, user_id, severity, finding, metadata, due_at, assigned_to)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING RETURNING ${COLUMNS}`,
    [
      tenant,
      made.id,
      made.result_id,
      made.rule_id,
      made.user_id,
      made.severity,
      made.finding,
      JSON.stringify(made.metadata),
      made.due_at,
      made.assigned_to,
    ],
  )
  return rows[0] ?? null
}

export async function findRemediation(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<RemediationRow | null> {
  const { rows } = await client.query<RemediationRow>(
    `SELECT ${COLUMNS} FROM signet.remediation_actions WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export type RemediationFilter = {
  readonly result_id?: string | undefined
  readonly user_id?: string | undefined
  readonly assigned_to?: string | undefined
  readonly status?: RemediationStatus | undefined
}

/** One more than `limit` where there is a next page; newest first. */
export async function listRemediation(
  client: Client,
  tenant: string,
  filter: RemediationFilter,
  { after, limit }: { after: Cursor | null; limit: number },
): Promise<RemediationRow[]> {
  const values: unknown[] = [tenant, after?.at ?? null, after?.id ?? null, limit + 1]
  const conditions = Object.entries(filter).flatMap(([column, value]) => {
    if (value === undefined) return []
    values.push(value)
    return [` AND ${FILTERS[column as keyof RemediationFilter]} = $${values.length}`]
  })
  const { rows } = await client.query<RemediationRow>(
    `SELECT ${COLUMNS} FROM signet.remediation_actions
     WHERE tenant = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))${conditions.join('')}
     ORDER BY created_at DESC, id DESC LIMIT $4`,
    values,
  )
  return rows
}
const FILTERS = { result_id: 'result_id', user_id: 'user_id', assigned_to: 'assigned_to', status: 'status' } as const

export async function updateRemediation(
  client: Client,
  tenant: string,
  row: Pick<RemediationRow, 'id' | 'status' | 'assigned_to' | 'verified' | 'verified_by' | 'metadata' | 'due_at'>,
): Promise<RemediationRow> {
  const { rows } = await client.query<RemediationRow>(
    `UPDATE signet.remediation_actions SET status = $3, assigned_to = $4, verified = $5, verified_by = $6, metadata = $7, due_at = $8,
       version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2 RETURNING ${COLUMNS}`,
    [
      tenant,
      row.id,
      row.status,
      row.assigned_to,
      row.verified,
      row.verified_by,
      JSON.stringify(row.metadata),
      row.due_at,
    ],
  )
  return rows[0]!
}

export async function insertHistory(
  client: Client,
  tenant: string,
  actionId: string,
  made: Omit<HistoryRow, 'created_at'>,
): Promise<void> {
  await client.query(
    'INSERT INTO signet.remediation_history (tenant, id, action_id, kind, made_by, details) VALUES ($1, $2, $3, $4, $5, $6)',
    [tenant, made.id, actionId, made.kind, made.made_by, JSON.stringify(made.details)],
  )
}

export type NewRemediation = Pick<
  RemediationRow,
  'id' | 'result_id' | 'rule_id' | 'user_id' | 'severity' | 'finding'
> & {
  readonly due_at: string
  /** Of its first line of history. */
  readonly history_id: string
}

/**
 * Opens actions; where one is open for the rule and user already, its history has instead that the failure was seen again, once a day. One
 * statement, however many there are. @returns how many are new
 */
export async function openRemediations(
  client: Client,
  tenant: string,
  made: readonly NewRemediation[],
  by: string,
): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `WITH failed AS (SELECT * FROM jsonb_to_recordset($2::jsonb) AS f(id uuid, result_id uuid, rule_id text, user_id uuid, severity text,
         finding text, due_at timestamptz, history_id uuid)),
       opened AS (INSERT INTO signet.remediation_actions (tenant, id, result_id, rule_id, user_id, severity, finding, due_at)
         -- In one order, so that two scans at once wait for each other rather than both for ever.
         SELECT $1, id, result_id, rule_id, user_id, severity, finding, due_at FROM failed ORDER BY rule_id, user_id
         ON CONFLICT DO NOTHING RETURNING id),
       -- What was open before this statement: it does not see what it inserts itself.
       seen AS (SELECT f.history_id, a.id, f.result_id FROM failed f JOIN signet.remediation_actions a
         ON a.tenant = $1 AND a.rule_id = f.rule_id AND coalesce(a.user_id, ${NOBODY}) = coalesce(f.user_id, ${NOBODY}) AND a.status IN ('open', 'in_progress')
         WHERE NOT EXISTS (SELECT 1 FROM signet.remediation_history h WHERE h.tenant = $1 AND h.action_id = a.id AND h.kind = 'seen_again'
           AND h.created_at > now() - interval '1 day')),
       told AS (INSERT INTO signet.remediation_history (tenant, id, action_id, kind, made_by, details)
         SELECT $1, f.history_id, f.id, 'opened', $3, jsonb_build_object('result_id', f.result_id) FROM failed f JOIN opened USING (id)
         UNION ALL SELECT $1, history_id, id, 'seen_again', $3, jsonb_build_object('result_id', result_id) FROM seen)
     SELECT count(*)::int AS count FROM opened`,
    [tenant, JSON.stringify(made), by],
  )
  return rows[0]?.count ?? 0
}
/** As the index of what is open has it. */
const NOBODY = "'00000000-0000-0000-0000-000000000000'::uuid"

/** Oldest first, the last thousand. */
export async function listHistory(client: Client, tenant: string, actionId: string): Promise<HistoryRow[]> {
  const { rows } = await client.query<HistoryRow>(
    `SELECT * FROM (SELECT id, kind, made_by, details, created_at FROM signet.remediation_history
       WHERE tenant = $1 AND action_id = $2 ORDER BY created_at DESC, id DESC LIMIT 1000) AS newest ORDER BY created_at, id`,
    [tenant, actionId],
  )
  return rows
}
