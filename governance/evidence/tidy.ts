import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { claim, takeUnclaimed } from '../store/evidence.ts'
import { tenantNames } from '../store/tenants.ts'
import type { ArtifactStore } from './artifact-store.ts'

export type TidyDeps = { readonly pool: Pool; readonly artifacts: ArtifactStore; readonly clock: () => Date }

const MOST_OF_TENANT = 100

/**
 * Deletes objects that nothing refers to from the store. Whoever would claim one meanwhile waits for its row, and then does not find it.
 * @returns how many went @throws SignetError EVIDENCE_UNAVAILABLE
 */
export async function deleteUnclaimed({ pool, artifacts, clock }: TidyDeps, signal: AbortSignal): Promise<number> {
  let deleted = 0
  for (const tenant of await tenantNames(pool))
    for (let i = 0; i < MOST_OF_TENANT && !signal.aborted; i++) {
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
