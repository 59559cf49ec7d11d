import { collectDefaultMetrics, Registry, type OpenMetricsContentType } from 'prom-client'

export type MetricsRegistry = Registry<OpenMetricsContentType>

/**
 * A registry that `/metrics` serves in OpenMetrics text format (`registry.contentType`, `await registry.metrics()`). Give it to
 * every metric (`registers: [registry]`); counters are named without `_total`, their samples end in it.
 * `processMetrics: false` leaves out CPU, memory, event loop and GC.
 */
export function createMetricsRegistry(options: { processMetrics?: boolean } = {}): MetricsRegistry {
  // Its type does not declare the constructor's argument; setContentType does the same and is declared.
  const registry = new Registry<OpenMetricsContentType>()
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  if (options.processMetrics !== false) collectDefaultMetrics({ register: registry })
  return registry
}

/**
 * Bounds a label's values: the first `maxValues` distinct ones are kept for the life of the process, any later one becomes
 * `other`. What clients or upstreams choose must never decide how many time series there are.
 */
export function boundedLabel(maxValues: number): (value: string) => string {
  const seen = new Set<string>()
  return (value) => {
    if (seen.has(value)) return value
    if (seen.size >= maxValues || value.length > 128) return 'other'
    seen.add(value)
    return value
  }
}
