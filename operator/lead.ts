import type { NamespaceMap } from '#core/identity/namespace-map.ts'
import type { ComplianceRuleStatus, RetentionPolicyStatus } from '#core/rule/model.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { Publisher } from './bundles/publisher.ts'
import { keepCertificates, publishTrust } from './certificates/keeper.ts'
import type { CertificateSource } from './certificates/source.ts'
import type { WebhookConfigurations } from './certificates/webhook-configurations.ts'
import type { Clock } from './clock.ts'
import type { ClusterView } from './cluster.ts'
import type { KubernetesClient } from './kubernetes/client.ts'
import type { EventRecorder } from './kubernetes/events.ts'
import type { Term } from './kubernetes/leader.ts'
import type { NamedObjects } from './kubernetes/named-objects.ts'
import { createStatusWriter, type StatusWriter } from './kubernetes/status-writer.ts'
import type { OperatorMetrics } from './metrics.ts'
import { createQueue } from './queue/queue.ts'
import { reconcileRetention } from './retention/act.ts'
import { policyPrint } from './retention/decide.ts'
import { createRuleReconciler } from './rules/act.ts'
import type { CompileScope } from './rules/compilation.ts'
import { statusPrint } from './rules/decide.ts'
import { namespacePolicy, tenantsOf } from './rules/policy-data.ts'

export type LeadDeps = {
  readonly client: KubernetesClient
  readonly operatorNamespace: string
  readonly cluster: ClusterView
  readonly objects: NamedObjects
  readonly webhooks: WebhookConfigurations
  readonly events: EventRecorder
  readonly compile: CompileScope
  readonly namespaceMap: () => NamespaceMap
  readonly bundles: {
    lead(term: Term): { readonly publisher: Publisher; readonly ended: Promise<void> }
    forget(namespace: string): Promise<void>
    /** Namespaces that have a bundle. */
    served(): Iterable<string>
  }
  readonly certificates: CertificateSource
  /** Whether we are the authority. */
  readonly ownAuthority: { readonly caLifetimeMs: number; readonly servingLifetimeMs: number } | null
  readonly clock: Clock
  readonly random: () => number
  readonly metrics: OperatorMetrics
  readonly log: Logger
}

/** What another replica may ask of whoever leads. */
export type Leading = { onProxies(namespace: string): void; onBundle(namespace: string): void }

const CERTIFICATES_EVERY_MS = 15_000
const RETENTION_DEBOUNCE_MS = 300
const RETENTION_EVERY_MS = 600_000
/** Of the process's 25 s. */
const DRAIN_MS = 8_000

/**
 * One term of leadership: certificates, rules and retention are reconciled until it ends; then nothing new is begun, what is under way
 * is finished, and the promise resolves. `onLeading` gets the term's ears, and null at the end.
 */
export async function lead(deps: LeadDeps, term: Term, onLeading: (leading: Leading | null) => void): Promise<void> {
  const { cluster, clock, random, metrics, log } = deps
  const writer = <S extends object>(fingerprint: (status: S) => string, optionalMembers: string[]): StatusWriter<S> =>
    createStatusWriter<S>({
      client: deps.client,
      clock,
      random,
      fingerprint,
      optionalMembers,
      mayWrite: () => term.holds(),
      onWritten: (result) => metrics.statusWrites.inc({ result }),
      onError: (key, error) => log.warn({ error, object: key }, 'a status cannot be written'),
    })
  const ruleStatuses = writer<ComplianceRuleStatus>(statusPrint, ['errors', 'revision', 'distribution'])
  const policyStatuses = writer<RetentionPolicyStatus>(policyPrint, [])
  const certificates = createQueue({
    clock,
    random,
    observer: metrics.queue('certificates'),
    reconcile: async () => {
      await keepTrust(deps, term)
      return { requeueAfterMs: CERTIFICATES_EVERY_MS }
    },
    onError: (_, error) => log.warn({ error }, 'certificates cannot be kept; it is tried again'),
  })
  // Before all else: replicas serve nothing, and the ledger does not start, without certificates.
  certificates.add('all')
  certificates.start()
  const { publisher, ended } = deps.bundles.lead(term)
  await cluster.whenSynced(term.signal)

  const rules = createRuleReconciler({
    operatorNamespace: deps.operatorNamespace,
    index: cluster.rules,
    proxies: cluster.proxies,
    wanted: () => cluster.wanted(),
    served: () => deps.bundles.served(),
    exists: (namespace) => cluster.hasNamespace(namespace),
    forget: (namespace) => deps.bundles.forget(namespace),
    compile: deps.compile,
    policy: {
      of: (namespace) => namespacePolicy(deps.namespaceMap(), cluster.policyData, namespace),
      isFor: (namespace, tenant) => tenantsOf(deps.namespaceMap(), namespace).includes(tenant),
    },
    publisher,
    statuses: ruleStatuses,
    events: deps.events,
    clock,
    random,
    observer: {
      queue: (name) => metrics.queue(name),
      compiled: (scope, ms, result) =>
        metrics.compileSeconds.observe({ scope: scope === 'root' ? 'root' : 'namespace', result }, ms / 1000),
      states: (scope, counts) => metrics.ruleStates(scope, counts),
      failed: (what, key, error) => log.warn({ error, key }, `${what} failed; it is tried again`),
    },
  })
  const retention = createQueue({
    clock,
    random,
    observer: metrics.queue('retention'),
    reconcile: async () => {
      await reconcileRetention({
        operatorNamespace: deps.operatorNamespace,
        policies: () => cluster.policies(),
        objects: deps.objects,
        statuses: policyStatuses,
        events: deps.events,
        clock,
        holds: () => term.holds(),
      })
      return { requeueAfterMs: RETENTION_EVERY_MS }
    },
    onError: (_, error) => log.warn({ error }, 'retention policies cannot be published; it is tried again'),
  })
  const stopListening = cluster.listen({
    onRules: (scope, what) => rules.onRules(scope, what),
    onRuleGone: (key) => ruleStatuses.forget(key),
    onPolicies: () => retention.addAfter('all', RETENTION_DEBOUNCE_MS),
    onPolicyGone: (key) => policyStatuses.forget(key),
    onPolicyData: (tenant) => rules.onPolicyData(tenant),
    onNamespace: (name) => rules.onNamespace(name),
    onProxies: (namespace) => rules.onProxies(namespace),
  })
  onLeading({
    onProxies: (namespace) => rules.onProxies(namespace),
    onBundle: (namespace) => rules.onNamespace(namespace),
  })
  if (!term.signal.aborted) {
    retention.add('all')
    for (const part of [ruleStatuses, policyStatuses, retention, rules]) part.start()
    await aborted(term.signal)
  }
  onLeading(null)
  stopListening()
  // First what makes new statuses, then their writers.
  await Promise.all([rules.stop(DRAIN_MS), retention.stop(DRAIN_MS), certificates.stop(DRAIN_MS)])
  await Promise.all([ruleStatuses.stop(), policyStatuses.stop(), deps.events.idle(), ended])
  metrics.forgetRules()
}

async function keepTrust(deps: LeadDeps, term: Term): Promise<void> {
  if (!term.holds()) return
  const { objects, ownAuthority, clock, log } = deps
  if (ownAuthority === null) {
    const { trustCa } = deps.certificates
    if (trustCa !== null) await publishTrust({ objects }, trustCa)
    return
  }
  await keepCertificates({
    objects,
    webhooks: deps.webhooks,
    namespace: deps.operatorNamespace,
    now: () => new Date(clock.wallMs()),
    caLifetimeMs: ownAuthority.caLifetimeMs,
    servingLifetimeMs: ownAuthority.servingLifetimeMs,
    onIssued: (what, reason) => log.info({ object: what, reason }, 'certificate issued'),
  })
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
