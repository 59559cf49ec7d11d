import { query, withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { claim, takeUnclaimed } from '../store/evidence.ts'
import type { ArtifactStore } from './artifact-store.ts'

export type TidyDeps = { readonly pool: Pool; readonly artifacts: ArtifactStore; readonly clock: () => Date }

const MOST_OF_TENANT = 100

/**
 * Deletes objects that nothing refers to from the store. Whoever would claim one meanwhile waits for its row, and then does not find it.
 * @returns how many went @throws SignetError EVIDENCE_UNAVAILABLE
 */
export async function deleteUnclaimed({ pool, artifacts, clock }: TidyDeps, stopped: () => boolean): Promise<number> {
  const tenants = await query<{ tenant: string }>(pool, 'SELECT tenant FROM signet.tenant_names() AS t(tenant)')
  let deleted = 0
  for (const { tenant } of tenants)
    for (let i = 0; i < MOST_OF_TENANT && !stopped(); i++) {
      const went = await withTenant(pool, tenant, async (client) => {
        const key = await takeUnclaimed(client, tenant, clock())
        if (key === null) return false
        await artifacts.remove(key)
        return claim(client, tenant, key)
      })
      if (!went) break
      deleted++
    }
  return deleted
}
