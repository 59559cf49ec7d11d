import { Counter } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

export type ExportMetrics = ReturnType<typeof createExportMetrics>

export function createExportMetrics(registry: MetricsRegistry) {
  const registers = [registry]
  return {
    ended: new Counter({
      name: 'signet_ledger_exports',
      help: 'Exports that ended, by state.',
      labelNames: ['state'] as const,
      registers,
    }),
    records: new Counter({
      name: 'signet_ledger_exported_records',
      help: 'Records in exports that were made.',
      registers,
    }),
    letters: new Counter({
      name: 'signet_ledger_export_letters',
      help: 'Letters that an export is finished, by result.',
      labelNames: ['result'] as const,
      registers,
    }),
  }
}
