import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { MONTH_STATES, OBSTACLES, type Obstacle } from './months.ts'
import type { PurgeOutcome } from './purge.ts'

export type RetentionMetrics = ReturnType<typeof createRetentionMetrics>

/** @see docs/reference/metrics.md */
export function createRetentionMetrics(registry: MetricsRegistry) {
  const months = new Gauge({
    name: 'signet_ledger_retention_months',
    help: 'Months of retention classes by state, as the last round of this process found them.',
    labelNames: ['state'] as const,
    registers: [registry],
  })
  const obstacles = new Gauge({
    name: 'signet_ledger_retention_obstacles',
    help: 'Months of retention classes past their hot period that are not purged, by reason.',
    labelNames: ['reason'] as const,
    registers: [registry],
  })
  const purged = new Counter({
    name: 'signet_ledger_purged_records',
    help: 'Records that this process purged.',
    registers: [registry],
  })
  const waiting = (reason: Obstacle['reason']): boolean => reason !== 'hot' && reason !== 'never'
  return {
    purged,
    classes: new Gauge({
      name: 'signet_ledger_retention_classes',
      help: 'Retention classes that the wall has (32 at most).',
      registers: [registry],
    }),
    uncovered: new Counter({
      name: 'signet_ledger_retention_uncovered',
      help: 'Times that a retention class could not be made, so that records are kept longer than their policies say.',
      registers: [registry],
    }),
    errors: new Counter({
      name: 'signet_ledger_retention_errors',
      help: 'Times that retention could not go on, by code.',
      labelNames: ['code'] as const,
      registers: [registry],
    }),
    /** What a round over all months found. */
    show(outcomes: readonly PurgeOutcome[]): void {
      for (const state of MONTH_STATES)
        months.set({ state }, outcomes.filter((outcome) => outcome.state === state).length)
      for (const reason of OBSTACLES.filter(waiting)) {
        const has = ({ obstacles: found }: PurgeOutcome): boolean => found.some((each) => each.reason === reason)
        obstacles.set({ reason }, outcomes.filter(has).length)
      }
    },
  }
}
