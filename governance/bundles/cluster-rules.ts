import { createHash } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeptRule, KubernetesApi } from '#runtime/kubernetes/api.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { keepDoingForTenants, type TenantQueue } from '../background.ts'
import { policyRule } from '../policies/compile.ts'
import { activePolicies, type ActivePolicy } from '../store/policies.ts'

export type ClusterRulesDeps = {
  readonly api: KubernetesApi
  /** The operator's own: what is in it holds for all namespaces (docs/operator.md). */
  readonly namespace: string
  readonly pool: Pool
  readonly nowMs: () => number
  readonly log: Logger
  readonly onKept?: (outcome: 'published' | 'failed') => void
}

/**
 * In a cluster the operator makes the bundles. So the policies that are in force are kept as ComplianceRules of its namespace, each for its tenant alone, and
 * those that are not are taken away. Level-based, by every process; what somebody changes by hand is what it should be again within ten minutes.
 */
const MANAGER = 'signet-governance'
const MANAGED_BY = 'app.kubernetes.io/managed-by'
/** A tenant's name may be longer than a label. */
const TENANT_LABEL = 'signet.dev/tenant-sha256'
const TENANT_ANNOTATION = 'signet.dev/tenant'
const DIGEST_ANNOTATION = 'signet.dev/policy-sha256'
const LOOK_MS = 30_000
const AGAIN_MS = 10 * 60_000

export function keepClusterRules(deps: ClusterRulesDeps): TenantQueue {
  const { api, namespace, pool, log } = deps
  const appliedMs = new Map<string, number>()

  async function sync(tenant: string): Promise<void> {
    const policies = await withTenant(pool, tenant, (client) => activePolicies(client, tenant), { readOnly: true })
    const labels = labelsOf(tenant)
    const there = new Map((await api.listRules(namespace, labels)).map((rule) => [rule.name, rule]))
    const isAgain = deps.nowMs() - (appliedMs.get(tenant) ?? -Infinity) >= AGAIN_MS
    let changes = 0
    let failure: unknown
    for (const policy of policies) {
      const { name, spec } = policyRule(policy, tenant)
      const digest = digestOf(policy)
      const known = there.get(name)
      if (known?.annotations[DIGEST_ANNOTATION] === digest && !isAgain) continue
      try {
        if (known === undefined) await requireFree(name)
        const annotations = { [TENANT_ANNOTATION]: tenant, [DIGEST_ANNOTATION]: digest }
        await api.applyRule(namespace, { name, labels, annotations, spec }, MANAGER)
        if (known?.annotations[DIGEST_ANNOTATION] !== digest) changes += 1
      } catch (error) {
        // One that cannot be kept keeps none of the others back.
        failure ??= error
      }
    }
    const wanted = new Set(policies.map(({ rule_id }) => rule_id))
    for (const name of there.keys()) {
      if (wanted.has(name)) continue
      await api.deleteRule(namespace, name)
      changes += 1
    }
    if (isAgain && failure === undefined) appliedMs.set(tenant, deps.nowMs())
    if (changes > 0) {
      deps.onKept?.('published')
      log.info({ tenant, policies: policies.length, changes }, 'policies are in the cluster')
    }
    if (failure !== undefined) throw failure
  }

  /** What somebody else made is not taken over. */
  async function requireFree(name: string): Promise<void> {
    const other: KeptRule | null = await api.getRule(namespace, name)
    if (other !== null)
      throw new SignetError('CONFLICT', `there is a ComplianceRule ${namespace}/${name} that governance did not make`)
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
  return { [MANAGED_BY]: MANAGER, [TENANT_LABEL]: createHash('sha256').update(tenant).digest('hex').slice(0, 32) }
}

function digestOf(policy: ActivePolicy): string {
  const { rule_id, number, description, rego_content, regulation_refs, severity, mode } = policy
  return createHash('sha256')
    .update(JSON.stringify([rule_id, number, description, rego_content, regulation_refs, severity, mode]))
    .digest('hex')
}
