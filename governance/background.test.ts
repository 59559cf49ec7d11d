import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { keepDoing } from './background.ts'

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
