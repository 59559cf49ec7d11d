import { describe, expect, it } from 'vitest'
import { manualClock, settle } from '#operator/clock.fixture.ts'
import { apiError, memoryApi, unreachable } from './memory-api.fixture.ts'
import { createStatusWriter, type StatusTarget } from './status-writer.ts'

type Status = { readonly says: string; readonly count?: number; readonly errors?: readonly string[] }
const RULES = '/apis/signet.dev/v1alpha1/compliancerules'
const target = (name: string, uid?: string): StatusTarget => ({
  key: `team/${name}`,
  path: `/apis/signet.dev/v1alpha1/namespaces/team/compliancerules/${name}`,
  uid,
})

function bench(options: { perSecond?: number } = {}) {
  const [api, clock] = [memoryApi(), manualClock()]
  const results: string[] = []
  let leads = true
  const writer = createStatusWriter<Status>({
    client: api,
    clock,
    random: () => 0,
    fingerprint: ({ says, errors }) => JSON.stringify([says, errors]),
    optionalMembers: ['errors', 'count'],
    mayWrite: () => leads,
    onWritten: (result) => results.push(result),
    ...options,
  })
  writer.start()
  const statusOf = (name: string): unknown => api.get(RULES, `team/${name}`)?.['status']
  const writes = (): number => api.calls.filter((call) => call.startsWith('PATCH')).length
  for (const name of ['a', 'b']) api.put(RULES, { metadata: { name, namespace: 'team' } })
  return { api, clock, writer, results, statusOf, writes, resign: () => (leads = false) }
}

describe('a status', () => {
  it('is written where it says something else, and not where it does not', async () => {
    const { writer, clock, statusOf, writes } = bench()
    writer.set(target('a'), { says: 'one' }, undefined)
    await settle()
    expect(statusOf('a')).toEqual({ says: 'one' })
    for (let times = 0; times < 10; times++) writer.set(target('a'), { says: 'one', count: times }, { says: 'one' })
    await clock.advance(60_000)
    expect(writes()).toBe(1)
  })

  it('is not written where the object says so already', async () => {
    const { writer, clock, writes } = bench()
    writer.set(target('a'), { says: 'one' }, { says: 'one' })
    await clock.advance(60_000)
    expect(writes()).toBe(0)
  })

  it('is written at most once in 10 s for one object: the last wins', async () => {
    const { writer, clock, statusOf, writes } = bench()
    for (let second = 0; second < 60; second++) {
      writer.set(target('a'), { says: `at ${second}` }, undefined)
      await clock.advance(1_000)
    }
    // At 0, 10, … 60 s.
    expect(writes()).toBe(7)
    await clock.advance(30_000)
    expect(statusOf('a')).toEqual({ says: 'at 59' })
    expect(writes()).toBe(7)
  })

  it('that changes and changes back is not written', async () => {
    const { writer, clock, writes } = bench()
    writer.set(target('a'), { says: 'one' }, undefined)
    await settle()
    writer.set(target('a'), { says: 'two' }, { says: 'one' })
    await clock.advance(5_000)
    writer.set(target('a'), { says: 'one' }, { says: 'one' })
    await clock.advance(60_000)
    expect({ writes: writes(), pending: writer.pending }).toEqual({ writes: 1, pending: 0 })
  })

  it('loses the members that it lacks', async () => {
    const { writer, clock, statusOf } = bench()
    writer.set(target('a'), { says: 'one', errors: ['bad'], count: 1 }, undefined)
    await settle()
    writer.set(target('a'), { says: 'two' }, undefined)
    await clock.advance(10_000)
    expect(statusOf('a')).toEqual({ says: 'two' })
  })

  it('trusts its own last write before the cache, for 30 s; then the cache counts', async () => {
    const { writer, clock, writes } = bench()
    writer.set(target('a'), { says: 'one' }, undefined)
    await clock.advance(29_000)
    writer.set(target('a'), { says: 'one' }, { says: 'forged' })
    await clock.advance(500)
    expect(writes()).toBe(1)
    await clock.advance(1_000)
    writer.set(target('a'), { says: 'one' }, { says: 'forged' })
    await clock.advance(500)
    expect(writes()).toBe(2)
  })

  it('is tried again while the API server is away, and not for others’ objects meanwhile held up', async () => {
    const { api, writer, clock, statusOf, results } = bench()
    api.before = ({ path }) => {
      if (path.includes('/a/')) throw unreachable()
    }
    writer.set(target('a'), { says: 'one' }, undefined)
    writer.set(target('b'), { says: 'one' }, undefined)
    await clock.advance(5_000)
    expect(statusOf('b')).toEqual({ says: 'one' })
    api.before = () => {}
    await clock.advance(60_000)
    expect(statusOf('a')).toEqual({ says: 'one' })
    expect(results.filter((result) => result === 'failed').length).toBeGreaterThan(2)
  })

  const gone = [
    { name: 'an object that is gone', status: 404, wantResult: 'gone' },
    { name: 'another object of that name', status: 409, wantResult: 'gone' },
    { name: 'a status that the schema refuses', status: 422, wantResult: 'refused' },
  ]
  it.each(gone)('of $name is given up', async ({ status, wantResult }) => {
    const { api, writer, clock, results, writes } = bench()
    api.before = () => {
      throw apiError(status)
    }
    writer.set(target('a'), { says: 'one' }, undefined)
    await clock.advance(120_000)
    expect({ results, pending: writer.pending, writes: writes() }).toEqual({
      results: [wantResult],
      pending: 0,
      writes: 1,
    })
  })

  it('is not written on an object that took the place of the one it is about', async () => {
    const { writer, clock, statusOf, results } = bench()
    writer.set(target('a', 'the-former-uid'), { says: 'one' }, undefined)
    await clock.advance(1_000)
    expect({ status: statusOf('a'), results }).toEqual({ status: undefined, results: ['gone'] })
  })

  it('is not written by one that leads no more', async () => {
    const { writer, clock, resign, writes } = bench()
    resign()
    writer.set(target('a'), { says: 'one' }, undefined)
    await clock.advance(60_000)
    expect({ writes: writes(), pending: writer.pending }).toEqual({ writes: 0, pending: 0 })
  })

  it('is one of at most so many a second', async () => {
    const { api, writer, clock, writes } = bench({ perSecond: 10 })
    for (let index = 0; index < 200; index++) {
      api.put(RULES, { metadata: { name: `r${index}`, namespace: 'team' } })
      writer.set(target(`r${index}`), { says: 'one' }, undefined)
    }
    await clock.advance(2_000)
    expect(writes()).toBeLessThanOrEqual(42)
    await clock.advance(20_000)
    expect(writes()).toBe(200)
  })
})
