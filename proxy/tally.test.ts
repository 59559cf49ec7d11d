import { Registry } from 'prom-client'
import { expect, it } from 'vitest'
import { TalliedCounter, TalliedHistogram } from './tally.ts'

it('shows what was counted when the metrics are read, together with what was counted by labels', async () => {
  const registry = new Registry()
  const counter = new TalliedCounter({ name: 'c', help: 'h', labelNames: ['a'], registers: [registry] })
  const one = counter.series({ a: '1' })
  for (let n = 0; n < 3; n += 1) one.inc()
  counter.inc({ a: '1' }, 10)
  expect(await registry.metrics()).toContain('c{a="1"} 13')
  one.inc()
  expect(await registry.metrics()).toContain('c{a="1"} 14')
})

it('puts every observation into its bucket, however many there are', async () => {
  const registry = new Registry()
  const histogram = new TalliedHistogram({ name: 'h', help: 'h', buckets: [1, 2], registers: [registry] })
  for (let n = 0; n < 3_000; n += 1) histogram.note(n % 3)
  const text = await registry.metrics()
  expect(text).toContain('h_bucket{le="1"} 2000')
  expect(text).toContain('h_bucket{le="2"} 3000')
  expect(text).toContain('h_count 3000')
  expect(text).toContain('h_sum 3000')
})
