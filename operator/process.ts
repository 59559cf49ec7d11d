import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { SignetError } from '#core/error/signet-error.ts'
import { checkRetentionObject } from '#core/rule/check.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { checkRule } from '#engine/compile/rule-set.ts'
import { unknownVariables } from '#runtime/config.ts'
import { createAuditClient } from '#runtime/ledger/audit-client.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { followNamespaceMap } from '#runtime/identity/policy-file.ts'
import { createServiceAccountAuthenticator } from '#runtime/identity/service-account.ts'
import { reviewedPod } from '#runtime/kubernetes/api.ts'
import type { StartedProcess } from '#runtime/process/lifecycle.ts'
import { createLogger, type Logger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { buildAdminApp } from './admin.ts'
import { createBundlesMetrics } from './bundles/metrics.ts'
import { createBundleService, type BundleService } from './bundles/service.ts'
import { BUNDLES_AUDIENCE } from './bundles/app.ts'
import { readCertificate } from './certificates/authority.ts'
import { certificatesFromFiles, certificatesFromSecret, type CertificateSource } from './certificates/source.ts'
import { createWebhookConfigurations, noWebhookConfigurations } from './certificates/webhook-configurations.ts'
import { systemClock } from './clock.ts'
import { createClusterView, type ClusterView } from './cluster.ts'
import { createCompiler, readStandardSamples, readStandardSources } from './compiler.ts'
import { OPERATOR_CONFIG, type Environment, type OperatorConfig } from './config.ts'
import { followInjection } from './injection.ts'
import { createKubernetesClient, type KubernetesClient } from './kubernetes/client.ts'
import { readCredentials } from './kubernetes/credentials.ts'
import { createEventRecorder } from './kubernetes/events.ts'
import { createElection } from './kubernetes/leader.ts'
import { createNamedObjects } from './kubernetes/named-objects.ts'
import { lead, type Leading } from './lead.ts'
import { closeListener, openListener, openWithCertificate, TLS_OPTIONS, type Listener } from './listeners.ts'
import { createOperatorMetrics, type OperatorMetrics } from './metrics.ts'
import { judgeAcceptance } from './rules/decide.ts'
import { scopeOf, type Scope } from './rules/gather.ts'
import { buildWebhooksApp } from './webhooks/app.ts'

const NAME = 'signet-operator'
const LEASE = 'signet-operator'
const SOFTWARE = 'signet-operator/0.1.0'
const DAY_MS = 86_400_000
/** The API server waits 10 s at most for the webhook. */
const CHECK_MS = 5_000
const TOKEN_CACHE_MS = 30_000

/**
 * Builds and starts the operator: what it knows of the cluster and the admin listener first; webhooks and bundles as soon as there is a
 * certificate to serve with; leadership whenever it can be had. `stop` drains: readiness falls, the leader's reconciles end, the
 * lease is given back, requests finish.
 */
export async function startOperator(config: OperatorConfig, env: Environment = {}): Promise<StartedProcess> {
  const log = createLogger({ name: NAME, level: config.SIGNET_LOG_LEVEL })
  for (const name of unknownVariables([OPERATOR_CONFIG], env))
    log.warn({ variable: name }, 'unknown variable; is it misspelt?')
  const registry = createMetricsRegistry()
  const metrics = createOperatorMetrics(registry)
  const clock = systemClock
  const random = Math.random
  const stopping = new AbortController()
  let draining = false

  const credentials = readCredentials({
    kubeconfig: config.KUBECONFIG,
    serviceHost: config.KUBERNETES_SERVICE_HOST,
    servicePort: config.KUBERNETES_SERVICE_PORT,
  })
  const namespace = ownNamespace(config, credentials.namespace)
  const replica = config.SIGNET_POD_NAME ?? hostname().toLowerCase()
  const client = createKubernetesClient(credentials, { userAgent: SOFTWARE })
  const opaMemory = createOpaMemory(config.SIGNET_OPA_MEMORY_MIB)
  const files = config.SIGNET_STANDARD_PACK ? await readStandardSources() : []
  const samples = await readStandardSamples()
  const certificates = certificateSource(config, { client, namespace, metrics, log })
  let leading: Leading | null = null

  const ledger =
    config.SIGNET_LEDGER_URL === undefined || config.SIGNET_LEDGER_TOKEN_FILE === undefined
      ? null
      : createAuditClient({
          url: config.SIGNET_LEDGER_URL,
          tokenFile: config.SIGNET_LEDGER_TOKEN_FILE,
          ca: () => certificates.trustCa ?? undefined,
        })
  const bundles = createBundleService({
    client,
    namespace,
    replica,
    ...(config.SIGNET_POD_UID === undefined
      ? {}
      : { owner: { apiVersion: 'v1', kind: 'Pod', name: replica, uid: config.SIGNET_POD_UID } }),
    clock,
    random,
    newId: uuidV7,
    newTraceId: () => randomBytes(16).toString('hex'),
    audit: async (event) => {
      if (ledger === null) log.info({ event }, 'audit event; there is no ledger to record it at')
      else await ledger.record(event)
    },
    tenant: config.SIGNET_PLATFORM_TENANT,
    // Compared by the compiler already, rule by rule: a rule whose decisions differ never gets into a module.
    compare: async () => {},
    authenticator: createServiceAccountAuthenticator({
      review: (token, audience) => reviewToken(client, token, audience),
      audience: BUNDLES_AUDIENCE,
      cacheMs: TOKEN_CACHE_MS,
      now: () => clock.wallMs(),
    }),
    metrics: createBundlesMetrics(registry),
    log,
    https: TLS_OPTIONS,
    onIndexChange: (name) => leading?.onBundle(name),
    onStatusChange: (name) => leading?.onProxies(name),
  })
  const cluster = createClusterView({
    client,
    operatorNamespace: namespace,
    reports: (name) => bundles.statuses.view.of(name),
    clock,
    random,
    observer: (resource) => informerObserver(metrics, log, resource),
  })
  const followError =
    (what: string) =>
    (error: unknown): void =>
      log.error({ error }, `${what} changed and cannot be used; the former stays`)
  const injection = await followInjection({
    path: config.SIGNET_INJECTION_SETTINGS,
    trustCa: () => certificates.trustCa,
    signal: stopping.signal,
    onError: followError('the injection settings'),
  })
  const namespaceMap = await followNamespaceMap({
    variable: 'SIGNET_NAMESPACE_MAP',
    path: config.SIGNET_NAMESPACE_MAP,
    signal: stopping.signal,
    onError: followError('the namespace map'),
  })
  const webhooks = buildWebhooksApp({
    registry,
    log,
    monotonicMs: () => clock.monotonicMs(),
    https: TLS_OPTIONS,
    injection,
    namespaceMap,
    namespaceLabels: (name) => cluster.namespaceLabels(name),
    services: (name) => cluster.services(name),
    operatorNamespace: namespace,
    rules: (name) => rulesFor(cluster, name, namespace),
    policies: () =>
      [...cluster.policies()]
        .map(({ metadata, spec }) => ({ name: metadata.name, spec }))
        .filter((policy) => checkRetentionObject(policy).length === 0),
    checkRule: (rule) => checkRule(rule, { opa: config.SIGNET_OPA, memory: opaMemory.checks, timeoutMs: CHECK_MS }),
  })
  const events = createEventRecorder({
    client,
    clock,
    newId: uuidV7,
    instance: replica,
    onDropped: () => metrics.eventsDropped.inc(),
  })
  const election = createElection({
    client,
    namespace,
    name: LEASE,
    identity: `${replica}_${randomBytes(6).toString('hex')}`,
    leaseMs: config.SIGNET_LEASE_MS,
    renewDeadlineMs: Math.floor((config.SIGNET_LEASE_MS * 2) / 3),
    retryMs: Math.floor((config.SIGNET_LEASE_MS * 2) / 15),
    clock,
    random,
    lead: (term) =>
      lead(
        {
          client,
          operatorNamespace: namespace,
          cluster,
          objects: createNamedObjects(client, namespace),
          webhooks:
            config.tlsFiles === null
              ? createWebhookConfigurations({
                  client,
                  name: config.SIGNET_WEBHOOK_CONFIGURATION,
                  service: { namespace, name: 'signet-operator' },
                  onChanged: (kind, webhooks) => log.info({ kind, webhooks }, 'caBundle set'),
                })
              : noWebhookConfigurations,
          events,
          namespaceMap,
          compile: createCompiler({
            opa: config.SIGNET_OPA,
            memory: opaMemory,
            timeoutMs: config.SIGNET_COMPILE_TIMEOUT_MS,
            files,
            samples,
          }),
          bundles: {
            lead: (of) => bundles.lead(of),
            forget: (name) => bundles.forget(name),
            served: () => servedNamespaces(bundles),
          },
          certificates,
          ownAuthority:
            config.tlsFiles === null
              ? {
                  caLifetimeMs: config.SIGNET_CA_LIFETIME_DAYS * DAY_MS,
                  servingLifetimeMs: config.SIGNET_TLS_LIFETIME_DAYS * DAY_MS,
                }
              : null,
          clock,
          random,
          metrics,
          log,
        },
        term,
        (next) => (leading = next),
      ),
    onTransition: (event) => {
      metrics.leader.set(event === 'acquired' ? 1 : 0)
      log.info({ lease: LEASE }, `leadership ${event}`)
    },
    onError: (error) => log.warn({ error, lease: LEASE }, 'leader election or the leader failed'),
  })

  const admin = buildAdminApp({
    registry,
    draining: () => draining,
    checks: [
      { name: 'the cluster is not known yet', ready: () => cluster.missing().length === 0 },
      { name: 'bundles are not known yet', ready: () => bundles.source.synced },
      { name: 'there is no certificate to serve with', ready: () => certificates.pair !== null },
    ],
  })
  const address = await openListener({
    app: admin,
    address: config.adminListen,
    what: 'admin',
    variable: 'SIGNET_ADMIN_LISTEN',
  })
  log.info({ listen: address }, 'listening: admin')
  const listeners = [
    { app: webhooks, address: config.webhooksListen, what: 'webhooks', variable: 'SIGNET_WEBHOOKS_LISTEN' },
    { app: bundles.app, address: config.bundlesListen, what: 'bundles', variable: 'SIGNET_BUNDLES_LISTEN' },
  ]
  const serving = serve(listeners, certificates, stopping.signal, { metrics, log, admin: address })

  const followers = new AbortController()
  const following = Promise.all([
    cluster.run(followers.signal),
    certificates.run(followers.signal),
    bundles.run(followers.signal),
  ])
  const electing = election.run(stopping.signal)
  return {
    log,
    async stop() {
      draining = true
      stopping.abort()
      await electing
      await Promise.all([serving, ...listeners.map(({ app }) => closeListener(app))])
      followers.abort()
      await following
      await ledger?.close()
      await closeListener(admin)
      await client.close()
    },
  }
}

function ownNamespace(config: OperatorConfig, known: string | undefined): string {
  const namespace = config.SIGNET_NAMESPACE ?? known
  if (namespace !== undefined) return namespace
  throw new SignetError(
    'CONFIG_INVALID',
    'SIGNET_NAMESPACE is not set, and neither a service account nor KUBECONFIG names one',
  )
}

function certificateSource(
  config: OperatorConfig,
  deps: {
    readonly client: KubernetesClient
    readonly namespace: string
    readonly metrics: OperatorMetrics
    readonly log: Logger
  },
): CertificateSource {
  const { client, namespace, metrics, log } = deps
  if (config.tlsFiles !== null) {
    return certificatesFromFiles({
      ...config.tlsFiles,
      onError: (error) =>
        log.error({ error }, 'the certificate files changed and cannot be used; the former ones stay'),
    })
  }
  const observer = informerObserver(metrics, log, 'secrets')
  return certificatesFromSecret({ client, namespace, clock: systemClock, random: Math.random, observer })
}

function informerObserver(metrics: OperatorMetrics, log: Logger, resource: string) {
  return metrics.informer(resource, {
    failed: (error) => log.warn({ error, resource }, 'a list or watch broke; it is tried again'),
    threw: (error) => log.error({ error, resource }, 'a change could not be taken'),
  })
}

async function reviewToken(client: KubernetesClient, token: string, audience: string) {
  const review = await client.request<Record<string, unknown>>({
    method: 'POST',
    path: '/apis/authentication.k8s.io/v1/tokenreviews',
    timeoutMs: 5_000,
    body: {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec: { token, audiences: [audience] },
    },
  })
  return reviewedPod(review, audience)
}

/** Valid rules that apply in a namespace: root's and its own. */
function* rulesFor(cluster: ClusterView, namespace: string, operatorNamespace: string): Iterable<RuleObject> {
  const own = scopeOf(namespace, operatorNamespace)
  for (const scope of new Set<Scope>(['root', own])) {
    for (const rule of cluster.rules.rules(scope)) {
      if (judgeAcceptance(rule).accepted) yield { name: rule.metadata.name, spec: rule.spec }
    }
  }
}

function* servedNamespaces(bundles: BundleService): Iterable<string> {
  for (const { namespace } of bundles.source.all()) yield namespace
}

/** Opens webhooks and bundles as soon as there is a certificate. Where that cannot be, the process ends. */
async function serve(
  listeners: readonly Listener[],
  certificates: CertificateSource,
  signal: AbortSignal,
  deps: { readonly metrics: OperatorMetrics; readonly log: Logger; readonly admin: string },
): Promise<void> {
  try {
    const addresses = await openWithCertificate(listeners, certificates, signal, (pair) => {
      const expiryMs = readCertificate(pair.cert)?.notAfterMs
      if (expiryMs !== undefined) deps.metrics.certificateExpiry.set(expiryMs / 1000)
      deps.log.info('serving with a new certificate')
    })
    if (signal.aborted) return
    deps.log.info({ listen: addresses }, 'listening: webhooks, bundles')
    // A parent that started us with port 0 learns where we are.
    process.send?.({ listening: { SIGNET_ADMIN_LISTEN: deps.admin, ...addresses } })
  } catch (error) {
    deps.log.fatal({ error }, 'cannot listen')
    process.exitCode = 1
    process.kill(process.pid, 'SIGTERM')
  }
}
