import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

export function createWallLogMetrics(registry: MetricsRegistry) {
  return {
    recorded: new Counter({
      name: 'signet_ledger_wall_attempts',
      help: "Attempts on the audit wall found in its server's log, by kind.",
      labelNames: ['kind'] as const,
      registers: [registry],
    }),
    behind: new Gauge({
      name: 'signet_ledger_wall_log_behind_bytes',
      help: "Bytes of the wall's server log that are still to be read; only in the process that follows it.",
      registers: [registry],
    }),
  }
}
