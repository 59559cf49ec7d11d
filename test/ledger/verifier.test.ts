import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { ledgerKeys } from '#ledger/keys.ts'
import { VerificationPasses, type Step } from '#ledger/verifier/pass.ts'
import { createPool, type Pool } from '#runtime/postgres/transaction.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildLines, createClient } from '#test/support/producer.ts'
import { fillWall, lastCheckpoint, ORIGIN, wallKeys, WALL_TABLES } from '#test/support/tamper.ts'

let stack: LedgerStack
let wall: Pool
let work: Pool
let admin: pg.Client
let now = Date.now()
const running = new AbortController().signal

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  await stack.startLedger({ env: { SIGNET_LEDGER_VERIFY_SHARE: '0' } })
  await fillWall(stack, [
    { acme: 300, globex: 10 },
    { acme: 30, globex: 5 },
  ])
  wall = createPool({ url: stack.wall.loginUrl, size: 3, applicationName: 'verifier test' })
  work = createPool({ url: stack.work.loginUrl, size: 2, applicationName: 'verifier test' })
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
})
afterAll(async () => {
  await admin.end()
  await Promise.all([wall.end(), work.end()])
  await stack.stop()
})

function passes(options: { onPause?: (busyMs: number) => Promise<void> } = {}): VerificationPasses {
  return new VerificationPasses({
    wall,
    work,
    keys: ledgerKeys(JSON.stringify(stack.keyring)),
    origin: ORIGIN,
    clock: () => new Date(now),
    holder: randomUUID(),
    pause: options.onPause ?? (async () => undefined),
  })
}

/** Steps to the end of a pass. */
async function pass(by: VerificationPasses): Promise<Step[]> {
  now += 60_000
  const steps: Step[] = []
  for (;;) {
    const step = await by.step(running)
    steps.push(step)
    if (step.outcome === 'tree' || step.outcome === 'busy') return steps
  }
}

describe('the background verifier', () => {
  test('goes over all chains, then the tree, rests, and begins again', async () => {
    const by = passes()
    const { head } = await lastCheckpoint(admin, wallKeys(stack))
    expect(await pass(by)).toEqual([
      { outcome: 'chain', tenant: 'acme', links: 333, fault: null },
      { outcome: 'chain', tenant: 'globex', links: 18, fault: null },
      { outcome: 'tree', size: head.size, pass: 1, fault: null, archive: null },
    ])
    expect(await by.step(running)).toEqual({ outcome: 'rests' })
    expect((await pass(by)).at(-1)).toMatchObject({ outcome: 'tree', pass: 2, fault: null })
    await by.release()
  })

  test('one process at a time; another goes on where it was', async () => {
    const [one, other] = [passes(), passes()]
    now += 60_000
    expect(await one.step(running)).toMatchObject({ outcome: 'chain', tenant: 'acme' })
    expect(await other.step(running)).toEqual({ outcome: 'busy' })
    await one.release()
    expect(await other.step(running)).toMatchObject({ outcome: 'chain', tenant: 'globex' })
    expect(await one.step(running)).toEqual({ outcome: 'busy' })
    await admin.query('SELECT 1')
    // The word of a process that died: its time is up.
    const workAdmin = new pg.Client(stack.work.adminUrl)
    await workAdmin.connect()
    await workAdmin.query("UPDATE signet.verification SET claimed_until = now() - interval '1 second'")
    await workAdmin.end()
    expect(await one.step(running)).toMatchObject({ outcome: 'tree', fault: null })
    await one.release()
  })

  test('the store may grow meanwhile', async () => {
    const client = createClient(stack.ledgers[0]?.url ?? '', stack.token('proxy'))
    const session = randomUUID()
    let sent = 0
    const by = passes({
      onPause: async () => {
        await client.append(buildLines(session, sent + 1, 20))
        sent += 20
      },
    })
    for (let round = 0; round < 3; round++)
      expect((await pass(by)).every((step) => !('fault' in step) || step.fault === null)).toBe(true)
    expect(sent).toBeGreaterThan(0)
    await by.release()
  })

  test('names what was done to a chain, and goes on with the next and the tree', async () => {
    for (const table of WALL_TABLES) await admin.query(`ALTER TABLE signet.${table} DISABLE TRIGGER ALL`)
    const by = passes()
    const { rows } = await admin.query<{ actor: string }>(
      "SELECT actor FROM signet.records WHERE tenant = 'acme' AND seq = 7",
    )
    await admin.query("UPDATE signet.records SET actor = 'mallory' WHERE tenant = 'acme' AND seq = 7")
    const steps = await pass(by)
    expect(steps).toMatchObject([
      { outcome: 'chain', tenant: 'acme', fault: { seq: 7, fault: 'edit' } },
      { outcome: 'chain', tenant: 'globex', fault: null },
      { outcome: 'tree', fault: null },
    ])
    await admin.query("UPDATE signet.records SET actor = $1 WHERE tenant = 'acme' AND seq = 7", [rows[0]?.actor])
    await admin.query('CREATE TABLE public.kept AS SELECT * FROM signet.tree_tiles; DELETE FROM signet.tree_tiles')
    expect((await pass(by)).at(-1)).toMatchObject({ outcome: 'tree', fault: { leaf: 0, fault: 'delete' } })
    await admin.query('INSERT INTO signet.tree_tiles SELECT * FROM public.kept')
    expect((await pass(by)).every((step) => !('fault' in step) || step.fault === null)).toBe(true)
    await by.release()
  })

  test('in the ledger it runs by itself, counts, and is loud', async () => {
    const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_VERIFY_SHARE: '100' } })
    const metrics = async (): Promise<string> => (await fetch(`${ledger.url}/metrics`)).text()
    await vi.waitFor(async () => expect(await metrics()).toMatch(/signet_ledger_verified_tree_size [1-9]/), {
      timeout: 30_000,
      interval: 200,
    })
    expect(await metrics()).toMatch(/signet_ledger_verification_failures_total\{fault="edit"\} 0/)
    await admin.query("UPDATE signet.records SET actor = 'mallory' WHERE tenant = 'globex' AND seq = 3")
    await vi.waitFor(
      async () => expect(await metrics()).toMatch(/signet_ledger_verification_failures_total\{fault="edit"\} [1-9]/),
      { timeout: 40_000, interval: 200 },
    )
    expect(ledger.output()).toMatch(/"tenant":"globex","seq":3.*tampered with/)
    await ledger.stop()
  })
})
