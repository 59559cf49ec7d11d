import { describe, expect, it } from 'vitest'
import { createUuidV7, newSpanId, newTraceId, uuidV7 } from './identifier.ts'

const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/

describe('trace and span ids', () => {
  it('are lowercase hex, distinct, also across refills of the pool', () => {
    const traceIds = Array.from({ length: 5_000 }, newTraceId)
    const spanIds = Array.from({ length: 5_000 }, newSpanId)
    expect(traceIds.every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true)
    expect(spanIds.every((id) => /^[0-9a-f]{16}$/.test(id))).toBe(true)
    expect(new Set(traceIds).size).toBe(5_000)
    expect(new Set(spanIds).size).toBe(5_000)
  })
})

describe('uuidV7', () => {
  it('has version, variant and the time in its first 48 bits (RFC 9562, section 5.7)', () => {
    const id = createUuidV7(() => 0x017f22e279b0)()
    expect(id).toMatch(UUID_V7)
    expect(id.slice(0, 13)).toBe('017f22e2-79b0')
  })

  it('sorts in the order of making, within one millisecond and past 4,096 of them', () => {
    const next = createUuidV7(() => 1_000)
    const ids = Array.from({ length: 20_000 }, next)
    expect(ids.every((id) => UUID_V7.test(id))).toBe(true)
    expect([...ids].sort()).toEqual(ids)
    expect(new Set(ids).size).toBe(ids.length)
  })

  it('keeps its order when the clock steps back', () => {
    const times = [5_000, 4_000, 4_001, 5_001]
    const next = createUuidV7(() => times.shift() ?? 0)
    const ids = [next(), next(), next(), next()]
    expect([...ids].sort()).toEqual(ids)
  })

  it('differs between generators at the same time', () => {
    expect(createUuidV7(() => 1)()).not.toBe(createUuidV7(() => 1)())
    expect(uuidV7()).toMatch(UUID_V7)
  })
})
