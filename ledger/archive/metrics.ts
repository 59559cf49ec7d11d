import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

/** @see docs/reference/metrics.md */
export function createArchiveMetrics(registry: MetricsRegistry) {
  return {
    lastSnapshot: new Gauge({
      name: 'signet_ledger_archive_last_snapshot_seconds',
      help: 'Time of the last archive snapshot that was verified, since 1970; 0 where there is none.',
      registers: [registry],
    }),
    checkpointSize: new Gauge({
      name: 'signet_ledger_archive_checkpoint_size',
      help: 'Leaves of the last checkpoint that this process put into the archive.',
      registers: [registry],
    }),
    lockEnds: new Gauge({
      name: 'signet_ledger_archive_lock_ends_seconds',
      help: 'When the first lock ends of what the archive has to keep, since 1970, as this process last looked.',
      registers: [registry],
    }),
    failures: new Counter({
      name: 'signet_ledger_archive_failures',
      help: 'Snapshots and checkpoints that were not archived, and locks not made longer, by code.',
      labelNames: ['what', 'code'] as const,
      registers: [registry],
    }),
  }
}
export type ArchiveMetrics = ReturnType<typeof createArchiveMetrics>
