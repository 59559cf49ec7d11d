import { afterEach, describe, expect, it } from 'vitest'
import { manualClock, settle, type ManualClock } from '#operator/clock.fixture.ts'
import { createElection, type Election, type Lease, type Term } from './leader.ts'
import { apiError, memoryApi, unreachable, type MemoryApi } from './memory-api.fixture.ts'

const LEASES = '/apis/coordination.k8s.io/v1/leases'

type Candidate = {
  readonly election: Election
  readonly terms: Term[]
  readonly events: string[]
  readonly errors: unknown[]
  stop(): Promise<void>
  /** Ends the leader's own work. */
  endWork(): void
}

const stopping: (() => void)[] = []
afterEach(() => {
  for (const stop of stopping.splice(0)) stop()
})

function candidate(api: MemoryApi, clock: ManualClock, identity: string): Candidate {
  const controller = new AbortController()
  const terms: Term[] = []
  const events: string[] = []
  const errors: unknown[] = []
  let endWork = (): void => {}
  const election = createElection({
    client: api,
    namespace: 'signet-system',
    name: 'signet-operator',
    identity,
    clock,
    random: () => 0,
    lead: (term) => {
      terms.push(term)
      return new Promise((resolve) => {
        endWork = resolve
        term.signal.addEventListener('abort', () => resolve(), { once: true })
      })
    },
    onTransition: (event) => events.push(event),
    onError: (error) => errors.push(error),
  })
  const running = election.run(controller.signal)
  stopping.push(() => controller.abort())
  return {
    election,
    terms,
    events,
    errors,
    async stop() {
      controller.abort()
      await running
    },
    endWork: () => endWork(),
  }
}

function lease(api: MemoryApi): Lease {
  return api.get(LEASES, 'signet-system/signet-operator') as unknown as Lease
}

/** Seconds from 2020 to when the manual clock begins. */
const FIRST_TERM = (Date.parse('2026-11-23T09:30:00Z') - Date.parse('2020-01-01T00:00:00Z')) / 1000

describe('leader election', () => {
  it('the first candidate makes the lease and leads; the other waits as long as it is renewed', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await settle()
    const b = candidate(api, clock, 'b')
    await clock.advance(120_000)
    expect([a.election.leading, b.election.leading]).toEqual([true, false])
    expect(lease(api).spec?.holderIdentity).toBe('a')
    expect(lease(api).spec?.leaseTransitions).toBe(FIRST_TERM)
    expect(a.terms).toHaveLength(1)
  })

  it('writes times as metav1.MicroTime', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    candidate(api, clock, 'a')
    await clock.advance(5_000)
    expect(lease(api).spec?.renewTime).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
    expect(lease(api).spec?.acquireTime).toBe('2026-11-23T09:30:00.000000Z')
  })

  it('a leader that stops gives the lease back, and another leads within a retry', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await settle()
    const b = candidate(api, clock, 'b')
    await clock.advance(10_000)
    const stopped = a.stop()
    await clock.advance(0)
    await stopped
    expect(lease(api).spec?.holderIdentity).toBe('')
    expect(a.events).toEqual(['acquired', 'released'])
    await clock.advance(2_500)
    expect(b.election.leading).toBe(true)
    expect(b.terms[0]?.number).toBe(FIRST_TERM + 1)
  })

  it('a leader that died is followed after the lease has not changed for its duration, by the own clock', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    // Dated far in the future by a wrong clock: what counts is that it does not change.
    api.put(LEASES, {
      metadata: { name: 'signet-operator', namespace: 'signet-system' },
      spec: {
        holderIdentity: 'dead',
        leaseDurationSeconds: 15,
        renewTime: '2099-01-01T00:00:00.000000Z',
        leaseTransitions: 7,
      },
    })
    const b = candidate(api, clock, 'b')
    await clock.advance(14_900)
    expect(b.election.leading).toBe(false)
    await clock.advance(3_000)
    expect(b.election.leading).toBe(true)
    expect(lease(api).spec?.leaseTransitions).toBe(8)
  })

  it('a lease that was deleted leads to later terms than any before: what bundles remember must not lock us out', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await clock.advance(60_000)
    api.remove(LEASES, 'signet-system/signet-operator')
    await clock.advance(30_000)
    expect(a.terms.length).toBeGreaterThan(1)
    for (const [index, term] of a.terms.slice(1).entries()) expect(term.number).toBeGreaterThan(a.terms[index]!.number)
  })

  it('one that somebody wrote for years is left alone for five minutes', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    api.put(LEASES, {
      metadata: { name: 'signet-operator', namespace: 'signet-system' },
      spec: { holderIdentity: 'thief', leaseDurationSeconds: 2_147_483_647 },
    })
    const b = candidate(api, clock, 'b')
    await clock.advance(299_000)
    expect(b.election.leading).toBe(false)
    await clock.advance(5_000)
    expect(b.election.leading).toBe(true)
  })

  it('keeps to the duration that the holder wrote, where that is longer', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    api.put(LEASES, {
      metadata: { name: 'signet-operator', namespace: 'signet-system' },
      spec: { holderIdentity: 'other', leaseDurationSeconds: 60 },
    })
    const b = candidate(api, clock, 'b')
    await clock.advance(55_000)
    expect(b.election.leading).toBe(false)
  })

  it('a leader that cannot renew steps down before anyone else may take over', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await clock.advance(4_100)
    const [term] = a.terms
    api.before = () => {
      throw unreachable()
    }
    await clock.advance(9_000)
    expect(term?.holds()).toBe(true)
    await clock.advance(1_100)
    expect({ holds: term?.holds(), aborted: term?.signal.aborted }).toEqual({ holds: false, aborted: true })
    expect(a.events).toEqual(['acquired', 'lost'])
    // Back again: it may lead again, in a new term.
    api.before = () => {}
    await clock.advance(5_000)
    expect(a.terms).toHaveLength(2)
  })

  it('a process that was stalled past its deadline knows that it does not lead before it acts', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await clock.advance(4_000)
    clock.stall(60_000)
    // No timer has fired yet, nothing was awaited.
    expect(a.terms[0]?.holds()).toBe(false)
  })

  it('a leader whose lease was taken by force steps down at its next renewal', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await clock.advance(3_000)
    api.put(LEASES, { ...lease(api), spec: { ...lease(api).spec, holderIdentity: 'thief' } })
    await clock.advance(2_100)
    expect(a.terms[0]?.signal.aborted).toBe(true)
    expect(a.election.leading).toBe(false)
    expect(lease(api).spec?.holderIdentity).toBe('thief')
  })

  it('takes a lease that is refused by conflict for what it is: the other was faster', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    api.before = ({ method }) => {
      if (method === 'POST' || method === 'PUT') throw apiError(409)
    }
    const a = candidate(api, clock, 'a')
    await clock.advance(30_000)
    expect(a.election.leading).toBe(false)
    expect(a.errors).toEqual([])
  })

  it('leadership is given back and sought again when the work ends by itself', async () => {
    const [api, clock] = [memoryApi(), manualClock()]
    const a = candidate(api, clock, 'a')
    await clock.advance(1_000)
    a.endWork()
    await clock.advance(3_000)
    expect(a.events).toEqual(['acquired', 'released', 'acquired'])
  })

  it('two candidates never lead at the same time, whatever fails', async () => {
    for (let seed = 1; seed <= 40; seed++) {
      const random = lcg(seed)
      const [api, clock] = [memoryApi(), manualClock()]
      const everyone = ['a', 'b', 'c'].map((identity) => candidate(api, clock, identity))
      api.before = ({ method }) => {
        if (random() < 0.3) throw unreachable()
        if (method === 'PUT' && random() < 0.2) throw apiError(409)
      }
      for (let step = 0; step < 60; step++) {
        await clock.advance(Math.floor(random() * 4_000))
        const leaders = everyone.flatMap(({ terms }) => terms.filter((term) => term.holds()))
        expect(leaders.length, `seed ${seed}, step ${step}`).toBeLessThanOrEqual(1)
      }
      expect(everyone.some(({ terms }) => terms.length > 0)).toBe(true)
      for (const each of everyone) void each.stop()
      await clock.advance(30_000)
    }
  })

  it('the answer to a write that was lost does not make two leaders', async () => {
    // The update is stored, the answer never comes: the candidate must not believe that it failed for good, nor lead on its own.
    const [api, clock] = [memoryApi(), manualClock()]
    let lose = true
    const lossy: MemoryApi = Object.assign(Object.create(api) as MemoryApi, {
      request: async <T>(request: Parameters<MemoryApi['request']>[0]): Promise<T> => {
        const answer = await api.request<T>(request)
        if (request.method === 'POST' && lose) {
          lose = false
          throw unreachable()
        }
        return answer
      },
    })
    const a = candidate(lossy, clock, 'a')
    await settle()
    expect(a.election.leading).toBe(false)
    expect(lease(api).spec?.holderIdentity).toBe('a')
    await clock.advance(3_000)
    expect(a.election.leading).toBe(true)
  })
})

it('refuses a deadline that is not within the lease', () => {
  const options = {
    client: memoryApi(),
    namespace: 'n',
    name: 'l',
    identity: 'a',
    clock: manualClock(),
    random: () => 0,
  }
  expect(() => createElection({ ...options, leaseMs: 10_000, renewDeadlineMs: 10_000, lead: async () => {} })).toThrow(
    RangeError,
  )
})

function lcg(seed: number): () => number {
  let state = seed
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648
    return state / 2_147_483_648
  }
}
