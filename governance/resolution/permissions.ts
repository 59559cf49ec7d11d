import {
  activeTokens,
  disableServiceAccounts,
  haveAdministrator,
  principalsNamed,
  revokeTokens,
} from '../store/containment.ts'
import type { Acted, Scene } from './acted.ts'
import { block, unblockable } from './blocks.ts'
import type { Undo } from './undo.ts'

/** Of more than these tokens it is not kept which they were: what ended them cannot be undone. */
const MAX_UNDONE_TOKENS = 1_000

/** Sessions and tokens of whoever bears the subject's name end. */
export async function resetPermissions({ client, tenant, violation, dry }: Scene): Promise<Acted> {
  const { subject } = violation
  if (subject === null) return { detail: 'the event names nobody', evidence: {}, isDone: false }
  const principals = await principalsNamed(client, tenant, subject)
  if (principals.length === 0)
    return { detail: `${subject} is no user and no service account here`, evidence: { subject }, isDone: false }
  if (await haveAdministrator(client, tenant, principals)) return administrator(subject)
  const before = await activeTokens(client, tenant, principals)
  if (dry)
    return { detail: `would end ${before} tokens of ${subject}`, evidence: { subject, tokens: before }, isDone: false }
  const tokens = await revokeTokens(client, tenant, principals)
  const left = await activeTokens(client, tenant, principals)
  return {
    detail: `ended ${tokens.length} tokens of ${subject}`,
    evidence: { subject, revoked: tokens.length, left },
    isDone: left === 0,
    ...(tokens.length === 0 || tokens.length > MAX_UNDONE_TOKENS
      ? {}
      : { undo: { tokens, principals: principals.map(({ kind, id, version }) => ({ kind, id, version })) } }),
  }
}

/**
 * An agent gets nothing from proxies any more; where a service account or user bears its name, their tokens end as well, and the account is
 * disabled. Contained is what is on the list of proxies and has no token that counts, read back.
 */
export async function contain(scene: Scene): Promise<Acted> {
  const { client, tenant, violation, dry, newId, now } = scene
  const { subject } = violation
  if (subject === null) return { detail: 'the event names nobody', evidence: {}, isDone: false }
  const principals = await principalsNamed(client, tenant, subject)
  if (await haveAdministrator(client, tenant, principals)) return administrator(subject)
  const target = { kind: 'agent', value: subject, method: '' } as const
  const why = unblockable(target)
  if (dry) {
    const tokens = await activeTokens(client, tenant, principals)
    return {
      detail:
        why === null
          ? `would block ${subject} at the proxies, disable it, and end its ${tokens} tokens`
          : `cannot: ${why}`,
      evidence: { subject, tokens },
      isDone: false,
    }
  }
  const held = why === null ? await block(client, tenant, target, { violationId: violation.id, newId, now }) : null
  const tokens = await revokeTokens(client, tenant, principals)
  const disabled = await disableServiceAccounts(client, tenant, principals)
  const left = await activeTokens(client, tenant, principals)
  // As they are now: whoever changes them later has decided otherwise.
  const after = await principalsNamed(client, tenant, subject)
  const said = [
    held === null ? `not blocked at the proxies: ${why ?? 'there are as many blocks as there may be'}` : null,
    held?.isNew === true ? `blocked ${subject} at the proxies` : null,
    tokens.length > 0 ? `ended ${tokens.length} tokens` : null,
    disabled.length > 0 ? 'disabled its account' : null,
  ].filter((part) => part !== null)
  const undo: Undo = {
    ...(held?.isNew === true ? { blocks: [held.id] } : {}),
    ...(tokens.length > 0 && tokens.length <= MAX_UNDONE_TOKENS ? { tokens } : {}),
    ...(disabled.length > 0 ? { disabled } : {}),
    principals: after.map(({ kind, id, version }) => ({ kind, id, version })),
  }
  const isUndoable = undo.blocks !== undefined || undo.tokens !== undefined || undo.disabled !== undefined
  return {
    detail: said.length === 0 ? `${subject} is contained already` : said.join(', '),
    evidence: { subject, block: held?.id ?? null, revoked: tokens.length, disabled: disabled.length, left },
    isDone: held !== null && left === 0,
    changesProxies: held?.isNew === true,
    ...(isUndoable ? { undo } : {}),
  }
}

function administrator(subject: string): Acted {
  return { detail: `${subject} is an administrator: a person has to decide`, evidence: { subject }, isDone: false }
}
