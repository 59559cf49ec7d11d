import { describe, expect, it } from 'vitest'
import { createHeldPolls, matchesEtag, preferredWaitSeconds } from './held-polls.ts'

describe('preferredWaitSeconds', () => {
  it.each([
    [undefined, 0],
    ['', 0],
    ['modes=snapshot,delta', 0],
    ['modes=snapshot,delta;wait=30', 30],
    ['modes=snapshot,delta; wait=30', 30],
    ['wait=5, respond-async', 5],
    ['Wait="7"', 7],
    ['wait=-1', 0],
    ['wait=1e3', 0],
    ['wait=99999999', 0],
    ['await=5', 0],
    [`${'a,'.repeat(5_000)}wait=5`, 0],
    [['modes=snapshot', 'wait=3'], 3],
  ])('%j is %d', (header, want) => {
    expect(preferredWaitSeconds(header)).toBe(want)
  })
})

describe('matchesEtag', () => {
  it.each([
    [undefined, false],
    ['', false],
    ['"a"', true],
    ['W/"a"', true],
    ['"b", "a"', true],
    ['*', true],
    ['"b"', false],
    ['a', false],
  ])('%j: %s', (header, want) => {
    expect(matchesEtag(header, '"a"')).toBe(want)
  })
})

describe('held polls', () => {
  function setup(limits: { maxPolls?: number; maxPollsPerCaller?: number } = {}) {
    let etag: string | null = '"1"'
    const callbacks = new Set<() => void>()
    const source = {
      get: () => (etag === null ? undefined : { etag }),
      onNext: (_key: string, _etag: string | null, callback: () => void) => {
        callbacks.add(callback)
        return () => callbacks.delete(callback)
      },
    }
    const polls = createHeldPolls({ source, maxPolls: 3, maxPollsPerCaller: 2, ...limits })
    const hold = (caller: string, changes: { waitMs?: number; signal?: AbortSignal; etag?: string } = {}) =>
      polls.hold({
        key: 'shop',
        etag: '"1"',
        caller,
        waitMs: 60_000,
        signal: new AbortController().signal,
        ...changes,
      })
    return {
      polls,
      hold,
      callbacks,
      change: (to: string) => ((etag = to), [...callbacks].forEach((callback) => callback())),
    }
  }

  it('end with news, with time, with the client, and with the process, and leave nothing behind', async () => {
    const { polls, hold, callbacks, change } = setup({ maxPolls: 10 })
    const gone = new AbortController()
    const held = [hold('a'), hold('b', { waitMs: 5 }), hold('c', { signal: gone.signal })]
    await held[1]
    gone.abort()
    await held[2]
    expect(polls.size).toBe(1)
    change('"2"')
    await held[0]
    await hold('d', { etag: '"1"' })
    const last = hold('e', { etag: '"2"' })
    polls.end()
    await last
    await hold('f', { etag: '"2"' })
    expect([polls.size, callbacks.size]).toEqual([0, 0])
  })

  it('of one caller displace each other, and are refused past the limit of all', async () => {
    const { polls, hold } = setup()
    const first = hold('a')
    void hold('a')
    void hold('a')
    await first
    expect(polls.size).toBe(2)
    void hold('b')
    await expect(hold('c')).rejects.toMatchObject({ code: 'OVERLOADED' })
    polls.end()
  })
})
