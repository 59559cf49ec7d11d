import { expect, it } from 'vitest'
import { createHeldPolls } from '#engine/bundle/held-polls.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { keepBundleNews } from './news.ts'

/** A database that holds nothing and does not answer. */
const away = { connect: () => Promise.reject(new Error('away')) } as unknown as Pool

function setup() {
  const news = keepBundleNews({ pool: away, onError: () => undefined })
  const polls = createHeldPolls({ source: news, maxPolls: 10, maxPollsPerCaller: 10 })
  const hold = async (tenant: string, etag: string, waitMs = 60_000) => {
    await polls.hold({ key: tenant, etag, caller: tenant, waitMs, signal: new AbortController().signal })
    return 'ended'
  }
  return { news, polls, hold }
}

it('ends the polls of the tenant whose bundle is another, and no others', async () => {
  const { news, polls, hold } = setup()
  const [mine, other] = [hold('acme', '"1"'), hold('globex', '"1"')]
  news.saw('acme', '"1"')
  expect(polls.size).toBe(2)
  news.saw('acme', '"2"')
  expect(await mine).toBe('ended')
  expect(polls.size).toBe(1)
  polls.end()
  await other
  await news.stop()
})

it('ends at once the poll of who has an older one than others wait past', async () => {
  const { news, polls, hold } = setup()
  const current = hold('acme', '"2"')
  expect(await hold('acme', '"1"')).toBe('ended')
  expect(polls.size).toBe(1)
  polls.end()
  await current
  await news.stop()
})

it('remembers nothing of tenants that nobody waits for', async () => {
  const { news, polls, hold } = setup()
  await hold('acme', '"1"', 1)
  news.saw('acme', '"2"')
  expect(news.get('acme')).toBeUndefined()
  const held = hold('acme', '"1"')
  expect(polls.size).toBe(1)
  polls.end()
  await held
  await news.stop()
})
