import { describe, expect, it } from 'vitest'
import { createPace } from './pace.ts'

describe('createPace', () => {
  it('lets ten through at once, then one in 30 s, and forgives with time', () => {
    let nowMs = 1_000
    const pace = createPace({ monotonicMs: () => nowMs })
    for (let change = 0; change < 10; change++) {
      expect(pace.waitMs('namespace/shop')).toBe(0)
      pace.take('namespace/shop')
    }
    expect(pace.waitMs('namespace/shop')).toBe(30_000)
    expect(pace.waitMs('namespace/other')).toBe(0)
    nowMs += 29_999
    expect(pace.waitMs('namespace/shop')).toBe(1)
    nowMs += 1
    expect(pace.waitMs('namespace/shop')).toBe(0)
    pace.take('namespace/shop')
    expect(pace.waitMs('namespace/shop')).toBe(30_000)
    nowMs += 600_000
    for (let change = 0; change < 10; change++) pace.take('namespace/shop')
    expect(pace.waitMs('namespace/shop')).toBe(30_000)
  })

  it('never holds up the root', () => {
    const pace = createPace({ monotonicMs: () => 0 })
    for (let change = 0; change < 100; change++) pace.take('root')
    expect(pace.waitMs('root')).toBe(0)
  })
})
