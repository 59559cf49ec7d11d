import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { CODING_FAULTS } from './coding/fault.ts'
import { TalliedCounter, TalliedHistogram } from './tally.ts'

/** Metric families of the proxy (`docs/reference/metrics.md`). Names in OpenMetrics; samples of counters end in `_total`. */
export type ProxyMetrics = ReturnType<typeof createProxyMetrics>

export function createProxyMetrics(
  registry: MetricsRegistry,
  now: { inFlight: () => number; bufferedBytes: () => number },
) {
  const registers = [registry]
  return {
    stampsIssued: new TalliedCounter({
      name: 'stamps_issued',
      help: 'Stamps issued',
      labelNames: ['tenant'],
      registers,
    }),
    stampsMissing: new Counter({
      name: 'stamps_missing',
      help: 'Upstream answers sent unstamped although the tenant is under enforce',
      labelNames: ['tenant', 'reason'],
      registers,
    }),
    stampsRejected: new Counter({
      name: 'stamps_rejected',
      help: 'Answers refused by a rule',
      labelNames: ['tenant', 'rule'],
      registers,
    }),
    approvalBlocked: new Counter({
      name: 'approval_blocked',
      help: 'Answers refused because an approval is missing',
      labelNames: ['tenant', 'rule'],
      registers,
    }),
    requests: new TalliedCounter({
      name: 'signet_requests',
      help: 'Exchanges by channel and how they ended',
      labelNames: ['channel', 'outcome'],
      registers,
    }),
    shadowViolations: new Counter({
      name: 'signet_shadow_violations',
      help: 'Violations that a rule in shadow, or a tenant in shadow, would have refused',
      labelNames: ['tenant', 'rule'],
      registers,
    }),
    shadowUnaudited: new Counter({
      name: 'signet_shadow_unaudited',
      help: 'Answers under shadow that passed although their audit event could not be written',
      labelNames: ['tenant'],
      registers,
    }),
    undecidable: new Counter({
      name: 'signet_rules_undecidable',
      help: 'Rules that could not be judged',
      labelNames: ['rule'],
      registers,
    }),
    upstreamErrors: new Counter({
      name: 'signet_upstream_errors',
      help: 'Failed upstream exchanges by error code',
      labelNames: ['code'],
      registers,
    }),
    codingRefusals: new Counter({
      name: 'signet_coding_refusals',
      help: 'Answers refused, or cut off, because their content coding cannot be removed within the limits',
      labelNames: ['reason'],
      registers,
    }),
    forgedStamps: new Counter({
      name: 'signet_forged_stamps',
      help: 'Upstream bodies that held an unverified _compliance member',
      labelNames: ['tenant'],
      registers,
    }),
    stampsAsked: new Counter({
      name: 'signet_stamps_asked',
      help: 'Stamps of other producers in upstream bodies that the ledger was asked about, by what it said; unavailable: it could not be asked',
      labelNames: ['result'],
      registers,
    }),
    identityExchanges: new Counter({
      name: 'signet_identity_exchanges',
      help: 'Exchanges of the token of this pod for its keys, by how they ended',
      labelNames: ['result'],
      registers,
    }),
    identityExpiry: new Gauge({
      name: 'signet_identity_expiry_timestamp_seconds',
      help: 'When the stamp key and the certificate from the ledger end',
      registers,
    }),
    decisionSeconds: new TalliedHistogram({
      name: 'signet_decision_seconds',
      help: 'Judging and stamping one answer',
      buckets: [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.2, 1],
      registers,
    }),
    inFlight: new Gauge({
      name: 'signet_in_flight',
      help: 'Exchanges under way',
      registers,
      collect() {
        this.set(now.inFlight())
      },
    }),
    bufferedBytes: new Gauge({
      name: 'signet_buffered_bytes',
      help: 'Upstream bytes held for inspection',
      registers,
      collect() {
        this.set(now.bufferedBytes())
      },
    }),
    bundleLoads: new Counter({
      name: 'signet_bundle_loads',
      help: 'Bundles taken into force or refused',
      labelNames: ['result'],
      registers,
    }),
    bundleInfo: new Gauge({
      name: 'signet_bundle_info',
      help: 'The bundle in force',
      labelNames: ['revision'],
      registers,
    }),
    bundleExpiry: new Gauge({
      name: 'signet_bundle_expiry_timestamp_seconds',
      help: 'When the bundle in force expires',
      registers,
    }),
    bundleActivated: new Gauge({
      name: 'signet_bundle_activated_timestamp_seconds',
      help: 'When the bundle in force was taken into force',
      registers,
    }),
    bundleContact: new Gauge({
      name: 'signet_bundle_contact_timestamp_seconds',
      help: 'When the bundle in force was last known to be the latest',
      registers,
    }),
    bundleErrors: new Counter({
      name: 'signet_bundle_errors',
      help: 'Failed polls for bundles, by error code',
      labelNames: ['code'],
      registers,
    }),
    bundleReportFailures: new Counter({
      name: 'signet_bundle_report_failures',
      help: 'Status reports that the bundle server did not take',
      registers,
    }),
    policyDataErrors: new Counter({
      name: 'signet_policy_data_errors',
      help: 'Policy data refused; the former stays',
      registers,
    }),
    spoolRefusals: new Counter({
      name: 'signet_spool_refusals',
      help: 'Answers refused because their audit event could not be written',
      registers,
    }),
  }
}

/** Why an upstream's answer left unstamped under `enforce`. */
const MISSING_REASONS = ['aborted', 'flag'] as const

/** Families that alerts watch begin with 0: of a series that begins with 1, `increase()` does not see the first. */
export function beginAtZero(metrics: ProxyMetrics, tenant: string): void {
  metrics.stampsIssued.inc({ tenant }, 0)
  metrics.forgedStamps.inc({ tenant }, 0)
  metrics.shadowUnaudited.inc({ tenant }, 0)
  for (const reason of CODING_FAULTS) metrics.codingRefusals.inc({ reason }, 0)
  for (const reason of MISSING_REASONS) metrics.stampsMissing.inc({ tenant, reason }, 0)
}

/** The same for the rules of a bundle. */
export function beginRulesAtZero(
  metrics: ProxyMetrics,
  tenant: string,
  rules: readonly { readonly id: string }[],
): void {
  for (const { id: rule } of rules) {
    metrics.stampsRejected.inc({ tenant, rule }, 0)
    metrics.approvalBlocked.inc({ tenant, rule }, 0)
    metrics.shadowViolations.inc({ tenant, rule }, 0)
    metrics.undecidable.inc({ rule }, 0)
  }
}
