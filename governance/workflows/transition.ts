import { SignetError } from '#core/error/signet-error.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { isSame } from '../access/principal.ts'
import type { Rights } from '../actions/runner.ts'
import { insertApproval, listApprovers, openTasks, type WorkflowRow } from '../store/workflows.ts'
import { requireRelease } from './release.ts'
import { legalTransitions } from './status.ts'

export async function approversOf(client: Client, tenant: string, id: string): Promise<string[]> {
  return (await listApprovers(client, tenant, id)).map(({ name }) => name)
}

/** Four eyes. @returns the status that follows @throws SignetError FORBIDDEN (who asked), CONFLICT (twice, steps that are open, what has ended) */
export async function approve(
  client: Client,
  { tenant, principal }: Rights,
  row: WorkflowRow,
  nowMs: number,
): Promise<'approved' | 'in_review'> {
  const { requester_kind, requester_id } = row
  if (requester_kind !== 'system' && isSame(principal, { kind: requester_kind, id: requester_id }))
    throw new SignetError('FORBIDDEN', `${principal.name} asked for this: somebody else has to approve it`)
  if (row.release !== null) requireRelease(row.release, nowMs)
  const open = await openTasks(client, tenant, row.id)
  if (open > 0) throw new SignetError('CONFLICT', `${open} of its tasks are open`)
  const { kind, id, name } = principal
  if (!(await insertApproval(client, tenant, row.id, { kind, id, name })))
    throw new SignetError('CONFLICT', `${name} has approved this already: another one has to`)
  const approvers = await listApprovers(client, tenant, row.id)
  return approvers.length >= row.required_approvals ? 'approved' : 'in_review'
}

/** @throws SignetError CONFLICT that names what is legal */
export function requireLegal(row: WorkflowRow, status: WorkflowRow['status']): void {
  // What is let out is taken back whatever else waits.
  if (row.paused && status !== 'revoked') throw new SignetError('CONFLICT', 'this workflow is paused: resume it first')
  const legal = legalTransitions(row.status)
  if (legal.includes(status)) return
  throw new SignetError(
    'CONFLICT',
    legal.length === 0
      ? `this workflow is ${row.status}, which is final`
      : `a workflow that is ${row.status} cannot become ${status}; it can become ${legal.join(', ')}`,
  )
}
