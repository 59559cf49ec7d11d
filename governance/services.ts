import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { readStandardPack } from '#engine/bundle/standard.ts'
import { readSamples } from '#engine/compile/differential.ts'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { readPackSources } from '#engine/compile/pack-sources.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { kafkaConnector } from '#runtime/kafka/connection.ts'
import { createKubernetesApi } from '#runtime/kubernetes/api.ts'
import { kubernetesApiOptions } from '#runtime/kubernetes/variables.ts'
import type { Client, Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { ActionRunner, type RecordEvent } from './actions/runner.ts'
import { keepInCluster } from './bundles/cluster.ts'
import { keepBundleNews, type BundleNews } from './bundles/news.ts'
import { createBundlePublisher, type BundlePublisher } from './bundles/publisher.ts'
import type { GovernanceConfig } from './config.ts'
import {
  named,
  namedEndpoints,
  namespacesByTenant,
  networksOf,
  originsByTenant,
  readBundleKey,
  readStripeSecrets,
} from './config-values.ts'
import type { GovernanceMetrics } from './metrics.ts'
import type { CompilerDeps } from './policies/compile.ts'
import { openArtifactStore, type ArtifactStore } from './evidence/artifact-store.ts'
import { keepCollecting } from './evidence/collector.ts'
import type { EventRules } from './events/judge.ts'
import { keepForgetting } from './events/retention.ts'
import { keepDelivering } from './connectors/deliver.ts'
import { messageOf } from './connectors/message.ts'
import { createSecretBox, readSecretsKey, type SecretBox } from './connectors/sealed-secret.ts'
import { createWebhookSender } from './connectors/webhook.ts'
import { enqueueDeliveries } from './store/webhooks.ts'
import { blockPolicy } from './resolution/blocks.ts'
import { domainEventsOf } from './domain-events/event.ts'
import { keepRelaying } from './domain-events/relay.ts'
import { kafkaSettings } from './domain-events/variables.ts'
import { insertDomainEvents } from './store/domain-events.ts'
import { createBillingApi } from './resolution/billing.ts'
import { createEndpointObserver, type EndpointObserver } from './resolution/endpoint.ts'
import { createResolver, type Resolver } from './resolution/resolver.ts'
import type { FactDeps } from './facts/registry.ts'
import type { Catalog } from './frameworks/catalog.ts'
import { createJudge, type Judge } from './rego/judge.ts'
import { releasePolicy } from './workflows/approvals.ts'
import { createScanner, type Scanner } from './scans/scanner.ts'
import { keepScanning } from './scans/schedule.ts'

/** What calls and background work share. */
export type Services = {
  readonly runner: ActionRunner
  readonly compiler: CompilerDeps
  readonly judge: Judge
  readonly publisher: BundlePublisher
  readonly bundleNews: BundleNews
  readonly evaluationTimeoutMs: number
  readonly scanner: Scanner
  readonly eventRules: EventRules
  readonly resolver: Resolver
  readonly observer: EndpointObserver
  readonly secrets: SecretBox | null
  readonly artifacts: ArtifactStore
  readonly maxFileBytes: number
  stop(): Promise<void>
}

/** Of one try. */
const WEBHOOK_TIMEOUT_MS = 10_000
const OBSERVE_TIMEOUT_MS = 5_000
const HOUR_MS = 3_600_000
const POLICIES = fileURLToPath(new URL('../policies/', import.meta.url))
const PACK = 'standard'

/** @throws SignetError CONFIG_INVALID, BUNDLE_INVALID where the shipped pack is not whole */
export async function createServices(
  config: GovernanceConfig,
  deps: {
    pool: Pool
    record: RecordEvent
    ledger: FactDeps['ledger']
    catalogs: ReadonlyMap<string, Catalog>
    metrics: GovernanceMetrics
    log: Logger
    clock: () => Date
  },
): Promise<Services> {
  const { pool, record, ledger, catalogs, metrics, log, clock } = deps
  const topic = config.SIGNET_GOVERNANCE_KAFKA_TOPIC
  const connect = await kafkaConnector(kafkaSettings(config), 'signet-governance')
  const runner = new ActionRunner({
    pool,
    record,
    newId: uuidV7,
    nowMs: () => clock().getTime(),
    log,
    onEnded: (state) => metrics.actions.inc({ state }),
    async onCommitting(client, event) {
      await enqueueDeliveries(client, event.tenant, messageOf(event))
      if (topic !== undefined) await insertDomainEvents(client, event.tenant, domainEventsOf(event))
    },
  })
  const compiler: CompilerDeps = {
    opa: config.SIGNET_OPA,
    memory: createOpaMemory(config.SIGNET_OPA_MEMORY_MIB),
    samples: await readSamples(path.join(POLICIES, PACK, 'samples')),
  }
  const judge = createJudge()
  // Of its own: what people evaluate and scan must not hold up events, whose transactions wait for it.
  const eventJudge = createJudge({ threads: 1 })
  const bundleNews = keepBundleNews({
    pool,
    onError: (error) => log.warn({ error }, 'whether there is a new bundle cannot be seen; it is tried again'),
  })
  const policyData = async (client: Client, tenant: string) => ({
    ...(await releasePolicy(client, tenant, clock())),
    ...(await blockPolicy(client, tenant, clock())),
  })
  const bundles = createBundlePublisher({
    pool,
    runner,
    compiler,
    pack: {
      sources: await readPackSources(path.join(POLICIES, PACK)),
      modules: await readStandardPack(path.join(POLICIES, 'dist', PACK)),
    },
    key: await readBundleKey(config.SIGNET_GOVERNANCE_BUNDLE_KEY_FILE),
    policyData,
    clock,
    newId: uuidV7,
    log,
    onPublished: (outcome) => metrics.bundles.inc({ outcome }),
    onRevision: (tenant, etag) => bundleNews.saw(tenant, etag),
  })
  const rulesNamespace = config.SIGNET_GOVERNANCE_RULES_NAMESPACE
  const cluster =
    rulesNamespace === undefined
      ? null
      : keepInCluster({
          api: createKubernetesApi(kubernetesApiOptions(config)),
          namespace: rulesNamespace,
          pool,
          policyData,
          nowMs: () => clock().getTime(),
          log,
          onKept: (outcome) => metrics.bundles.inc({ outcome }),
        })
  const publisher: BundlePublisher = {
    ...bundles,
    touch(tenant) {
      bundles.touch(tenant)
      cluster?.touch(tenant)
    },
  }
  const namespaces = namespacesByTenant(config.SIGNET_GOVERNANCE_SCAN_NAMESPACES)
  const kubernetes = namespaces.size === 0 ? null : createKubernetesApi(kubernetesApiOptions(config))
  const facts: FactDeps = {
    pool,
    ledger,
    endpoints: namedEndpoints(config.SIGNET_GOVERNANCE_SCAN_ENDPOINTS),
    urls: named(config.SIGNET_GOVERNANCE_SCAN_URLS),
    kubernetes: kubernetes === null ? null : { api: kubernetes, namespaces },
    nowMs: () => clock().getTime(),
  }
  const scanner = createScanner({ facts, compiler, judge })
  const scanning = keepScanning({ pool, scanner, newId: uuidV7, clock, runner, log })
  const artifacts = openArtifactStore({
    bucket: config.SIGNET_EVIDENCE_ARTIFACT_BUCKET,
    region: config.SIGNET_EVIDENCE_REGION,
    endpoint: config.SIGNET_EVIDENCE_ENDPOINT,
    prefix: config.SIGNET_EVIDENCE_PREFIX,
    timeoutMs: config.SIGNET_EVIDENCE_STORE_TIMEOUT_MS,
  })
  const collecting = keepCollecting({ pool, artifacts, ledger, catalogs, newId: uuidV7, clock, runner, log, metrics })
  const [eventPack] = await readStandardPack(path.join(POLICIES, 'dist', 'events'))
  const eventRules: EventRules = {
    judge: eventJudge,
    pack: eventPack!,
    stripeSecrets: await readStripeSecrets(config.SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE),
  }
  const { SIGNET_GOVERNANCE_BILLING_URL: billingUrl, SIGNET_GOVERNANCE_BILLING_KEY_FILE: keyFile } = config
  const billing =
    billingUrl === undefined || keyFile === undefined ? null : createBillingApi({ url: billingUrl, keyFile })
  const observer = createEndpointObserver({
    origins: originsByTenant(config.SIGNET_GOVERNANCE_OBSERVE_ORIGINS),
    allowed: networksOf('SIGNET_GOVERNANCE_OBSERVE_NETWORKS', config.SIGNET_GOVERNANCE_OBSERVE_NETWORKS),
    timeoutMs: OBSERVE_TIMEOUT_MS,
  })
  const resolver = createResolver({
    pool,
    runner,
    eventRules,
    billing,
    observer,
    compiler,
    judge,
    evaluationTimeoutMs: config.SIGNET_POLICY_EVAL_TIMEOUT_MS,
    newId: uuidV7,
    clock,
    log,
    onBlocks: (tenant) => publisher.touch(tenant),
    onAttempt: (outcome) => metrics.resolutions.inc({ outcome }),
  })
  const forgetting = keepForgetting({
    pool,
    runner,
    clock,
    log,
    days: config.SIGNET_GOVERNANCE_EVENT_DAYS,
    onDeleted: (events) => metrics.eventsDeleted.inc(events),
  })
  const secretsFile = config.SIGNET_GOVERNANCE_SECRETS_KEY_FILE
  const secrets = secretsFile === undefined ? null : createSecretBox(await readSecretsKey(secretsFile), randomBytes)
  const sender = createWebhookSender({
    nowMs: () => clock().getTime(),
    timeoutMs: WEBHOOK_TIMEOUT_MS,
    allowed: networksOf('SIGNET_GOVERNANCE_WEBHOOK_NETWORKS', config.SIGNET_GOVERNANCE_WEBHOOK_NETWORKS),
  })
  const delivering = keepDelivering({
    pool,
    sender,
    box: secrets,
    clock,
    random: Math.random,
    log,
    onEnded: (outcome) => metrics.webhooks.inc({ outcome }),
  })
  const relaying =
    connect === null || topic === undefined
      ? null
      : keepRelaying({
          pool,
          connect,
          topic,
          keepMs: config.SIGNET_GOVERNANCE_KAFKA_KEEP_HOURS * HOUR_MS,
          newId: uuidV7,
          clock,
          log,
          metrics,
        })
  return {
    secrets,
    eventRules,
    resolver,
    observer,
    artifacts,
    maxFileBytes: config.SIGNET_EVIDENCE_MAX_BYTES,
    scanner,
    runner,
    compiler,
    judge,
    publisher,
    bundleNews,
    evaluationTimeoutMs: config.SIGNET_POLICY_EVAL_TIMEOUT_MS,
    async stop() {
      await scanning.stop()
      await forgetting.stop()
      await resolver.stop()
      await delivering.stop()
      await relaying?.stop()
      await sender.close()
      await billing?.close()
      await observer.close()
      await collecting.stop()
      artifacts.close()
      await bundles.stop()
      await bundleNews.stop()
      await cluster?.stop()
      await judge.close()
      await eventJudge.close()
      await kubernetes?.close()
    },
  }
}
