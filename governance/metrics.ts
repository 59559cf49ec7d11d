import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

export type GovernanceMetrics = ReturnType<typeof createGovernanceMetrics>

/** `docs/reference/metrics.md` has the same; a test compares the two. */
export function createGovernanceMetrics(registry: MetricsRegistry) {
  const registers = [registry]
  return {
    actions: new Counter({
      name: 'signet_governance_actions',
      help: 'Actions that ended, by state',
      labelNames: ['state'] as const,
      registers,
    }),
    signInFailures: new Counter({
      name: 'signet_governance_sign_in_failures',
      help: 'Sign-ins that were refused, by reason',
      labelNames: ['reason'] as const,
      registers,
    }),
    swept: new Counter({
      name: 'signet_governance_actions_swept',
      help: 'Actions that were left behind and are completed, by how',
      labelNames: ['how'] as const,
      registers,
    }),
    bundles: new Counter({
      name: 'signet_governance_bundles',
      help: 'Bundles that were to be published, by outcome',
      labelNames: ['outcome'] as const,
      registers,
    }),
    evidence: new Counter({
      name: 'signet_governance_evidence_collected',
      help: 'Evidence that was collected on a schedule, by kind',
      labelNames: ['kind'] as const,
      registers,
    }),
    evidenceDeleted: new Counter({
      name: 'signet_governance_evidence_files_deleted',
      help: 'Files of evidence that nothing referred to and that are deleted',
      registers,
    }),
    webhooks: new Counter({
      name: 'signet_governance_webhooks',
      help: 'Messages to webhooks that were tried, by outcome',
      labelNames: ['outcome'] as const,
      registers,
    }),
    resolutions: new Counter({
      name: 'signet_governance_resolutions',
      help: 'Tries to resolve a violation automatically, by outcome',
      labelNames: ['outcome'] as const,
      registers,
    }),
    eventsDeleted: new Counter({
      name: 'signet_governance_events_deleted',
      help: 'Compliance events that were old and are deleted',
      registers,
    }),
    domainEvents: new Counter({
      name: 'signet_governance_domain_events',
      help: 'Domain events that were handed on to Kafka, or lost, by outcome',
      labelNames: ['outcome'] as const,
      registers,
    }),
    domainEventsWaiting: new Gauge({
      name: 'signet_governance_domain_events_waiting',
      help: 'Domain events that Kafka does not have yet; of a tenant 100,001 stands for more',
      registers,
    }),
    domainEventsLag: new Gauge({
      name: 'signet_governance_domain_events_lag_seconds',
      help: 'Age of the oldest of them; 0 where there is none',
      registers,
    }),
    domainEventErrors: new Counter({
      name: 'signet_governance_domain_event_errors',
      help: 'Times that handing domain events on to Kafka had to wait, by code',
      labelNames: ['code'] as const,
      registers,
    }),
    outcomesRefused: new Gauge({
      name: 'signet_governance_outcomes_refused',
      help: 'Outcomes that the ledger refuses, at the last sweep',
      registers,
    }),
  }
}
