import { Counter } from 'prom-client'
import { expect, it } from 'vitest'
import { boundedLabel, createMetricsRegistry } from './metrics.ts'

it('serves OpenMetrics: family without _total, sample with it, and the end mark', async () => {
  const registry = createMetricsRegistry({ processMetrics: false })
  const counter = new Counter({
    name: 'stamps_issued',
    help: 'Stamps issued.',
    labelNames: ['tenant'],
    registers: [registry],
  })
  counter.inc({ tenant: 'acme' })
  expect(registry.contentType).toBe('application/openmetrics-text; version=1.0.0; charset=utf-8')
  expect(await registry.metrics()).toBe(
    '# HELP stamps_issued Stamps issued.\n# TYPE stamps_issued counter\nstamps_issued_total{tenant="acme"} 1\n# EOF\n',
  )
})

it('has process metrics unless told otherwise', async () => {
  expect(await createMetricsRegistry().metrics()).toContain('process_resident_memory_bytes')
})

it('boundedLabel keeps the first values and folds the rest', () => {
  const label = boundedLabel(2)
  expect(['a', 'b', 'c', 'a', 'd', 'b'].map(label)).toEqual(['a', 'b', 'other', 'a', 'other', 'b'])
  expect(boundedLabel(2)('x'.repeat(1_000))).toBe('other')
})
