import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { blocksInForce, countBlocks, insertBlock, type BlockTarget } from '../store/blocks.ts'

/** Of a tenant, that are held at once: they are in every bundle, and whoever may report events can make Signet add some. */
const MAX_BLOCKS = 1_000
/** More than there may be, as two processes may count at once: none of them is left out. */
const MAX_PUBLISHED = 10_000
/** A block that everybody forgot ends by itself. */
const LIFETIME_MS = 30 * 86_400_000
/** What proxies call whoever says nothing of themselves: to block them is to block everybody. */
const NOBODY = 'anonymous'

/** Why an agent or a route cannot be blocked; null where it can. */
export function unblockable({ kind, value }: BlockTarget): string | null {
  if (kind === 'agent') return value === NOBODY ? `${NOBODY} is whoever says nothing of themselves` : null
  if (!/^\/[^\s?#]{0,2000}$/.test(value)) return 'the route is no path template'
  // A report must not be enough to close everything.
  return value.includes('**') ? 'the template stands for more than one endpoint' : null
}

/** `id`: of the block that holds it now. `isNew`: it was not held for this violation before. */
export type Blocked = { readonly id: string; readonly isNew: boolean }

/** Adds to what proxies refuse; again for the same violation it changes its end only. Null: there are as many as there may be. */
export async function block(
  client: Client,
  tenant: string,
  target: BlockTarget,
  { violationId, newId, now }: { readonly violationId: string; readonly newId: () => string; readonly now: Date },
): Promise<Blocked | null> {
  if ((await countBlocks(client, tenant, now)) >= MAX_BLOCKS) return null
  const expires_at = new Date(now.getTime() + LIFETIME_MS)
  const { id, isNew } = await insertBlock(client, tenant, {
    ...target,
    id: newId(),
    violation_id: violationId,
    expires_at,
  })
  return { id, isNew }
}

/** The part of a bundle's policy data that holds back, in the form of docs/reference/policy-data.md; `{}` where there is none. */
export async function blockPolicy(client: Client, tenant: string, now: Date): Promise<JsonObject> {
  const blocks = await blocksInForce(client, tenant, now, MAX_PUBLISHED)
  if (blocks.length === 0) return {}
  return {
    blocks: blocks.map(({ id, kind, value, method, expires_at }) => ({
      id,
      kind,
      value,
      ...(method === '' ? {} : { method }),
      expires_at: expires_at.toISOString(),
    })),
  }
}
