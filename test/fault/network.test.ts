import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { reconcile, startLoad, type Load } from './load.ts'
import { ROUND_MS, ROUNDS } from './rounds.ts'
import { startTcpRelay, type TcpRelay } from './tcp-relay.ts'

/**
 * Two ledgers; one reaches wall and work database, and is reached, through a network that the test cuts: silently, with resets, slowly. The
 * other is left alone: what is cut off for one must not hold up the other.
 */
let stack: LedgerStack
let cut: LedgerProcess
let whole: LedgerProcess
let links: Record<'producers' | 'wall' | 'work', TcpRelay>
let load: Load
/** Where producers go: to both at random, in the beginning. */
let urls: string[]

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 1 })
  whole = stack.ledgers[0]!
  const [wall, work] = await Promise.all([startTcpRelay(stack.wall.loginUrl), startTcpRelay(stack.work.loginUrl)])
  cut = await stack.startLedger({
    env: {
      SIGNET_LEDGER_AUDIT_DB_URL: wall.through(stack.wall.loginUrl),
      SIGNET_LEDGER_STATE_URL: work.through(stack.work.loginUrl),
    },
  })
  links = { producers: await startTcpRelay(cut.url), wall, work }
  urls = [whole.url, links.producers.through(cut.url).replace(/\/$/, '')]
  load = startLoad(stack, {
    urls: () => urls,
    names: ['proxy', 'second', 'globex-proxy'],
    batch: 20,
    pauseMs: 40,
    patienceMs: 3_000,
  })
})
afterAll(async () => {
  await stack?.stop()
  for (const link of Object.values(links ?? {})) await link.close()
})

async function grown(by: number, timeout = 30_000): Promise<void> {
  const want = load.total() + by
  await expect.poll(() => load.total(), { timeout }).toBeGreaterThan(want)
}

async function recovered(): Promise<void> {
  await expect.poll(async () => (await fetch(`${cut.url}/readyz`)).status, { timeout: 120_000 }).toBe(200)
  expect(cut.child.exitCode).toBeNull()
}

const MODES = ['blackhole', 'refuse', 'slow', 'reset'] as const

describe.each(['producers', 'wall', 'work'] as const)('between the ledger and %s', (between) => {
  test.each(MODES)(
    '%s: nothing is lost, the other ledger goes on, and it comes back by itself',
    async (mode) => {
      const link = links[between]
      for (let round = 0; round < Math.max(1, Math.floor(ROUNDS / (3 * MODES.length))); round++) {
        await grown(100)
        if (mode === 'reset') {
          for (let times = 0; times < 5; times++) {
            link.reset()
            await sleep(100)
          }
        } else {
          link.mode = mode
          if (mode === 'refuse') link.reset()
          await sleep(1_500)
        }
        await grown(100)
        link.mode = 'pass'
        await recovered()
      }
    },
    120_000 + ROUNDS * ROUND_MS,
  )
})

test('a ledger that is cut off silently in the middle of a transaction holds the chain up for seconds, not for its whole patience', async () => {
  await cutInTransaction()
  urls = [whole.url]
  const startedAt = performance.now()
  const before = counts()
  await expect
    .poll(() => counts().every((count, index) => count > (before[index] ?? 0) + 100), { timeout: 100_000 })
    .toBe(true)
  const heldUpMs = performance.now() - startedAt
  console.log(`a silent cut in the middle of a transaction held the others up for ${Math.round(heldUpMs)} ms`)
  expect(heldUpMs).toBeLessThan(20_000)
  await expect.poll(async () => (await fetch(`${cut.url}/readyz`)).status, { timeout: 20_000 }).toBe(503)
  links.wall.mode = 'pass'
  await recovered()
})

function counts(): number[] {
  return [...load.acked.values()].map(({ length }) => length)
}

/** Cuts the wall off until a transaction that holds a chain is caught by it. */
async function cutInTransaction(): Promise<void> {
  const held = `SELECT count(*)::int AS held FROM pg_stat_activity a JOIN pg_locks l USING (pid)
                 WHERE l.locktype = 'advisory' AND l.granted AND a.state = 'idle in transaction' AND a.state_change < now() - interval '300 ms'`
  const client = new pg.Client(stack.wall.adminUrl)
  await client.connect()
  try {
    for (;;) {
      links.wall.mode = 'blackhole'
      await sleep(500)
      if (((await client.query<{ held: number }>(held)).rows[0]?.held ?? 0) > 0) return
      links.wall.mode = 'pass'
      await recovered()
      await grown(50)
    }
  } finally {
    await client.end()
  }
}

test('afterwards everything that was acknowledged is there, once', async () => {
  await load.stop()
  const events = await reconcile(stack, load, { url: whole.url, readers: ['auditor', 'globex-proxy'] })
  console.log(`${events} events acknowledged, ${load.broken()} requests broken off and sent again`)
  expect(load.broken()).toBeGreaterThan(0)
  for (const ledger of [cut, whole]) expect(ledger.output()).not.toMatch(/tampered|CHAIN_BROKEN/)
})
