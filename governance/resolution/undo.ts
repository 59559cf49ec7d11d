import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { ReferenceKind } from '../events/reference-kinds.ts'
import { liftBlock } from '../store/blocks.ts'
import { deleteReference, findReference, putReference } from '../store/compliance.ts'
import { enableServiceAccounts, principalsById, restoreTokens, type Named } from '../store/containment.ts'
import { cancelSystemWorkflow } from '../store/system-workflows.ts'
import { findWorkflow } from '../store/workflows.ts'

/** `before` null: there was none. `version`: of the record as it was left. */
export type UndoneRecord = {
  readonly kind: ReferenceKind
  readonly key: string
  readonly before: JsonObject | null
  readonly version: number
}

/** What a try changed, and what it takes to take it back; kept with the try. */
export type Undo = {
  /** Tokens that it ended, and accounts that it disabled, by id. */
  readonly tokens?: readonly string[]
  readonly disabled?: readonly string[]
  /** Whose they are, as they were left. */
  readonly principals?: readonly Named[]
  readonly records?: readonly UndoneRecord[]
  /** Blocks that it added, and workflows that it began, by id. */
  readonly blocks?: readonly string[]
  readonly workflows?: readonly string[]
}

/**
 * Why it cannot be taken back now, empty where it can: an account, a record or a workflow was changed by somebody else since, and what they
 * decided stands. What ended by itself (a token that ran out, a block that was lifted) is no reason. Locks what it looks at.
 */
export async function reasonsAgainst(client: Client, tenant: string, undo: Undo): Promise<string[]> {
  const reasons: string[] = []
  const now = await principalsById(client, tenant, undo.principals ?? [])
  for (const { kind, id, version } of undo.principals ?? []) {
    const found = now.find((one) => one.kind === kind && one.id === id)
    if (found === undefined) reasons.push(`the ${kind.replace('_', ' ')} ${id} is gone`)
    else if (found.version !== version) reasons.push(`${found.name} was changed since`)
  }
  for (const { kind, key, version } of undo.records ?? []) {
    const found = await findReference(client, tenant, kind, key, true)
    if (found?.version !== version)
      reasons.push(`the record ${kind}/${key} was ${found === null ? 'taken away' : 'changed'} since`)
  }
  for (const id of undo.workflows ?? []) {
    const found = await findWorkflow(client, tenant, id, true)
    if (found !== null && found.status !== 'in_review' && found.status !== 'cancelled')
      reasons.push(`the workflow «${found.name}» is ${found.status}`)
  }
  return reasons
}

/** Takes it back, where nothing is against it. @returns what was done, in words and numbers */
export async function takeBack(
  client: Client,
  tenant: string,
  undo: Undo,
  { by, comment, now, newId }: { by: string; comment: string; now: Date; newId: () => string },
): Promise<JsonObject> {
  const enabled = await enableServiceAccounts(client, tenant, undo.disabled ?? [])
  const restored = await restoreTokens(client, tenant, undo.tokens ?? [])
  for (const { kind, key, before } of undo.records ?? [])
    if (before === null) await deleteReference(client, tenant, kind, key)
    else await putReference(client, tenant, { kind, key, value: before, updated_by: by })
  let lifted = 0
  for (const id of undo.blocks ?? [])
    if ((await liftBlock(client, tenant, id, { by, comment, now })) !== null) lifted += 1
  let cancelled = 0
  for (const id of undo.workflows ?? [])
    if (await cancelSystemWorkflow(client, tenant, id, { id: newId(), by, comment })) cancelled += 1
  return { tokens: restored, enabled, records: undo.records?.length ?? 0, blocks: lifted, workflows: cancelled }
}
