import { SignetError } from '#core/error/signet-error.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'
import type { LedgerKeys } from './keys.ts'
import type { Readiness } from './routes/health.ts'
import type { Sealer } from './seal/sealer.ts'

/** Probes come often and from many sides: the databases are asked once in this time. */
const FRESH_MS = 500
const ANSWER_WITHIN_MS = 2_000

export function createReadiness(deps: {
  wall: Pool
  work: Pool
  keys: LedgerKeys
  clock: () => Date
  sealer: Pick<Sealer, 'check'> | null
}): Readiness {
  let latest: { at: number; result: ReturnType<Readiness['check']> } | undefined

  async function check(): ReturnType<Readiness['check']> {
    const [wall, work, sealing] = await Promise.all([
      probe(deps.wall, 'signet.links'),
      probe(deps.work, 'signet.sessions'),
      sealingNow(deps.sealer),
    ])
    const checks = { wall, work, keys: keysNow(deps.keys, deps.clock()), sealing }
    return { ready: Object.values(checks).every((state) => state === 'ok'), checks }
  }

  return {
    check() {
      const now = performance.now()
      if (latest === undefined || now - latest.at > FRESH_MS) latest = { at: now, result: check() }
      return latest.result
    },
  }
}

async function probe(pool: Pool, table: string): Promise<string> {
  const answer = query<{ there: boolean }>(pool, 'SELECT to_regclass($1) IS NOT NULL AS there', [table]).then(
    ([row]) => (row?.there === true ? 'ok' : 'the schema is missing: run the migrations'),
    () => 'the database does not answer',
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, ANSWER_WITHIN_MS, 'the database does not answer in time')
  })
  return Promise.race([answer, late]).finally(() => clearTimeout(timer))
}

/** A database that does not answer is found by its own probe. */
async function sealingNow(sealer: Pick<Sealer, 'check'> | null): Promise<string> {
  try {
    await sealer?.check()
    return 'ok'
  } catch (error) {
    return error instanceof SignetError && error.code === 'SEAL_KEY_UNAVAILABLE' ? error.message : 'ok'
  }
}

function keysNow(keys: LedgerKeys, at: Date): string {
  try {
    keys.activeChainKey(at)
    keys.ackKey(at)
    return 'ok'
  } catch {
    return 'no chain key or ack key is valid now'
  }
}
