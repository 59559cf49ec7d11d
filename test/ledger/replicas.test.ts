import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openLogCheckpoint, logVerifier } from '#core/tree/log-key.ts'
import { reconcile, startLoad } from '#test/fault/load.ts'
import { startLedgerStack, type LedgerProcess, type LedgerStack } from '#test/support/ledger.ts'
import { ORIGIN, wallKeys } from '#test/support/tamper.ts'

/**
 * Several ledger processes on one wall and one work database. None knows of the others: the chains are kept whole by a lock in the
 * database, the tree by whoever has it, and a producer may ask another replica each time.
 */
const NAMES = ['proxy', 'second', 'globex-proxy']

let stack: LedgerStack
beforeAll(async () => {
  stack = await startLedgerStack({ ledgers: 3 })
})
afterAll(() => stack.stop())

async function scrape(ledger: LedgerProcess, name: string): Promise<number> {
  const text = await (await fetch(`${ledger.url}/metrics`)).text()
  const samples = text.split('\n').filter((line) => line.startsWith(name))
  return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0)
}

/** Signed heads of the tree, from whichever replica is asked, as an outsider keeps them. */
function followCheckpoints(urls: () => readonly string[]) {
  const seen = new Map<number, Set<string>>()
  const sizes: number[] = []
  const stopping = new AbortController()
  const verifiers = wallKeys(stack).logKeys.map((key) => logVerifier(ORIGIN, key))
  const loop = (async () => {
    for (let turn = 0; !stopping.signal.aborted; turn++) {
      const all = urls()
      const note = await fetch(`${all[turn % all.length]}/log/checkpoint`)
        .then((response) => (response.status === 200 ? response.text() : null))
        .catch(() => null)
      if (note !== null) {
        const { size, root } = openLogCheckpoint(note, verifiers)
        sizes.push(size)
        seen.set(size, (seen.get(size) ?? new Set()).add(root.toString('hex')))
      }
      await sleep(20)
    }
  })()
  return {
    sizes,
    async stop() {
      stopping.abort()
      await loop
      return [...seen.values()].filter((roots) => roots.size > 1)
    },
  }
}

test('many writers over three processes, one killed, one that leaves, one that comes: no fork, no gap, nothing twice', async () => {
  const alive = new Set(stack.ledgers)
  const urls = (): string[] => [...alive].map(({ url }) => url)
  const checkpoints = followCheckpoints(urls)
  const load = startLoad(stack, { urls, names: NAMES })
  const grown = async (by: number): Promise<void> => {
    const want = load.total() + by
    await expect.poll(() => load.total(), { timeout: 60_000 }).toBeGreaterThan(want)
  }
  const [first, second, third] = stack.ledgers
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('three ledgers were asked for')

  await grown(1_000)
  // Killed while it is asked: who asked it goes elsewhere with the same bytes.
  await second.kill()
  alive.delete(second)
  await grown(1_000)
  alive.add(await stack.startLedger())
  await grown(1_000)
  // Leaves in order: what it has taken is finished, what comes after is refused.
  alive.delete(first)
  await first.stop()
  await grown(1_000)
  await load.stop()

  const [at] = alive
  expect(load.broken()).toBeGreaterThan(0)
  expect(await reconcile(stack, load, { url: at?.url ?? '', readers: ['auditor', 'globex-proxy'] })).toBeGreaterThan(
    4_000,
  )
  for (const ledger of alive) expect(await scrape(ledger, 'signet_ledger_records_total')).toBeGreaterThan(0)

  // One tree: the same size never had two roots, and it comes to hold everything.
  const links = await Promise.all(['acme', 'globex'].map((tenant) => headOf(tenant)))
  const all = links.reduce((sum, seq) => sum + seq, 0)
  await expect.poll(() => Math.max(...checkpoints.sizes), { timeout: 30_000 }).toBe(all)
  expect(await checkpoints.stop()).toEqual([])
  for (const ledger of alive) {
    expect(await scrape(ledger, 'signet_ledger_tree_failures_total{code="CHAIN_BROKEN"}')).toBe(0)
    expect(await scrape(ledger, 'signet_ledger_verification_failures_total')).toBe(0)
  }
})

async function headOf(tenant: string): Promise<number> {
  const reader = tenant === 'acme' ? 'auditor' : 'globex-proxy'
  const response = await fetch(`${stack.ledgers.at(-1)?.url}/api/audit/verify`, {
    headers: { authorization: `Bearer ${stack.token(reader)}` },
  })
  const { head } = (await response.json()) as { head: { seq: number } }
  return head.seq
}

test('the background verifier: one process at a time has the word, another takes it over, none raises a false alarm', async () => {
  const alive = new Set(stack.ledgers.filter(({ child }) => child.exitCode === null && child.signalCode === null))
  const verified = async (): Promise<number> => {
    const all = await Promise.all([...alive].map((ledger) => scrape(ledger, 'signet_ledger_verified_links_total')))
    return all.reduce((sum, links) => sum + links, 0)
  }
  const admin = new pg.Client(stack.work.adminUrl)
  await admin.connect()
  try {
    // One that was killed has the word until its time (five minutes) is up: it is made to be up.
    const timeIsUp = 'UPDATE signet.verification SET claimed_until = now()'
    for (const leaves of [true, false]) {
      const before = await verified()
      await admin.query(timeIsUp)
      await expect.poll(verified, { timeout: 60_000 }).toBeGreaterThan(before + 1_000)
      if (!leaves) break
      // The one that has it leaves: the next goes on.
      const busy = await Promise.all([...alive].map((ledger) => scrape(ledger, 'signet_ledger_verified_links_total')))
      const holder = [...alive][busy.indexOf(Math.max(...busy))]
      if (holder === undefined) throw new Error('nobody verifies')
      alive.delete(holder)
      await holder.stop()
      alive.add(await stack.startLedger())
    }
  } finally {
    await admin.end()
  }
  for (const ledger of alive) expect(await scrape(ledger, 'signet_ledger_verification_failures_total')).toBe(0)
})
