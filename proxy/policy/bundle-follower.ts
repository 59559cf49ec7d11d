import { SignetError } from '#core/error/signet-error.ts'
import { createBundleClient, type BundleClient } from '#engine/bundle/client.ts'
import { createStatusReporter, type StatusReporter } from '#engine/bundle/status-reporter.ts'
import { fileTrust, remoteTrust, type TrustSource } from '#engine/bundle/trust-source.ts'
import { watchBundle } from '#engine/bundle/watch.ts'
import { createCachedEvaluator } from '#engine/evaluate/cached.ts'
import { createEvaluator } from '#engine/evaluate/evaluator.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ProxyConfig } from '../config.ts'
import { beginRulesAtZero, type ProxyMetrics } from '../metrics.ts'
import { bundledData } from './data.ts'
import type { PolicyHolder } from './holder.ts'
import type { SequenceFloor } from './sequence-floor.ts'

export type BundleFollowerDeps = {
  readonly config: ProxyConfig
  readonly policies: PolicyHolder
  readonly metrics: ProxyMetrics
  readonly log: Logger
  readonly sequence: SequenceFloor
  /** Of the trust file; null where the trust root is behind https. */
  readonly trustText: string | null
  readonly nowMs: () => number
  /** Told when the bundle in force expires, milliseconds since the epoch. */
  readonly onExpiry: (atMs: number) => void
  readonly signal: AbortSignal
}

export function isRemoteTrust(config: ProxyConfig): boolean {
  return /^https?:/.test(config.SIGNET_BUNDLE_TRUST)
}

/**
 * Keeps the rules in force up to date, until `signal` aborts, and reports which those are. `first` resolves when the first bundle is in force or
 * could not be had. Throws CONFIG_INVALID for what will never work.
 */
export function followBundle(deps: BundleFollowerDeps): { readonly first: Promise<void> } {
  const { config, policies, metrics, log, sequence, nowMs, signal } = deps
  const first = Promise.withResolvers<void>()
  const client = createBundleClient({
    ...(config.SIGNET_TRUST_CA === undefined ? {} : { ca: config.SIGNET_TRUST_CA }),
    ...(config.SIGNET_BUNDLE_TOKEN_FILE === undefined ? {} : { tokenFile: config.SIGNET_BUNDLE_TOKEN_FILE }),
  })
  const trust = trustOf(deps, client)
  const reporter = reporterOf(deps, client)
  signal.addEventListener('abort', () => reporter?.stop(), { once: true })

  void watchBundle({
    source: config.SIGNET_BUNDLE,
    intervalMs: config.SIGNET_BUNDLE_POLL_MS,
    waitSeconds: config.SIGNET_BUNDLE_WAIT,
    ...(/^https?:/.test(config.SIGNET_BUNDLE) ? { client } : {}),
    trust,
    scope: config.SIGNET_BUNDLE_SCOPE,
    minimumSequence: sequence.floor,
    signal,
    onBundle: async (bundle) => {
      const bundled = bundledData(bundle.policy, config.SIGNET_TENANT)
      const evaluator = await createEvaluator(bundle, {
        timeoutMs: config.SIGNET_POLICY_EVAL_TIMEOUT_MS,
        maxMemoryMiB: config.SIGNET_POLICY_MEMORY_MIB,
      })
      policies.useEvaluator(
        config.SIGNET_DECISION_CACHE_ENTRIES === 0
          ? evaluator
          : createCachedEvaluator(evaluator, { maxEntries: config.SIGNET_DECISION_CACHE_ENTRIES }),
        bundled,
      )
      sequence.raise(bundle.metadata.sequence)
      const expiresMs = Date.parse(bundle.metadata.expires_at)
      deps.onExpiry(expiresMs)
      beginRulesAtZero(metrics, config.SIGNET_TENANT, evaluator.rules)
      metrics.bundleLoads.inc({ result: 'loaded' })
      metrics.bundleInfo.reset()
      metrics.bundleInfo.set({ revision: bundle.revision }, 1)
      metrics.bundleExpiry.set(expiresMs / 1000)
      metrics.bundleActivated.set(nowMs() / 1000)
      log.info({ revision: bundle.revision, sequence: bundle.metadata.sequence }, 'bundle in force')
      reporter?.activated(bundle.revision)
      first.resolve()
    },
    onContact: () => {
      metrics.bundleContact.set(nowMs() / 1000)
      reporter?.contacted()
    },
    onError: (error) => {
      metrics.bundleLoads.inc({ result: 'refused' })
      metrics.bundleErrors.inc({ code: error.code })
      log.error({ error }, 'the bundle cannot be used; what was in force stays')
      reporter?.failed(error)
      first.resolve()
    },
  }).finally(() => void client.close())
  return { first: first.promise }
}

function trustOf({ config, trustText }: BundleFollowerDeps, client: BundleClient): TrustSource {
  const { SIGNET_BUNDLE_TRUST: url } = config
  if (trustText !== null) return fileTrust(url, trustText)
  const { protocol, hostname } = new URL(url)
  // Who answers in the place of the trust root signs the rules.
  if (protocol === 'https:' || hostname === '127.0.0.1' || hostname === 'localhost') return remoteTrust(url, client)
  throw new SignetError(
    'CONFIG_INVALID',
    `SIGNET_BUNDLE_TRUST is ${JSON.stringify(url)}; it must be a file or an https URL`,
  )
}

function reporterOf({ config, metrics, log }: BundleFollowerDeps, client: BundleClient): StatusReporter | null {
  const url = config.SIGNET_BUNDLE_STATUS_URL
  if (url === undefined) return null
  return createStatusReporter({
    url,
    client,
    name: config.SIGNET_BUNDLE_SCOPE,
    labels: {
      app: 'signet-proxy',
      id: config.SIGNET_POD_UID ?? '',
      pod: config.SIGNET_POD_NAME ?? '',
      namespace: config.SIGNET_NAMESPACE,
    },
    onFailure: (error) => {
      metrics.bundleReportFailures.inc()
      log.debug({ error }, 'the revision in force could not be reported')
    },
  })
}
