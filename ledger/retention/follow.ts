import { randomUUID } from 'node:crypto'
import { LEDGER_PRODUCER } from '#core/retention/purge.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { readTenants } from '#runtime/wall/tree.ts'
import type { Sequencer } from '../sequencer.ts'
import { holdsFor, placeHold, releaseHold } from './holds.ts'
import { holdPlaced, holdReleased, policyChanged } from './notice.ts'
import { published, type PolicyBook } from './policies.ts'
import { decidePolicyHolds, policyPrint, type NamedPolicy } from './policy-holds.ts'

export type FollowDeps = {
  readonly wall: Pool
  readonly work: Pool
  readonly book: PolicyBook
  readonly sequencer: Pick<Sequencer, 'append'>
  readonly signal: AbortSignal
  /** Under which policies each tenant was followed last, so that nothing is asked again while nothing changes. Kept by the caller. */
  readonly seen: Map<string, unknown>
}

/** Tenants that are remembered. */
const MAX_SEEN = 100_000

/**
 * Does what the policies ask for beside classes: places and releases their holds, and records each change of the platform's in the chain
 * of every tenant that it selects. One process at a time; what broke off is done the next time.
 * @throws SignetError DATABASE_UNAVAILABLE, LEDGER_BUSY; `signal.reason` when it aborts
 */
export async function followPolicies(deps: FollowDeps): Promise<void> {
  const { wall, book, signal, seen } = deps
  const all = book.all()
  const policies = namedPolicies(book)
  const known = new Set<'operator' | 'api'>()
  if (book.platform !== null) known.add('operator')
  if (book.tenants !== null) known.add('api')
  const tenants = await poolReader(wall).inTree((client) => readTenants(client))
  const followed = await readFollowed(deps.work)
  for (const tenant of tenants) {
    signal.throwIfAborted()
    if (seen.get(tenant) === all) continue
    await followHolds(deps, tenant, policies.get(tenant) ?? policies.get(null) ?? [], known)
    if (book.platform !== null) {
      const selecting = book.platform.policies.filter(({ selector }) => selector.tenants?.includes(tenant) ?? true)
      await followPlatform(deps, tenant, selecting, followed.get(tenant) ?? new Map())
    }
    if (seen.size >= MAX_SEEN) seen.clear()
    // Before all policies are known there is more to come.
    if (all !== null) seen.set(tenant, all)
  }
}

/** The platform's policies and, by tenant, with its own; under null: for a tenant that has none. */
function namedPolicies({ platform, tenants }: PolicyBook): Map<string | null, readonly NamedPolicy[]> {
  const common = (platform?.policies ?? []).map((policy) => ({ key: `operator/${policy.name}`, policy }))
  const all = new Map<string | null, readonly NamedPolicy[]>([[null, common]])
  for (const [tenant, own] of Map.groupBy(tenants ?? [], (policy) => policy.tenant)) {
    all.set(tenant, [...common, ...own.map((each) => ({ key: `api/${each.name}`, policy: published(each) }))])
  }
  return all
}

async function followHolds(
  { wall, sequencer }: FollowDeps,
  tenant: string,
  policies: readonly NamedPolicy[],
  known: ReadonlySet<'operator' | 'api'>,
): Promise<void> {
  const changes = decidePolicyHolds(tenant, policies, await holdsFor(wall, tenant), known)
  for (const wanted of changes.place) {
    const hold = { ...wanted, id: randomUUID(), tenant }
    await placeHold(wall, hold)
    await sequencer.append(holdPlaced(hold))
  }
  for (const { id, policy } of changes.release) {
    const reason = 'its policy does not ask for it any more'
    const by = policy ?? LEDGER_PRODUCER
    await sequencer.append(holdReleased(tenant, id, by, reason))
    await releaseHold(wall, tenant, { id, reason, releasedBy: by })
  }
}

async function followPlatform(
  { work, sequencer }: FollowDeps,
  tenant: string,
  selecting: readonly NamedPolicy['policy'][],
  followed: ReadonlyMap<string, string>,
): Promise<void> {
  for (const policy of selecting) {
    const { name } = policy
    const change = policyPrint(policy)
    if (followed.get(name) === change) continue
    await sequencer.append(policyChanged(tenant, { source: 'operator', name, policy, by: 'operator', change }))
    await query(
      work,
      `INSERT INTO signet.retention_followed (tenant, policy, print) VALUES ($1, $2, $3)
       ON CONFLICT (tenant, policy) DO UPDATE SET print = excluded.print`,
      [tenant, name, change],
    )
  }
  const names = new Set(selecting.map(({ name }) => name))
  for (const [name, print] of followed) {
    if (names.has(name)) continue
    const change = `removed ${print}`
    await sequencer.append(policyChanged(tenant, { source: 'operator', name, policy: null, by: 'operator', change }))
    await query(work, 'DELETE FROM signet.retention_followed WHERE tenant = $1 AND policy = $2', [tenant, name])
  }
}

async function readFollowed(work: Pool): Promise<Map<string, Map<string, string>>> {
  const rows = await query<{ tenant: string; policy: string; print: string }>(
    work,
    'SELECT tenant, policy, print FROM signet.retention_followed',
  )
  const followed = new Map<string, Map<string, string>>()
  for (const { tenant, policy, print } of rows) {
    const own = followed.get(tenant) ?? new Map<string, string>()
    own.set(policy, print)
    followed.set(tenant, own)
  }
  return followed
}
