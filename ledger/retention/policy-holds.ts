import { createHash } from 'node:crypto'
import type { PublishedPolicy } from '#core/retention/published.ts'
import type { Hold } from './holds.ts'

/** A policy with the name by which its holds are known: `operator/NAME`, `api/NAME`. */
export type NamedPolicy = { readonly key: string; readonly policy: PublishedPolicy }

/** What is to be done so that the holds of a tenant are those that its policies ask for. Holds placed by hand are nobody's but their placer's. */
export type HoldChanges = {
  readonly place: readonly Omit<Hold, 'id' | 'placedAt' | 'tenant'>[]
  readonly release: readonly Hold[]
}

/**
 * `known`: the sources whose policies are known; holds of the others stay. A policy that selects by framework holds all of what its other
 * members select: which frameworks a record had shows in its bytes only.
 */
export function decidePolicyHolds(
  tenant: string,
  policies: readonly NamedPolicy[],
  holds: readonly Hold[],
  known: ReadonlySet<'operator' | 'api'>,
): HoldChanges {
  const wanted = new Map<string, Omit<Hold, 'id' | 'placedAt' | 'tenant'>>()
  for (const { key, policy } of policies) {
    const { legal_hold: held, selector } = policy
    if (held === null || (selector.tenants !== undefined && !selector.tenants.includes(tenant))) continue
    wanted.set(key, {
      reason: held.reason === '' ? 'the policy says so' : held.reason,
      reference: held.reference ?? null,
      dataDomains: selector.data_domains ?? null,
      regions: selector.regions ?? null,
      fromMonth: null,
      toMonth: null,
      policy: key,
      placedBy: key,
    })
  }
  const release: Hold[] = []
  for (const hold of holds) {
    if (hold.policy === null) continue
    const source = hold.policy.split('/', 1)[0] as 'operator' | 'api'
    if (!known.has(source)) continue
    const asked = wanted.get(hold.policy)
    if (asked !== undefined && printOf(asked) === printOf(hold)) wanted.delete(hold.policy)
    else release.push(hold)
  }
  return { place: [...wanted.values()], release }
}

function printOf({
  reason,
  reference,
  dataDomains,
  regions,
}: Pick<Hold, 'reason' | 'reference' | 'dataDomains' | 'regions'>): string {
  return JSON.stringify([reason, reference, dataDomains, regions])
}

/** What tells one state of a policy from another, also after a restart. */
export function policyPrint(policy: PublishedPolicy): string {
  return createHash('sha256').update(JSON.stringify(policy)).digest('hex')
}
