import { createHash } from 'node:crypto'
import { pino } from 'pino'
import { EMPTY_NAMESPACE_MAP } from '#core/identity/namespace-map.ts'
import { TEMPLATE } from '#core/injection/injection.fixture.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { WebhooksDeps } from './app.ts'

/** Webhooks of a platform whose settings are the chart's, in a cluster that has nothing yet. */
export function webhooksDeps(change: Partial<WebhooksDeps> = {}): WebhooksDeps {
  return {
    injection: () => TEMPLATE,
    namespaceMap: () => EMPTY_NAMESPACE_MAP,
    namespaceLabels: () => ({ 'signet.dev/inject': 'enabled' }),
    operatorNamespace: 'signet-system',
    rules: () => [],
    policies: () => [],
    checkRule: async () => [],
    registry: createMetricsRegistry(),
    log: pino({ level: 'silent' }),
    monotonicMs: () => performance.now(),
    ...change,
  }
}

export type ReviewChange = {
  operation?: string
  namespace?: string
  object?: unknown
  oldObject?: unknown
  resource?: { group: string; version: string; resource: string }
}

/** An AdmissionReview as the API server writes it. */
export function review(change: ReviewChange): object {
  return {
    kind: 'AdmissionReview',
    apiVersion: 'admission.k8s.io/v1',
    request: {
      uid: createHash('sha256').update(JSON.stringify(change)).digest('hex').slice(0, 36),
      kind: { group: '', version: 'v1', kind: 'Pod' },
      resource: { group: '', version: 'v1', resource: 'pods' },
      requestKind: { group: '', version: 'v1', kind: 'Pod' },
      name: 'reports',
      namespace: 'payments',
      operation: 'CREATE',
      userInfo: {
        username: 'system:serviceaccount:kube-system:replicaset-controller',
        groups: ['system:authenticated'],
      },
      object: null,
      oldObject: null,
      dryRun: false,
      options: { kind: 'CreateOptions', apiVersion: 'meta.k8s.io/v1' },
      ...change,
    },
  }
}

export const RULES = { group: 'signet.dev', version: 'v1alpha1', resource: 'compliancerules' }
export const POLICIES = { group: 'signet.dev', version: 'v1alpha1', resource: 'retentionpolicies' }
