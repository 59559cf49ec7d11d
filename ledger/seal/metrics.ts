import { Counter, Gauge } from 'prom-client'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'

export type ErasureMetrics = { readonly repeated: Counter; readonly unrecorded: Gauge }

export function createErasureMetrics(registry: MetricsRegistry): ErasureMetrics {
  return {
    repeated: new Counter({
      name: 'signet_ledger_erasures_repeated',
      help: 'Keys of erased people that a restore of the work database brought back, and that were destroyed again.',
      registers: [registry],
    }),
    unrecorded: new Gauge({
      name: 'signet_ledger_erasures_unrecorded',
      help: 'Erasures whose receipt could not be put in the chain yet, at the last try.',
      registers: [registry],
    }),
  }
}
