import { createHash } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import type { KeptKind, KeptObject, KubernetesApi } from '#runtime/kubernetes/api.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { keepDoingForTenants, type TenantQueue } from '../background.ts'
import { policyRule } from '../policies/compile.ts'
import { activePolicies } from '../store/policies.ts'

export type ClusterDeps = {
  readonly api: KubernetesApi
  /** The operator's own: what is in it holds for all namespaces (docs/operator.md). */
  readonly namespace: string
  readonly pool: Pool
  /** Of a tenant: lists of entries that have an `id`, by member. */
  readonly policyData: (client: Client, tenant: string) => Promise<JsonObject>
  readonly nowMs: () => number
  readonly log: Logger
  readonly onKept?: (outcome: 'published' | 'failed') => void
}

/** What should be in the cluster. */
type Wanted = { readonly name: string; readonly spec: unknown }

const MANAGER = 'signet-governance'
const MANAGED_BY = 'app.kubernetes.io/managed-by'
/** A tenant's name may be longer than a label. */
const TENANT_LABEL = 'signet.dev/tenant-sha256'
const TENANT_ANNOTATION = 'signet.dev/tenant'
const DIGEST_ANNOTATION = 'signet.dev/spec-sha256'
const LOOK_MS = 30_000
const AGAIN_MS = 10 * 60_000
/** Ten thousand entries of the largest size in so many objects: each well below what etcd takes. */
const BUCKETS = 128

/**
 * In a cluster the operator makes the bundles. So a tenant's policies that are in force are kept as ComplianceRules of its namespace, each for its tenant
 * alone, what they are applied to as PolicyData, and what is no longer so is taken away. Level-based, by every process; what somebody changes by hand is
 * what it should be again within ten minutes.
 */
export function keepInCluster(deps: ClusterDeps): TenantQueue {
  const { api, namespace, pool, log } = deps
  const appliedMs = new Map<string, number>()

  async function sync(tenant: string): Promise<void> {
    const { policies, data } = await withTenant(
      pool,
      tenant,
      async (client) => ({
        policies: await activePolicies(client, tenant),
        data: await deps.policyData(client, tenant),
      }),
      { readOnly: true },
    )
    const isAgain = deps.nowMs() - (appliedMs.get(tenant) ?? -Infinity) >= AGAIN_MS
    const rules = policies.map((policy) => policyRule(policy, tenant))
    // What lets nothing out comes first: a rule that comes with its approval is not there without it.
    const kept = [
      await keep('PolicyData', tenant, policyDataObjects(tenant, data), isAgain),
      await keep('ComplianceRule', tenant, rules, isAgain),
    ]
    const changes = kept.reduce((sum, each) => sum + each.changes, 0)
    const failure = kept.flatMap(({ failures }) => failures)[0]
    if (isAgain && failure === undefined) appliedMs.set(tenant, deps.nowMs())
    if (changes > 0) {
      deps.onKept?.('published')
      log.info({ tenant, policies: policies.length, changes }, 'policies are in the cluster')
    }
    if (failure !== undefined) throw failure
  }

  /** Makes the tenant's objects of a kind what they should be. One that cannot be kept keeps none of the others back. */
  async function keep(
    kind: KeptKind,
    tenant: string,
    wanted: readonly Wanted[],
    isAgain: boolean,
  ): Promise<{ changes: number; failures: unknown[] }> {
    const labels = labelsOf(tenant)
    const there = new Map((await api.list(kind, namespace, labels)).map((object) => [object.name, object]))
    const failures: unknown[] = []
    let changes = 0
    for (const { name, spec } of wanted) {
      const digest = createHash('sha256').update(JSON.stringify(spec)).digest('hex')
      const known = there.get(name)
      const isSame = known?.annotations[DIGEST_ANNOTATION] === digest
      if (isSame && !isAgain) continue
      try {
        if (known === undefined) await requireFree(kind, name)
        const annotations = { [TENANT_ANNOTATION]: tenant, [DIGEST_ANNOTATION]: digest }
        await api.apply(kind, namespace, { name, labels, annotations, spec }, MANAGER)
        if (!isSame) changes += 1
      } catch (error) {
        failures.push(error)
      }
    }
    const names = new Set(wanted.map(({ name }) => name))
    for (const name of there.keys()) {
      if (names.has(name)) continue
      await api.delete(kind, namespace, name)
      changes += 1
    }
    return { changes, failures }
  }

  /** What somebody else made is not taken over. */
  async function requireFree(kind: KeptKind, name: string): Promise<void> {
    const other: KeptObject | null = await api.get(kind, namespace, name)
    if (other !== null)
      throw new SignetError('CONFLICT', `there is a ${kind} ${namespace}/${name} that governance did not make`)
  }

  const queue = keepDoingForTenants(pool, sync, {
    everyMs: LOOK_MS,
    firstMs: 0,
    onError: (error, tenant) => {
      if (tenant === null) return log.warn({ error }, 'tenants cannot be read; it is tried again')
      deps.onKept?.('failed')
      log.error({ error, tenant }, 'policies of a tenant are not in the cluster as they should be; it is tried again')
    },
  })
  return {
    touch: (tenant) => queue.touch(tenant),
    async stop() {
      await queue.stop()
      await api.close()
    },
  }
}

function labelsOf(tenant: string): Record<string, string> {
  return { [MANAGED_BY]: MANAGER, [TENANT_LABEL]: sha256(tenant).toString('hex').slice(0, 32) }
}

/** Each entry is in the object that its id says, whatever else there is: what stays is never missing while others come and go. */
export function policyDataObjects(tenant: string, data: JsonObject): Wanted[] {
  const buckets = new Map<number, Record<string, JsonValue[]>>()
  for (const [member, entries] of Object.entries(data)) {
    for (const entry of entries as JsonObject[]) {
      const { id } = entry
      const bucket = sha256(typeof id === 'string' ? id : JSON.stringify(entry))[0]! % BUCKETS
      const members = buckets.get(bucket) ?? {}
      ;(members[member] ??= []).push(entry)
      buckets.set(bucket, members)
    }
  }
  const prefix = `data-${sha256(tenant).toString('hex').slice(0, 32)}`
  return [...buckets]
    .sort(([a], [b]) => a - b)
    .map(([bucket, members]) => ({ name: `${prefix}-${bucket}`, spec: { tenant, ...members } }))
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
