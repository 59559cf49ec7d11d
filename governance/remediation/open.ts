import type { Client } from '#runtime/postgres/transaction.ts'
import { findOpenRemediation, insertHistory, insertRemediation, noteSeenAgain } from '../store/remediation.ts'
import type { NewResult } from '../store/scans.ts'
import { dueAt } from './status.ts'

/**
 * Opens an action for a failed result, in the transaction of `client`; where one is open for this rule and user already, that is told that the failure
 * was seen again. @returns the action's id, and whether it is a new one
 */
export async function openRemediation(
  client: Client,
  tenant: string,
  result: Pick<NewResult, 'id' | 'rule_id' | 'user_id' | 'severity' | 'finding'>,
  deps: { readonly newId: () => string; readonly nowMs: number; readonly by: string },
): Promise<{ id: string; isNew: boolean }> {
  const { rule_id, user_id, severity, finding } = result
  const made = await insertRemediation(client, tenant, {
    id: deps.newId(),
    result_id: result.id,
    rule_id,
    user_id,
    severity,
    finding,
    metadata: {},
    due_at: dueAt(severity, deps.nowMs),
    assigned_to: null,
  })
  const row = made ?? (await findOpenRemediation(client, tenant, rule_id, user_id))
  // Closed in the moment in between: then the next scan opens another.
  if (row === null) return { id: '', isNew: false }
  const said = { id: deps.newId(), made_by: deps.by, details: { result_id: result.id } }
  if (made === null) await noteSeenAgain(client, tenant, row.id, said)
  else await insertHistory(client, tenant, row.id, { ...said, kind: 'opened' })
  return { id: row.id, isNew: made !== null }
}
