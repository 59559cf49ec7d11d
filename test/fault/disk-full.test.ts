import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'
import { reconcile, startLoad, type Load } from './load.ts'
import { mountSmallDisk } from './small-disk.ts'

/**
 * Both databases on a disk that fills up. What PostgreSQL does then is of two kinds: a statement that needs room for a table fails (53100),
 * or the server goes down because it cannot write its log (PANIC), and may not come up again before there is room.
 */
const disk = mountSmallDisk(320)
const MEGABYTE = 1024 * 1024

describe.skipIf(disk === null)('a full disk', () => {
  let stack: LedgerStack
  let load: Load
  const url = (): string => stack.ledgers[0]?.url ?? ''

  beforeAll(async () => {
    const before = process.env['TMPDIR']
    // Where a stack puts its folder.
    process.env['TMPDIR'] = disk?.dir
    try {
      stack = await startLedgerStack()
    } finally {
      if (before === undefined) delete process.env['TMPDIR']
      else process.env['TMPDIR'] = before
    }
    load = startLoad(stack, { urls: () => [url()], names: ['proxy', 'second', 'globex-proxy'], patienceMs: 5_000 })
  })
  afterAll(async () => {
    disk?.empty()
    await stack?.stop()
    disk?.unmount()
  })

  async function grown(by: number): Promise<void> {
    const want = load.total() + by
    await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(want)
  }

  /** Fills the disk until nothing is acknowledged any more. */
  async function fillUp(leave: number): Promise<void> {
    disk?.fill(leave)
    for (let last = -1; load.total() !== last;) {
      last = load.total()
      await sleep(1_500)
    }
  }

  test('tables cannot grow: 503 that says so, the process stays, and with room it goes on', async () => {
    await grown(500)
    await fillUp(2 * MEGABYTE)
    expect(load.broken()).toBeGreaterThan(0)
    const proxy = createClient(url(), stack.token('proxy'))
    const refused = await proxy.ingest(buildLines(randomUUID(), 1, 500))
    expect({ status: refused.status, ...((await refused.json()) as object) }).toMatchObject({
      status: 503,
      code: 'DATABASE_UNAVAILABLE',
    })
    const ledger = stack.ledgers[0]
    expect(ledger?.child.exitCode).toBeNull()
    expect((await fetch(`${url()}/livez`)).status).toBe(200)
    disk?.empty()
    await revive()
    await grown(500)
  })

  test('the write-ahead log cannot grow: the server goes down; started again with room, it has all that was acknowledged', async () => {
    await fillUp(0)
    await endSegment()
    disk?.empty()
    await revive()
    await grown(500)
    await expect.poll(async () => (await fetch(`${url()}/readyz`)).status, { timeout: 30_000 }).toBe(200)
    await load.stop()
    const events = await reconcile(stack, load, { url: url(), readers: ['auditor', 'globex-proxy'] })
    console.log(`${events} events acknowledged, ${load.broken()} requests broken off and sent again`)
    expect(stack.ledgers[0]?.output()).not.toMatch(/tampered|CHAIN_BROKEN/)
  })

  /** Makes the server need a new segment of its log, for which there is no room. */
  async function endSegment(): Promise<void> {
    for (let tries = 0; tries < 30; tries++) {
      const client = new pg.Client(stack.wall.adminUrl)
      client.on('error', () => undefined)
      const alive = await client
        .connect()
        .then(() => client.query("SELECT pg_switch_wal(), pg_logical_emit_message(true, 'fill', repeat('x', 100000))"))
        .then(
          () => true,
          () => false,
        )
      await client.end().catch(() => undefined)
      if (!alive) return
    }
    expect.fail('the server wrote on, on a full disk')
  }

  /** What a supervisor does: starts the server again where it is down. One that is up is left alone. */
  async function revive(): Promise<void> {
    for (const database of [stack.wall, stack.work]) {
      const client = new pg.Client(database.adminUrl)
      client.on('error', () => undefined)
      const up = await client.connect().then(
        () => true,
        () => false,
      )
      await client.end().catch(() => undefined)
      if (up) continue
      await database.server.stop()
      await database.restart()
    }
  }
})
