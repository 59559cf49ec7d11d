import { afterEach, describe, expect, it } from 'vitest'
import { manualClock, settle, type ManualClock } from '#operator/clock.fixture.ts'
import { createInformer, type Informer, type InformerOptions } from './informer.ts'
import { apiError, memoryApi, unreachable, type MemoryApi } from './memory-api.fixture.ts'
import type { KubernetesObject } from './object.ts'

const RULES = '/apis/signet.dev/v1alpha1/compliancerules'
type Thing = KubernetesObject & { readonly spec?: { readonly text: string } }

type Bench = {
  readonly api: MemoryApi
  readonly clock: ManualClock
  readonly informer: Informer<Thing>
  /** `+key`, `~key`, `-key`. */
  readonly changes: string[]
  readonly failures: number[]
  readonly handlerFailures: string[]
}

const stopping: AbortController[] = []
afterEach(() => {
  for (const controller of stopping.splice(0)) controller.abort()
})

function bench(api = memoryApi(), options: Partial<InformerOptions<Thing>> = {}): Bench {
  const clock = manualClock()
  const changes: string[] = []
  const failures: number[] = []
  const handlerFailures: string[] = []
  const informer = createInformer<Thing>({
    name: 'compliancerules',
    client: api,
    path: RULES,
    keep: (object) => object,
    onChange: ({ key, before, after }) => {
      changes.push(`${before === undefined ? '+' : after === undefined ? '-' : '~'}${key}`)
    },
    clock,
    random: () => 0.5,
    observer: {
      listed: () => {},
      failed: (_, waitMs) => failures.push(waitMs),
      handlerFailed: (key) => handlerFailures.push(key),
    },
    ...options,
  })
  const controller = new AbortController()
  stopping.push(controller)
  void informer.run(controller.signal)
  return { api, clock, informer, changes, failures, handlerFailures }
}

function put(api: MemoryApi, name: string, text = name): void {
  api.put(RULES, { metadata: { name, namespace: 'team' }, spec: { text } })
}

function lists(api: MemoryApi): number {
  return api.calls.filter((call) => call === `GET ${RULES}`).length
}

describe('an informer keeps a copy', () => {
  it('of what was there and of what changes', async () => {
    const api = memoryApi()
    put(api, 'a')
    put(api, 'b')
    const { informer, changes } = bench(api)
    expect(informer.synced).toBe(false)
    await settle()
    expect(informer.synced).toBe(true)
    put(api, 'b', 'other')
    put(api, 'c')
    api.remove(RULES, 'team/a')
    await settle()
    expect(changes).toEqual(['+team/a', '+team/b', '~team/b', '+team/c', '-team/a'])
    expect([...informer.values()].map(({ metadata }) => metadata.name).sort()).toEqual(['b', 'c'])
    expect(informer.get('team/b')?.spec?.text).toBe('other')
  })

  it('in pages', async () => {
    const api = memoryApi()
    for (let count = 0; count < 1_234; count++) put(api, `rule-${count}`)
    const { informer } = bench(api)
    await settle()
    expect(informer.size).toBe(1_234)
    expect(lists(api)).toBe(3)
  })

  it('of what is of interest only', async () => {
    const api = memoryApi()
    put(api, 'yes')
    put(api, 'no')
    const { informer, changes } = bench(api, { keep: (object) => (object.metadata.name === 'no' ? null : object) })
    await settle()
    put(api, 'no', 'still not')
    await settle()
    expect({ size: informer.size, changes }).toEqual({ size: 1, changes: ['+team/yes'] })
  })

  it('and tells of everything again every so often', async () => {
    const api = memoryApi()
    put(api, 'a')
    const { clock, changes } = bench(api, { resyncMs: 60_000 })
    await clock.advance(60_000)
    await clock.advance(60_000)
    expect(changes).toEqual(['+team/a', '~team/a', '~team/a'])
  })
})

describe('an informer survives', () => {
  it('a watch that ends in the ordinary way: it goes on from where it was', async () => {
    const { api, clock, informer, changes } = bench()
    await clock.advance(10_000)
    api.endWatches()
    await clock.advance(100)
    put(api, 'a')
    await clock.advance(11_000)
    expect(changes).toEqual(['+team/a'])
    expect(informer.size).toBe(1)
    expect(lists(api)).toBe(1)
  })

  it('a connection that breaks: nothing in between is lost, nothing is told twice, and nothing is listed again', async () => {
    const { api, clock, changes } = bench()
    put(api, 'a')
    await settle()
    api.endWatches(new Error('ECONNRESET'))
    put(api, 'b')
    await clock.advance(15_000)
    expect(changes).toEqual(['+team/a', '+team/b'])
    expect(lists(api)).toBe(1)
  })

  it('an expired version (410): it lists again, and finds what went and what came', async () => {
    const { api, clock, changes } = bench()
    put(api, 'a')
    put(api, 'b')
    await settle()
    api.endWatches(new Error('ECONNRESET'))
    await settle()
    api.remove(RULES, 'team/a')
    put(api, 'c')
    api.compact()
    await clock.advance(15_000)
    expect(changes).toEqual(['+team/a', '+team/b', '+team/c', '-team/a'])
    expect(lists(api)).toBe(2)
  })

  it('long silence: bookmarks move it on, so that the version it goes on from does not expire', async () => {
    const { api, clock } = bench()
    put(api, 'a')
    await settle()
    api.compact()
    api.send({ type: 'BOOKMARK', object: { metadata: { resourceVersion: '999' } } })
    await settle()
    api.endWatches(new Error('ECONNRESET'))
    await clock.advance(15_000)
    expect(lists(api)).toBe(1)
    expect(api.watches).toBe(1)
  })

  it('an error event in the stream', async () => {
    const { api, clock, changes } = bench()
    put(api, 'a')
    await settle()
    api.send({ type: 'ERROR', object: { kind: 'Status', code: 410, message: 'too old resource version' } })
    await clock.advance(5_000)
    put(api, 'b')
    await settle()
    expect(changes).toEqual(['+team/a', '+team/b'])
    expect(lists(api)).toBe(2)
  })

  it('an API server that is away for a while, with bounded waits', async () => {
    const { api, clock, changes, failures } = bench()
    put(api, 'a')
    await settle()
    api.before = () => {
      throw unreachable()
    }
    api.endWatches(new Error('ECONNRESET'))
    await clock.advance(120_000)
    expect(failures.length).toBeGreaterThan(10)
    expect(Math.max(...failures)).toBeLessThanOrEqual(10_000)
    expect(failures[0]).toBeLessThanOrEqual(200)
    api.before = () => {}
    put(api, 'b')
    await clock.advance(10_000)
    expect(changes).toEqual(['+team/a', '+team/b'])
  })

  it('refusals while roles are being changed, before the first list and after it', async () => {
    const api = memoryApi()
    put(api, 'a')
    let status = 403
    api.before = () => {
      if (status !== 0) throw apiError(status)
    }
    const { clock, informer, changes } = bench(api)
    await clock.advance(30_000)
    expect(informer.synced).toBe(false)
    status = 0
    await clock.advance(10_000)
    expect(informer.synced).toBe(true)
    status = 401
    api.endWatches()
    await clock.advance(30_000)
    put(api, 'b')
    status = 0
    await clock.advance(10_000)
    expect(changes).toEqual(['+team/a', '+team/b'])
  })

  it('garbage in the stream', async () => {
    const { api, clock, changes } = bench()
    await settle()
    for (const garbage of [null, 'text', 7, {}, { type: 'ADDED' }, { type: 'MODIFIED', object: null }]) {
      api.send(garbage)
      await clock.advance(15_000)
    }
    put(api, 'a')
    await clock.advance(15_000)
    expect(changes).toEqual(['+team/a'])
  })

  it('a handler that throws', async () => {
    const seen: string[] = []
    const { api, informer, handlerFailures } = bench(memoryApi(), {
      onChange: ({ key }) => {
        seen.push(key)
        throw new Error('a defect')
      },
    })
    await settle()
    put(api, 'a')
    put(api, 'b')
    await settle()
    expect({ seen, handlerFailures, size: informer.size }).toEqual({
      seen: ['team/a', 'team/b'],
      handlerFailures: ['team/a', 'team/b'],
      size: 2,
    })
  })

  it('a server that ends every watch at once, without asking it all the time', async () => {
    const { api, clock } = bench()
    await settle()
    for (let second = 0; second < 60; second++) {
      api.endWatches()
      await clock.advance(1_000)
    }
    expect(api.calls.filter((call) => call.startsWith('WATCH')).length).toBeLessThan(25)
  })

  it('and waits as long as the server asks for', async () => {
    const api = memoryApi()
    api.before = () => {
      throw Object.assign(apiError(429), { details: { status: 429, retry_after_ms: 5_000 } })
    }
    const { clock, failures } = bench(api)
    await clock.advance(1_000)
    expect(failures).toEqual([5_000])
  })
})

it('ends when told to, and then says nothing more', async () => {
  const api = memoryApi()
  const clock = manualClock()
  const controller = new AbortController()
  const changes: string[] = []
  const informer = createInformer<Thing>({
    name: 'compliancerules',
    client: api,
    path: RULES,
    keep: (object) => object,
    onChange: ({ key }) => changes.push(key),
    clock,
    random: () => 0,
  })
  const running = informer.run(controller.signal)
  await settle()
  controller.abort()
  await running
  put(api, 'late')
  await clock.advance(3_600_000)
  expect({ changes, watches: api.watches, timers: clock.pendingTimers }).toEqual({ changes: [], watches: 0, timers: 0 })
})
