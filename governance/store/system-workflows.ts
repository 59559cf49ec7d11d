import type { Client } from '#runtime/postgres/transaction.ts'
import type { WorkflowStatus } from '../workflows/status.ts'
import {
  findWorkflow,
  insertTransition,
  insertWorkflow,
  updateWorkflow,
  WORKFLOW,
  type TransitionRow,
  type WorkflowRow,
} from './workflows.ts'

/** Nobody's: what Signet began. */
const SYSTEM_ID = '00000000-0000-0000-0000-000000000000'

export type SystemWorkflow = Pick<
  WorkflowRow,
  'id' | 'kind' | 'regulation' | 'name' | 'description' | 'requested_by' | 'policy_id' | 'policy_version'
>

/** What Signet begins, for people to look at: in review from the start. `historyId`: of its first change of status. */
export async function beginSystemWorkflow(
  client: Client,
  tenant: string,
  made: SystemWorkflow,
  historyId: string,
): Promise<void> {
  const { id, requested_by } = made
  await insertWorkflow(client, tenant, {
    ...made,
    required_approvals: 1,
    requester_kind: 'system',
    requester_id: SYSTEM_ID,
    due_at: null,
    release: null,
  })
  await moveSystemWorkflow(client, tenant, id, {
    id: historyId,
    old_status: 'draft',
    new_status: 'in_review',
    made_by: requested_by,
    comment: '',
  })
}

/** One that Signet began and nobody has ended, by its name. */
export async function findSystemWorkflow(
  client: Client,
  tenant: string,
  name: string,
  lock = false,
): Promise<WorkflowRow | null> {
  const { rows } = await client.query<WorkflowRow>(
    `SELECT ${WORKFLOW} FROM signet.workflows WHERE tenant = $1 AND name = $2 AND requester_kind = 'system' AND status IN ('draft', 'in_review')
     ORDER BY created_at DESC, id DESC LIMIT 1${lock ? ' FOR UPDATE' : ''}`,
    [tenant, name],
  )
  return rows[0] ?? null
}

/** Of those that Signet began, how many nobody has ended. */
export async function countSystemWorkflows(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM signet.workflows WHERE tenant = $1 AND requester_kind = 'system' AND status IN ('draft', 'in_review')`,
    [tenant],
  )
  return rows[0]?.count ?? 0
}

/** The newest about a version of a policy; locked. Null: nobody has to agree to it. */
export async function findPolicyWorkflow(
  client: Client,
  tenant: string,
  policyId: string,
  version: number,
): Promise<WorkflowRow | null> {
  const { rows } = await client.query<WorkflowRow>(
    `SELECT ${WORKFLOW} FROM signet.workflows WHERE tenant = $1 AND kind = 'policy' AND policy_id = $2 AND policy_version = $3
     ORDER BY created_at DESC, id DESC LIMIT 1 FOR UPDATE`,
    [tenant, policyId, version],
  )
  return rows[0] ?? null
}

/** Ends one that Signet began and nobody has ended. False where there is none. */
export async function cancelSystemWorkflow(
  client: Client,
  tenant: string,
  workflowId: string,
  { id, by, comment }: { readonly id: string; readonly by: string; readonly comment: string },
): Promise<boolean> {
  const row = await findWorkflow(client, tenant, workflowId, true)
  if (row === null || row.requester_kind !== 'system' || (row.status !== 'draft' && row.status !== 'in_review'))
    return false
  const change = { id, old_status: row.status, new_status: 'cancelled', made_by: by, comment } as const
  await moveSystemWorkflow(client, tenant, workflowId, change)
  await client.query(
    `UPDATE signet.tasks SET status = 'done', version = version + 1, updated_at = now() WHERE tenant = $1 AND workflow_id = $2 AND status = 'open'`,
    [tenant, workflowId],
  )
  return true
}

async function moveSystemWorkflow(
  client: Client,
  tenant: string,
  workflowId: string,
  change: Omit<TransitionRow, 'created_at' | 'new_status'> & { readonly new_status: WorkflowStatus },
): Promise<void> {
  await updateWorkflow(client, tenant, { id: workflowId, status: change.new_status, paused: false })
  await insertTransition(client, tenant, workflowId, change)
}
