import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

export type BundlesMetrics = ReturnType<typeof createBundlesMetrics>

/** Families of bundle publication and distribution. Labels are codes and results of closed sets. */
export function createBundlesMetrics(registry: MetricsRegistry) {
  const registers = [registry]
  let collect = (): { heldPolls: number } => ({ heldPolls: 0 })
  const metrics = {
    pulls: new Counter({
      name: 'signet_bundle_pulls',
      help: 'Authorised requests for bundles by how they were answered',
      labelNames: ['result'] as const,
      registers,
    }),
    refused: new Counter({
      name: 'signet_bundle_requests_refused',
      help: 'Pulls and reports that were refused, by error code',
      labelNames: ['action', 'code'] as const,
      registers,
    }),
    statusReports: new Counter({
      name: 'signet_bundle_status_reports',
      help: 'Reports of proxies on the bundle that they have in force',
      labelNames: ['result'] as const,
      registers,
    }),
    heldPolls: new Gauge({
      name: 'signet_bundle_polls_held',
      help: 'Polls that wait for a new revision',
      registers,
      collect() {
        this.set(collect().heldPolls)
      },
    }),
    publications: new Counter({
      name: 'signet_bundle_publications',
      help: 'What became of attempts to publish',
      labelNames: ['outcome'] as const,
      registers,
    }),
    publicationProblems: new Counter({
      name: 'signet_bundle_publication_problems',
      help: 'Parts of bundles that were kept out, and rollbacks that could not be done, by error code',
      labelNames: ['part', 'code'] as const,
      registers,
    }),
    unaudited: new Gauge({
      name: 'signet_bundle_unaudited',
      help: 'Publications that the ledger has not acknowledged yet',
      registers,
    }),
    onCollect(values: () => { heldPolls: number }): void {
      collect = values
    },
  }
  for (const action of ['pull', 'report'] as const) {
    for (const code of ['UNAUTHENTICATED', 'FORBIDDEN'] as const) metrics.refused.inc({ action, code }, 0)
  }
  return metrics
}
