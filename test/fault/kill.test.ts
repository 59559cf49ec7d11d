import { randomInt } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { reconcile, startLoad } from './load.ts'
import { ROUND_MS, ROUNDS } from './rounds.ts'

/**
 * Two ledgers on one wall and one work database; any of the four is killed (-9) at random moments under load, now and then two at once. Afterwards
 * every event that was acknowledged is held against the ledger. (With a proxy in front: test/e2e/crash.test.ts.)
 */
let stack: LedgerStack
const ledgers: LedgerProcess[] = []

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 2 })
  ledgers.push(...stack.ledgers)
})
afterAll(() => stack?.stop())

type Kill = () => Promise<() => Promise<void>>

/** Each kills one, and gives what brings it back, on the same port and files. */
const VICTIMS: readonly Kill[] = [
  () => killLedger(0),
  () => killLedger(1),
  async () => {
    await stack.wall.server.kill('SIGKILL')
    return () => stack.wall.restart()
  },
  async () => {
    await stack.work.server.kill('SIGKILL')
    return () => stack.work.restart()
  },
]

async function killLedger(place: number): Promise<() => Promise<void>> {
  await ledgers[place]?.kill()
  return async () => {
    ledgers[place] = await stack.startLedger({ port: ledgers[place]?.port ?? 0 })
  }
}

test(
  `kill -9 of ledgers and PostgreSQL, ${ROUNDS} rounds: no acknowledged event is lost or doubled`,
  async () => {
    const load = startLoad(stack, {
      urls: () => ledgers.map(({ url }) => url),
      names: ['proxy', 'second', 'globex-proxy'],
      batch: 20,
      pauseMs: 60,
    })
    let kills = 0
    for (let round = 0; round < ROUNDS; round++) {
      await sleep(randomInt(100, 900))
      // Each in turn, and now and then a second one with it.
      const victims = new Set([round % VICTIMS.length])
      if (round % 3 === 2) victims.add(randomInt(VICTIMS.length))
      kills += victims.size
      const revivals = await Promise.all(VICTIMS.filter((_, place) => victims.has(place)).map((kill) => kill()))
      await sleep(randomInt(0, 500))
      for (const revive of revivals) await revive()
    }
    for (const { url } of ledgers)
      await expect.poll(async () => (await fetch(`${url}/readyz`)).status, { timeout: 30_000 }).toBe(200)
    await load.stop()
    const events = await reconcile(stack, load, { url: ledgers[0]?.url ?? '', readers: ['auditor', 'globex-proxy'] })
    console.log(`${kills} kills; ${events} events acknowledged, ${load.broken()} requests broken off and sent again`)
    expect(events).toBeGreaterThan(ROUNDS * 100)
    expect(load.broken()).toBeGreaterThan(0)
    // Nobody thinks that somebody tampered with it.
    for (const ledger of ledgers) expect(ledger.output()).not.toMatch(/tampered|CHAIN_BROKEN/)
  },
  120_000 + ROUNDS * ROUND_MS,
)
