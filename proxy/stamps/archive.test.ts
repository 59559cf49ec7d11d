import { expect, test } from 'vitest'
import { boundedArchive } from './archive.ts'

test('asks so many at once, and refuses past it with 503', async () => {
  const waiting: (() => void)[] = []
  const archive = boundedArchive({
    fetchStamp: () => new Promise((resolve) => waiting.push(() => resolve(Buffer.from('x')))),
    fetchRequestStamp: () => Promise.resolve(null),
  })
  const asked = Array.from({ length: 16 }, (_, i) => archive.fetchStamp(`h${i}`))
  await expect(archive.fetchStamp('h16')).rejects.toMatchObject({ code: 'OVERLOADED', status: 503 })
  for (const go of waiting) go()
  expect(await Promise.all(asked)).toHaveLength(16)
  const again = archive.fetchStamp('h16')
  waiting.at(-1)?.()
  expect(await again).toEqual(Buffer.from('x'))
})

test('does not ask again at once for what the ledger did not know', async () => {
  let asked = 0
  const archive = boundedArchive({
    fetchStamp: () => Promise.resolve(null),
    fetchRequestStamp: () => {
      asked += 1
      return Promise.resolve(null)
    },
  })
  expect(await archive.fetchRequestStamp('r')).toBeNull()
  expect(await archive.fetchRequestStamp('r')).toBeNull()
  expect(asked).toBe(1)
})
