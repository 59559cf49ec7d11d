import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { manualClock, settle, type ManualClock } from '#operator/clock.fixture.ts'
import { createQueue, type Queue, type QueueOptions } from './queue.ts'

type Run = {
  readonly key: string
  readonly atMs: number
  readonly attempt: number
  finish(error?: Error, requeueAfterMs?: number): void
}

type Bench = {
  clock: ManualClock
  queue: Queue
  runs: Run[]
  running: Set<string>
  failures: string[]
  retries: number[]
}

/** A queue whose reconciles end when the test says so. */
function bench(options: Partial<QueueOptions> = {}): Bench {
  const clock = manualClock()
  const runs: Run[] = []
  const running = new Set<string>()
  const failures: string[] = []
  const retries: number[] = []
  const queue = createQueue({
    clock,
    random: () => 0.5,
    concurrency: 2,
    reconcile: (key, { attempt }) => {
      if (running.has(key)) failures.push(`${key} was reconciled twice at the same time`)
      running.add(key)
      let open = true
      return new Promise((resolve, reject) => {
        runs.push({
          key,
          atMs: clock.monotonicMs(),
          attempt,
          finish(error, requeueAfterMs) {
            if (!open) return
            open = false
            running.delete(key)
            if (error !== undefined) reject(error)
            else resolve(requeueAfterMs === undefined ? undefined : { requeueAfterMs })
          },
        })
      })
    },
    onError: (_key, _error, { retryAfterMs }) => retries.push(retryAfterMs),
    ...options,
  })
  queue.start()
  return { clock, queue, runs, running, failures, retries }
}

describe('a queue by key', () => {
  it('has a key once, however often it is added', async () => {
    const { queue, runs, clock } = bench({ concurrency: 1 })
    queue.add('blocker')
    for (let times = 0; times < 100; times++) queue.add('a')
    queue.addAfter('a', 10)
    expect(queue.depth).toBe(2)
    runs[0]?.finish()
    await settle()
    runs[1]?.finish()
    await clock.advance(1_000)
    expect(runs.map(({ key }) => key)).toEqual(['blocker', 'a'])
  })

  it('reconciles a key once more when it was added while it was reconciled', async () => {
    const { queue, runs } = bench()
    queue.add('a')
    queue.add('a')
    queue.add('a')
    await settle()
    expect(runs).toHaveLength(1)
    runs[0]?.finish()
    await settle()
    expect(runs).toHaveLength(2)
    runs[1]?.finish()
    await settle()
    expect(runs).toHaveLength(2)
  })

  it('waits longer after each failure, up to the bound, and forgets failures on success', async () => {
    const { queue, runs, clock, retries } = bench({ backoff: { baseMs: 100, maxMs: 1_000 } })
    queue.add('a')
    for (let failure = 0; failure < 6; failure++) {
      await settle()
      runs.at(-1)?.finish(new Error('no'))
      await clock.advance(1_000)
    }
    // Half of the bound, and half of that again by the random source.
    expect(retries).toEqual([75, 150, 300, 600, 750, 750])
    expect(runs.map(({ attempt }) => attempt)).toEqual([0, 1, 2, 3, 4, 5, 6])
    runs.at(-1)?.finish()
    await settle()
    queue.add('a')
    await settle()
    expect(runs.at(-1)?.attempt).toBe(0)
  })

  it('lets one key fail without holding up another', async () => {
    const { queue, runs, clock } = bench({ concurrency: 1 })
    queue.add('bad')
    queue.add('good')
    runs[0]?.finish(new Error('no'))
    await settle()
    expect(runs.map(({ key }) => key)).toEqual(['bad', 'good'])
    runs[1]?.finish()
    await clock.advance(60_000)
    expect(runs.map(({ key }) => key)).toEqual(['bad', 'good', 'bad'])
  })

  it('takes news that came during a failing reconcile soon, but not at once', async () => {
    const { queue, runs, clock } = bench({ backoff: { baseMs: 60_000, maxMs: 60_000 } })
    queue.add('a')
    queue.add('a')
    await settle()
    runs[0]?.finish(new Error('no'))
    await clock.advance(999)
    expect(runs).toHaveLength(1)
    await clock.advance(1)
    expect(runs).toHaveLength(2)
  })

  it('takes the earliest of several delays, and none where it is asked for now', async () => {
    const { queue, runs, clock } = bench()
    queue.addAfter('a', 500)
    queue.addAfter('a', 100)
    queue.addAfter('a', 300)
    queue.addAfter('b', 500)
    queue.add('b')
    await clock.advance(1_000)
    expect(runs.map(({ key, atMs }) => [key, atMs])).toEqual([
      ['b', 0],
      ['a', 100],
    ])
  })

  it('comes back when the reconcile asks for it', async () => {
    const { queue, runs, clock } = bench()
    queue.add('a')
    await settle()
    runs[0]?.finish(undefined, 5_000)
    await clock.advance(4_999)
    expect(runs).toHaveLength(1)
    await clock.advance(1)
    expect(runs).toHaveLength(2)
  })

  it('starts no more a second than the rate allows', async () => {
    const { queue, runs, clock } = bench({ concurrency: 100, rate: { perSecond: 10, burst: 5 } })
    for (let key = 0; key < 50; key++) queue.add(`key${key}`)
    await settle()
    expect(runs).toHaveLength(5)
    await clock.advance(1_000)
    expect(runs.length).toBeGreaterThanOrEqual(14)
    expect(runs.length).toBeLessThanOrEqual(16)
  })

  it('drains: begins nothing new, waits for what runs', async () => {
    const { queue, runs, clock } = bench({ concurrency: 1 })
    queue.add('a')
    queue.add('b')
    queue.addAfter('c', 10)
    let stopped = false
    const stopping = queue.stop(1_000).then(() => (stopped = true))
    await clock.advance(500)
    expect(stopped).toBe(false)
    runs[0]?.finish()
    await stopping
    queue.add('d')
    await clock.advance(60_000)
    expect(runs.map(({ key }) => key)).toEqual(['a'])
    expect(clock.pendingTimers).toBe(0)
  })

  it('aborts and then leaves what does not end', async () => {
    const aborted: number[] = []
    const { queue, clock } = bench({
      reconcile: (_, { signal }) =>
        new Promise(() => signal.addEventListener('abort', () => aborted.push(clock.monotonicMs()))),
    })
    queue.add('a')
    let stopped = false
    void queue.stop(1_000).then(() => (stopped = true))
    await clock.advance(1_000)
    expect({ aborted, stopped }).toEqual({ aborted: [1_000], stopped: false })
    await clock.advance(1_000)
    expect(stopped).toBe(true)
  })

  it('a reconcile that throws synchronously counts as a failure', async () => {
    const { queue, clock, retries } = bench({
      reconcile: () => {
        throw new Error('at once')
      },
    })
    queue.add('a')
    await clock.advance(50)
    expect(retries).toHaveLength(1)
  })
})

type Step =
  | { readonly do: 'add'; readonly key: string }
  | { readonly do: 'addAfter'; readonly key: string; readonly ms: number }
  | { readonly do: 'finish'; readonly index: number; readonly fail: boolean }
  | { readonly do: 'advance'; readonly ms: number }

const keys = fc.constantFrom('a', 'b', 'c', 'd')
const steps: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('add' as const), key: keys }),
  fc.record({ do: fc.constant('addAfter' as const), key: keys, ms: fc.integer({ min: 0, max: 400 }) }),
  fc.record({ do: fc.constant('finish' as const), index: fc.nat(3), fail: fc.boolean() }),
  fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 0, max: 300 }) }),
)

describe('whatever happens in whatever order', () => {
  it('a key is never reconciled twice at once, never more than the bound run, and what was asked for last is done after it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { maxLength: 40 }), async (script) => {
        const { clock, queue, runs, running, failures } = bench({ backoff: { baseMs: 10, maxMs: 100 } })
        /** When each key was last asked for, in the order of all that happened. */
        const asked = new Map<string, number>()
        for (const step of script) {
          if (step.do === 'add') {
            asked.set(step.key, runs.length)
            queue.add(step.key)
          } else if (step.do === 'addAfter') {
            asked.set(step.key, runs.length)
            queue.addAfter(step.key, step.ms)
          } else if (step.do === 'finish') {
            const open = runs.filter(({ key }) => running.has(key))
            // Of a key's runs only the last is open.
            const last = [...new Map(open.map((run) => [run.key, run])).values()][step.index]
            last?.finish(step.fail ? new Error('no') : undefined)
          } else await clock.advance(step.ms)
          await settle()
          if (running.size > 2) failures.push(`${running.size} run at once`)
        }
        // Now everything may succeed.
        for (let round = 0; round < 30; round++) {
          for (const run of runs) run.finish()
          await clock.advance(500)
        }
        expect(failures).toEqual([])
        expect(queue.depth).toBe(0)
        for (const [key, since] of asked) {
          expect(
            runs.slice(since).some((run) => run.key === key),
            `${key} was forgotten`,
          ).toBe(true)
        }
      }),
      { numRuns: 150 },
    )
  })
})
