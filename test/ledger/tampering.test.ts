import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { fillWall, lastCheckpoint, verifyTampered, wallKeys, type WallKeys } from '#test/support/tamper.ts'
import { tamperings, type Choose, type Wall } from './tamperings.ts'

/** `npm run test:tamper` makes 10,000. */
const ROUNDS = Number(process.env['SIGNET_TAMPER_ROUNDS'] ?? 200)
const SEED = Number(process.env['SIGNET_TAMPER_SEED'] ?? Date.now() % 2 ** 31)
const UNTOUCHED_EVERY = 25

let stack: LedgerStack
let admin: pg.Client
let keys: WallKeys
let external: TreeHead
let wall: Wall

beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 0 })
  const ledger = await stack.startLedger({ env: { SIGNET_LEDGER_VERIFY_SHARE: '0' } })
  await fillWall(stack, [
    { acme: 12, globex: 9 },
    { acme: 150, globex: 30 },
    { acme: 20, globex: 140 },
    { acme: 60, globex: 55 },
    { acme: 30, globex: 31 },
  ])
  await ledger.stop()
  keys = wallKeys(stack)
  admin = new pg.Client(stack.wall.adminUrl)
  await admin.connect()
  external = (await lastCheckpoint(admin, keys)).head
  const numbers = async (sql: string): Promise<number[]> =>
    (await admin.query<{ n: string }>(sql)).rows.map(({ n }) => Number(n))
  wall = {
    heads: {
      acme: (await numbers("SELECT max(seq) AS n FROM signet.links WHERE tenant = 'acme'"))[0]!,
      globex: (await numbers("SELECT max(seq) AS n FROM signet.links WHERE tenant = 'globex'"))[0]!,
    },
    sizes: await numbers('SELECT size AS n FROM signet.tree_checkpoints ORDER BY size'),
    runs: await numbers('SELECT first_leaf AS n FROM signet.tree_runs ORDER BY first_leaf'),
    tiles: (await numbers('SELECT count(*) AS n FROM signet.tree_tiles WHERE level = 0'))[0]!,
  }
})
afterAll(async () => {
  await admin.end()
  await stack.stop()
})

/** mulberry32: the same choices for the same seed. */
function chooser(seed: number): Choose {
  let state = seed >>> 0
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  const between = (low: number, high: number): number => low + Math.floor(next() * (high - low + 1))
  return { between, of: (items) => items[between(0, items.length - 1)]! }
}

describe('tampering behind the triggers', () => {
  test(
    `${ROUNDS} times: every one is found and named, and an untouched wall never is`,
    async () => {
      const count = tamperings(wall, chooser(SEED), keys).length
      const missed: string[] = []
      const named = new Map<string, number>()
      for (let round = 0; round < ROUNDS; round++) {
        const choose = chooser(SEED + round)
        const tampering = tamperings(wall, choose, keys)[round % count]!()
        const { faults } = await verifyTampered(admin, tampering.apply, keys, [external])
        const [first] = faults
        const { kind, wantFaults = [kind], wantTenant, wantSeq, wantLeaf } = tampering
        const found =
          first !== undefined &&
          wantFaults.includes(first.fault) &&
          (wantTenant === undefined || first.tenant === wantTenant) &&
          (wantSeq === undefined || first.seq === wantSeq) &&
          (wantLeaf === undefined || first.leaf === wantLeaf)
        if (found) named.set(first.fault, (named.get(first.fault) ?? 0) + 1)
        else {
          const want = JSON.stringify({ wantFaults, wantTenant, wantSeq, wantLeaf })
          missed.push(`seed ${SEED + round}, ${kind}: ${tampering.what}: want ${want}, found ${JSON.stringify(first)}`)
        }
        if (round % UNTOUCHED_EVERY === 0) {
          const untouched = await verifyTampered(admin, async () => undefined, keys, [external])
          expect(untouched.faults).toEqual([])
        }
      }
      expect(missed).toEqual([])
      if (ROUNDS >= 2 * count)
        expect([...named.keys()].toSorted()).toEqual([
          'delete',
          'edit',
          'fork',
          'insert',
          'reorder',
          'rollback',
          'truncate',
          'wrong-key',
        ])
    },
    60_000 + ROUNDS * 1_000,
  )
})
