import type { ServiceView } from '#core/injection/services.ts'
import { GROUP, VERSION } from '#core/rule/model.ts'
import type { Clock } from './clock.ts'
import type { KubernetesClient } from './kubernetes/client.ts'
import { createInformer, type Informer, type InformerObserver } from './kubernetes/informer.ts'
import { keepPolicy, type PolicyView } from './retention/gather.ts'
import { keepJudged } from './rules/decide.ts'
import { createRuleIndex, keepRule, type RuleIndex, type RuleView, type Scope } from './rules/gather.ts'
import {
  createPolicyDataIndex,
  keepPolicyData,
  type PolicyDataIndex,
  type PolicyDataView,
} from './rules/policy-data.ts'
import { changesNeed, keepNamespace, wantsProxies, type NamespaceView } from './rules/namespaces.ts'
import { createProxies, keepPod, type PodView, type Proxies } from './rules/proxies.ts'
import type { ProxyStatus } from './bundles/status-report.ts'
import { createServiceIndex, keepService, type ServiceObject } from './services.ts'

/** Who wants to hear of changes: the leader's reconcilers, while they are there. */
export type ClusterListener = {
  onRules(scope: Scope, what: 'spec' | 'status'): void
  onRuleGone(key: string): void
  onPolicies(): void
  onPolicyGone(key: string): void
  /** What rules are applied to changed for a tenant. */
  onPolicyData(tenant: string): void
  onNamespace(name: string): void
  onProxies(namespace: string): void
}

/** What the operator knows of the cluster. Every replica keeps it, so that a new leader begins at once. */
export type ClusterView = {
  readonly rules: RuleIndex
  readonly proxies: Proxies
  policies(): Iterable<PolicyView>
  readonly policyData: PolicyDataIndex
  hasNamespace(name: string): boolean
  /** Labels of a namespace that say something here; undefined where there is no such namespace. */
  namespaceLabels(name: string): Readonly<Record<string, string>> | undefined
  /** Whose labels ask for proxies. */
  wanted(): Iterable<string>
  /** Services of a namespace that select pods. */
  services(namespace: string): Iterable<ServiceView>
  /** One at a time; the returned function takes it back. */
  listen(listener: ClusterListener): () => void
  run(signal: AbortSignal): Promise<void>
  whenSynced(signal: AbortSignal): Promise<void>
  /** Resources of which the first list is not complete. */
  missing(): readonly string[]
}

export function createClusterView(deps: {
  readonly client: KubernetesClient
  readonly operatorNamespace: string
  readonly reports: (namespace: string) => readonly ProxyStatus[]
  readonly clock: Clock
  readonly random: () => number
  readonly observer: (resource: string) => InformerObserver
}): ClusterView {
  const { client, clock, random } = deps
  const index = createRuleIndex(deps.operatorNamespace)
  const proxies = createProxies({ reports: deps.reports, monotonicMs: () => clock.monotonicMs() })
  let listener: ClusterListener | null = null
  const common = (name: string) => ({ name, client, clock, random, observer: deps.observer(name) })

  const rules = createInformer<RuleView>({
    ...common('compliancerules'),
    path: `/apis/${GROUP}/${VERSION}/compliancerules`,
    keep: (rule) => keepJudged(keepRule(rule)),
    onChange: (change) => {
      const changed = index.apply(change)
      if (changed === null) return
      if (changed.what !== 'nothing') listener?.onRules(changed.scope, changed.what)
      if (change.after === undefined) listener?.onRuleGone(change.key)
    },
  })
  const policies = createInformer<PolicyView>({
    ...common('retentionpolicies'),
    path: `/apis/${GROUP}/${VERSION}/retentionpolicies`,
    keep: keepPolicy,
    onChange: ({ key, after }) => {
      if (after === undefined) listener?.onPolicyGone(key)
      listener?.onPolicies()
    },
  })
  const namespaces = createInformer<NamespaceView>({
    ...common('namespaces'),
    path: '/api/v1/namespaces',
    metadataOnly: true,
    keep: keepNamespace,
    onChange: (change) => {
      if (changesNeed(change)) listener?.onNamespace(change.key)
    },
  })
  const pods = createInformer<PodView>({
    ...common('pods'),
    path: '/api/v1/pods',
    // Injected ones are marked by an annotation, which cannot be selected by: of the others nothing is kept.
    fieldSelector: 'status.phase=Running',
    metadataOnly: true,
    keep: keepPod,
    onChange: (change) => {
      const namespace = proxies.apply(change)
      if (namespace !== null) listener?.onProxies(namespace)
    },
  })
  const dataIndex = createPolicyDataIndex()
  const policyData = createInformer<PolicyDataView>({
    ...common('policydata'),
    path: `/apis/${GROUP}/${VERSION}/namespaces/${deps.operatorNamespace}/policydata`,
    keep: keepPolicyData,
    onChange: (change) => {
      for (const tenant of dataIndex.apply(change)) listener?.onPolicyData(tenant)
    },
  })
  const byNamespace = createServiceIndex()
  const services = createInformer<ServiceObject>({
    ...common('services'),
    path: '/api/v1/services',
    keep: keepService,
    onChange: (change) => byNamespace.apply(change),
  })
  const all: readonly (readonly [string, Informer<unknown>])[] = [
    ['compliancerules', rules],
    ['retentionpolicies', policies],
    ['policydata', policyData],
    ['namespaces', namespaces],
    ['pods', pods],
    ['services', services],
  ]

  return {
    rules: index,
    proxies,
    policies: () => policies.values(),
    policyData: dataIndex,
    hasNamespace: (name) => namespaces.get(name) !== undefined,
    namespaceLabels: (name) => namespaces.get(name)?.metadata.labels,
    *wanted() {
      for (const namespace of namespaces.values()) if (wantsProxies(namespace)) yield namespace.metadata.name
    },
    services: (namespace) => byNamespace.of(namespace),
    listen(next) {
      listener = next
      return () => {
        if (listener === next) listener = null
      }
    },
    async run(signal) {
      await Promise.all(all.map(([, informer]) => informer.run(signal)))
    },
    async whenSynced(signal) {
      await Promise.all(all.map(([, informer]) => informer.whenSynced(signal)))
    },
    missing: () => all.filter(([, informer]) => !informer.synced).map(([name]) => name),
  }
}
