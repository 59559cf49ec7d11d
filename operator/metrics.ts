import { Counter, Gauge, Histogram } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { InformerObserver } from './kubernetes/informer.ts'
import type { QueueObserver } from './queue/queue.ts'
import { RULE_STATES, type RuleState } from './rules/decide.ts'

export type OperatorMetrics = ReturnType<typeof createOperatorMetrics>

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

/** Families of the operator's own loops. Labels are queues, resources, states and results of closed sets. */
export function createOperatorMetrics(registry: MetricsRegistry) {
  const registers = [registry]
  const runs = new Counter({
    name: 'signet_operator_reconcile_runs',
    help: 'Reconciles by queue and how they ended',
    labelNames: ['queue', 'result'] as const,
    registers,
  })
  const seconds = new Histogram({
    name: 'signet_operator_reconcile_seconds',
    help: 'Time of one reconcile',
    labelNames: ['queue'] as const,
    buckets: SECONDS,
    registers,
  })
  const depth = new Gauge({
    name: 'signet_operator_queue_depth',
    help: 'Keys that wait, are delayed or are being reconciled',
    labelNames: ['queue'] as const,
    registers,
  })
  const rules = new Gauge({
    name: 'signet_operator_rules',
    help: 'ComplianceRules by how far they have come, as the leader sees it',
    labelNames: ['state'] as const,
    registers,
  })
  const lists = new Counter({
    name: 'signet_operator_informer_lists',
    help: 'Collections read as a whole, which is needed at the start and after a watch that could not go on',
    labelNames: ['resource'] as const,
    registers,
  })
  const listFailures = new Counter({
    name: 'signet_operator_informer_failures',
    help: 'Lists and watches that failed or broke, and were tried again',
    labelNames: ['resource'] as const,
    registers,
  })
  const handlerFailures = new Counter({
    name: 'signet_operator_informer_handler_failures',
    help: 'Changes whose handler threw: a defect',
    labelNames: ['resource'] as const,
    registers,
  })
  const byScope = new Map<string, Readonly<Record<RuleState, number>>>()
  for (const state of RULE_STATES) rules.set({ state }, 0)

  return {
    leader: new Gauge({ name: 'signet_operator_leader', help: '1 while this replica leads', registers }),
    compileSeconds: new Histogram({
      name: 'signet_operator_compile_seconds',
      help: 'Compiling all rules of one scope',
      labelNames: ['scope', 'result'] as const,
      buckets: SECONDS,
      registers,
    }),
    statusWrites: new Counter({
      name: 'signet_operator_status_writes',
      help: 'Statuses written to objects, or not, by result',
      labelNames: ['result'] as const,
      registers,
    }),
    eventsDropped: new Counter({
      name: 'signet_operator_events_dropped',
      help: 'Kubernetes events that could not be written',
      registers,
    }),
    certificateExpiry: new Gauge({
      name: 'signet_operator_certificate_expiry_timestamp_seconds',
      help: 'When the certificate that this replica serves with expires',
      registers,
    }),
    queue(name: string): QueueObserver {
      return {
        depth: (keys) => depth.set({ queue: name }, keys),
        reconciled(result, durationMs) {
          runs.inc({ queue: name, result })
          seconds.observe({ queue: name }, durationMs / 1000)
        },
      }
    },
    informer(resource: string, log: { failed(error: unknown): void; threw(error: unknown): void }): InformerObserver {
      return {
        listed: () => lists.inc({ resource }),
        failed(error) {
          listFailures.inc({ resource })
          log.failed(error)
        },
        handlerFailed(_key, error) {
          handlerFailures.inc({ resource })
          log.threw(error)
        },
      }
    },
    /** Of one scope; the gauge is the sum over scopes. */
    ruleStates(scope: string, counts: Readonly<Record<RuleState, number>>): void {
      if (Object.values(counts).some((count) => count > 0)) byScope.set(scope, counts)
      else byScope.delete(scope)
      for (const state of RULE_STATES) {
        let sum = 0
        for (const each of byScope.values()) sum += each[state]
        rules.set({ state }, sum)
      }
    },
    /** Another replica leads, and counts. */
    forgetRules(): void {
      byScope.clear()
      for (const state of RULE_STATES) rules.set({ state }, 0)
    },
  }
}
