import type { Client } from '#runtime/postgres/transaction.ts'
import type { PrincipalKind } from '../access/principal.ts'
import type { WorkflowStatus } from '../workflows/status.ts'
import type { Cursor } from './paging.ts'

export type Release = {
  readonly resource: string
  readonly version?: string
  readonly digest?: string
  readonly channel: 'internal' | 'external'
  readonly expires_at: string
}
export type WorkflowRow = {
  readonly id: string
  readonly kind: 'review' | 'release' | 'policy'
  readonly regulation: string
  readonly name: string
  readonly description: string
  readonly status: WorkflowStatus
  readonly paused: boolean
  readonly required_approvals: number
  readonly requested_by: string
  /** `system`: Signet itself, which agrees to nothing. */
  readonly requester_kind: PrincipalKind | 'system'
  readonly requester_id: string
  readonly due_at: Date | null
  readonly release: Release | null
  /** What a workflow about a draft of a policy is about. */
  readonly policy_id: string | null
  readonly policy_version: number | null
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}
export type TransitionRow = {
  readonly id: string
  readonly old_status: string
  readonly new_status: string
  readonly made_by: string
  readonly comment: string
  readonly created_at: Date
}
export type Approver = { readonly kind: PrincipalKind; readonly id: string; readonly name: string }
export type TaskRow = {
  readonly id: string
  readonly workflow_id: string
  readonly title: string
  readonly assigned_to: string | null
  readonly status: 'open' | 'done'
  readonly due_at: Date | null
  readonly version: number
  readonly created_at: Date
  readonly updated_at: Date
}

export const WORKFLOW =
  'id, kind, regulation, name, description, status, paused, required_approvals, requested_by, requester_kind, requester_id, due_at, release, policy_id, policy_version, version, created_at, updated_at'
const TASK = 'id, workflow_id, title, assigned_to, status, due_at, version, created_at, updated_at'

export async function insertWorkflow(
  client: Client,
  tenant: string,
  made: Omit<WorkflowRow, 'status' | 'paused' | 'version' | 'created_at' | 'updated_at'>,
): Promise<WorkflowRow> {
  const { rows } = await client.query<WorkflowRow>(
    `INSERT INTO signet.workflows (tenant, id, kind, regulation, name, description, required_approvals, requested_by, requester_kind, requester_id, due_at, release, policy_id, policy_version)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) RETURNING ${WORKFLOW}`,
    [
      tenant,
      made.id,
      made.kind,
      made.regulation,
      made.name,
      made.description,
      made.required_approvals,
      made.requested_by,
      made.requester_kind,
      made.requester_id,
      made.due_at,
      made.release === null ? null : JSON.stringify(made.release),
      made.policy_id,
      made.policy_version,
    ],
  )
  return rows[0]!
}

export async function findWorkflow(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<WorkflowRow | null> {
  const { rows } = await client.query<WorkflowRow>(
    `SELECT ${WORKFLOW} FROM signet.workflows WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export type WorkflowListRow = WorkflowRow & { readonly approved_by: string[] }

/** Each with who agreed to it; one more than `limit` where there is a next page; newest first. */
export async function listWorkflows(
  client: Client,
  tenant: string,
  { after, limit, status }: { after: Cursor | null; limit: number; status: WorkflowStatus | null },
): Promise<WorkflowListRow[]> {
  const { rows } = await client.query<WorkflowListRow>(
    `SELECT ${WORKFLOW}, (SELECT coalesce(json_agg(a.name ORDER BY a.created_at, a.id), '[]') FROM signet.workflow_approvals a
       WHERE a.tenant = $1 AND a.workflow_id = w.id) AS approved_by
     FROM (SELECT * FROM signet.workflows
       WHERE tenant = $1 ${status === null ? '' : 'AND status = $5'} AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
       ORDER BY created_at DESC, id DESC LIMIT $4) w
     ORDER BY created_at DESC, id DESC`,
    [tenant, after?.at ?? null, after?.id ?? null, limit + 1, ...(status === null ? [] : [status])],
  )
  return rows
}

export async function updateWorkflow(
  client: Client,
  tenant: string,
  { id, status, paused }: Pick<WorkflowRow, 'id' | 'status' | 'paused'>,
): Promise<WorkflowRow> {
  const { rows } = await client.query<WorkflowRow>(
    `UPDATE signet.workflows SET status = $3, paused = $4, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2 RETURNING ${WORKFLOW}`,
    [tenant, id, status, paused],
  )
  return rows[0]!
}

export async function insertTransition(
  client: Client,
  tenant: string,
  workflowId: string,
  made: Omit<TransitionRow, 'created_at'>,
): Promise<void> {
  await client.query(
    `INSERT INTO signet.workflow_history (tenant, id, workflow_id, old_status, new_status, made_by, comment) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [tenant, made.id, workflowId, made.old_status, made.new_status, made.made_by, made.comment],
  )
}

/** Oldest first, the last thousand. */
export async function listTransitions(client: Client, tenant: string, workflowId: string): Promise<TransitionRow[]> {
  const { rows } = await client.query<TransitionRow>(
    `SELECT * FROM (SELECT id, old_status, new_status, made_by, comment, created_at FROM signet.workflow_history
       WHERE tenant = $1 AND workflow_id = $2 ORDER BY created_at DESC, id DESC LIMIT 1000) AS newest ORDER BY created_at, id`,
    [tenant, workflowId],
  )
  return rows
}

/** False where they agreed already. */
export async function insertApproval(
  client: Client,
  tenant: string,
  workflowId: string,
  by: Approver,
): Promise<boolean> {
  const { rowCount } = await client.query(
    `INSERT INTO signet.workflow_approvals (tenant, workflow_id, kind, id, name) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
    [tenant, workflowId, by.kind, by.id, by.name],
  )
  return rowCount === 1
}

export async function listApprovers(client: Client, tenant: string, workflowId: string): Promise<Approver[]> {
  const { rows } = await client.query<Approver>(
    'SELECT kind, id, name FROM signet.workflow_approvals WHERE tenant = $1 AND workflow_id = $2 ORDER BY created_at, id',
    [tenant, workflowId],
  )
  return rows
}

export async function deleteApprovals(client: Client, tenant: string, workflowId: string): Promise<void> {
  await client.query('DELETE FROM signet.workflow_approvals WHERE tenant = $1 AND workflow_id = $2', [
    tenant,
    workflowId,
  ])
}

export type ApprovedRelease = { readonly id: string; readonly release: Release; readonly approved_by: string[] }

/** Releases that people agreed to and that have not ended, in the order of ids: at most `limit`. */
export async function approvedReleases(
  client: Client,
  tenant: string,
  now: Date,
  limit: number,
): Promise<ApprovedRelease[]> {
  const { rows } = await client.query<ApprovedRelease>(
    `SELECT w.id, w.release, (SELECT coalesce(json_agg(a.name ORDER BY a.created_at, a.id), '[]') FROM signet.workflow_approvals a
       WHERE a.tenant = w.tenant AND a.workflow_id = w.id) AS approved_by
     FROM signet.workflows w
     WHERE w.tenant = $1 AND w.kind = 'release' AND w.status = 'approved' AND (w.release->>'expires_at')::timestamptz > $2
     ORDER BY w.id LIMIT $3`,
    [tenant, now, limit],
  )
  return rows
}

export async function insertTask(
  client: Client,
  tenant: string,
  made: Pick<TaskRow, 'id' | 'workflow_id' | 'title' | 'assigned_to' | 'due_at'>,
): Promise<TaskRow> {
  const { rows } = await client.query<TaskRow>(
    `INSERT INTO signet.tasks (tenant, id, workflow_id, title, assigned_to, due_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ${TASK}`,
    [tenant, made.id, made.workflow_id, made.title, made.assigned_to, made.due_at],
  )
  return rows[0]!
}

export async function findTask(client: Client, tenant: string, id: string, lock = false): Promise<TaskRow | null> {
  const { rows } = await client.query<TaskRow>(
    `SELECT ${TASK} FROM signet.tasks WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function updateTask(
  client: Client,
  tenant: string,
  { id, status, assigned_to }: Pick<TaskRow, 'id' | 'status' | 'assigned_to'>,
): Promise<TaskRow> {
  const { rows } = await client.query<TaskRow>(
    `UPDATE signet.tasks SET status = $3, assigned_to = $4, version = version + 1, updated_at = now() WHERE tenant = $1 AND id = $2 RETURNING ${TASK}`,
    [tenant, id, status, assigned_to],
  )
  return rows[0]!
}

/** One more than `limit` where there is a next page; newest first. */
export async function listTasks(
  client: Client,
  tenant: string,
  {
    after,
    limit,
    assignee,
    workflowId,
  }: { after: Cursor | null; limit: number; assignee: string | null; workflowId: string | null },
): Promise<TaskRow[]> {
  const values: unknown[] = [tenant, after?.at ?? null, after?.id ?? null, limit + 1]
  const where = (column: 'assigned_to' | 'workflow_id', value: string | null): string => {
    if (value === null) return ''
    values.push(value)
    return ` AND ${column} = $${values.length}`
  }
  const { rows } = await client.query<TaskRow>(
    `SELECT ${TASK} FROM signet.tasks
     WHERE tenant = $1 AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))${where('assigned_to', assignee)}${where('workflow_id', workflowId)}
     ORDER BY created_at DESC, id DESC LIMIT $4`,
    values,
  )
  return rows
}

export async function openTasks(client: Client, tenant: string, workflowId: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM signet.tasks WHERE tenant = $1 AND workflow_id = $2 AND status = 'open'`,
    [tenant, workflowId],
  )
  return rows[0]?.count ?? 0
}

export type Counts = {
  readonly workflows: Readonly<Record<string, number>>
  readonly overdue_workflows: number
  readonly open_tasks: number
  readonly remediation: Readonly<Record<string, number>>
  readonly overdue_remediation: number
  readonly releases_in_force: number
  readonly policies_in_force: number
}

/** What the dashboard shows, in one look. */
export async function countWork(client: Client, tenant: string, now: Date): Promise<Counts> {
  const { rows } = await client.query<Counts>(
    `SELECT
       (SELECT coalesce(json_object_agg(status, n), '{}') FROM (SELECT status, count(*)::int AS n FROM signet.workflows WHERE tenant = $1 GROUP BY status) w) AS workflows,
       (SELECT count(*)::int FROM signet.workflows WHERE tenant = $1 AND due_at < $2 AND status IN ('draft', 'in_review')) AS overdue_workflows,
       (SELECT count(*)::int FROM signet.tasks WHERE tenant = $1 AND status = 'open') AS open_tasks,
       (SELECT coalesce(json_object_agg(status, n), '{}') FROM (SELECT status, count(*)::int AS n FROM signet.remediation_actions WHERE tenant = $1 GROUP BY status) r) AS remediation,
       (SELECT count(*)::int FROM signet.remediation_actions WHERE tenant = $1 AND due_at < $2 AND status IN ('open', 'in_progress')) AS overdue_remediation,
       (SELECT count(*)::int FROM signet.workflows WHERE tenant = $1 AND kind = 'release' AND status = 'approved' AND (release->>'expires_at')::timestamptz > $2) AS releases_in_force,
       (SELECT count(*)::int FROM signet.policies WHERE tenant = $1 AND active IS NOT NULL) AS policies_in_force`,
    [tenant, now],
  )
  return rows[0]!
}
