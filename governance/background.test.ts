import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { createTenantQueue, keepDoing } from './background.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const options = { everyMs: 1_000, onError: () => {} }

it('is done again after each end, and never twice at once', async () => {
  let [begun, atOnce, most] = [0, 0, 0]
  const keeping = keepDoing(
    async () => {
      begun += 1
      atOnce += 1
      most = Math.max(most, atOnce)
      await new Promise((resolve) => setTimeout(resolve, 5_000))
      atOnce -= 1
    },
    { ...options, firstMs: 0 },
  )
  await vi.advanceTimersByTimeAsync(17_000)
  expect([begun, most]).toEqual([3, 1])
  const stopped = keeping.stop()
  await vi.advanceTimersByTimeAsync(60_000)
  await stopped
  expect(begun).toBe(3)
})
it('goes on after what it throws, which is told', async () => {
  const errors: unknown[] = []
  const keeping = keepDoing(() => Promise.reject(new Error(`${errors.length}`)), {
    ...options,
    onError: (error) => errors.push(error),
  })
  await vi.advanceTimersByTimeAsync(2_500)
  expect(errors).toEqual([new Error('0'), new Error('1')])
  await keeping.stop()
})
it('is told to end, and waited for', async () => {
  let ended = false
  const keeping = keepDoing(
    async (signal) => {
      while (!signal.aborted) await new Promise((resolve) => setTimeout(resolve, 100))
      ended = true
    },
    { ...options, firstMs: 0 },
  )
  await vi.advanceTimersByTimeAsync(50)
  const stopped = keeping.stop()
  expect(ended).toBe(false)
  await vi.advanceTimersByTimeAsync(100)
  await stopped
  expect(ended).toBe(true)
})

it('of tenants: one that hangs holds up itself alone, and none is worked for twice at once', async () => {
  const begun: string[] = []
  const errors: unknown[] = []
  const hangs = Promise.withResolvers<void>()
  const queue = createTenantQueue(
    async (tenant) => {
      begun.push(tenant)
      if (tenant === 'hangs') await hangs.promise
      if (tenant === 'fails') throw new Error('no')
    },
    { atOnce: 2, onError: (error, tenant) => errors.push([tenant, error]) },
  )
  for (const tenant of ['hangs', 'a', 'fails', 'b', 'hangs', 'a']) queue.touch(tenant)
  await vi.advanceTimersByTimeAsync(10)
  expect(begun).toEqual(['hangs', 'a', 'fails', 'b', 'a'])
  expect(errors).toEqual([['fails', new Error('no')]])
  hangs.resolve()
  await vi.advanceTimersByTimeAsync(10)
  // It was touched meanwhile.
  expect(begun).toEqual(['hangs', 'a', 'fails', 'b', 'a', 'hangs'])
  await queue.stop()
  queue.touch('late')
  await vi.advanceTimersByTimeAsync(10)
  expect(begun).not.toContain('late')
})
it('of tenants: no more than may are worked for at once, and the end waits for those that are', async () => {
  let [atOnce, most, done] = [0, 0, 0]
  const queue = createTenantQueue(
    async () => {
      most = Math.max(most, (atOnce += 1))
      await new Promise((resolve) => setTimeout(resolve, 1_000))
      atOnce -= 1
      done += 1
    },
    { atOnce: 3, onError: () => {} },
  )
  for (let n = 0; n < 10; n++) queue.touch(`t${n}`)
  await vi.advanceTimersByTimeAsync(1_500)
  const stopped = queue.stop()
  await vi.advanceTimersByTimeAsync(10_000)
  await stopped
  expect([most, done]).toEqual([3, 6])
})
