import { query, type Pool } from '#runtime/postgres/transaction.ts'
import type { LedgerKeys } from './keys.ts'
import type { Readiness } from './routes/health.ts'

/** Probes come often and from many sides: the databases are asked once in this time. */
const FRESH_MS = 500
const ANSWER_WITHIN_MS = 2_000

export function createReadiness(deps: { wall: Pool; work: Pool; keys: LedgerKeys; clock: () => Date }): Readiness {
  let latest: { at: number; result: ReturnType<Readiness['check']> } | undefined

  async function check(): ReturnType<Readiness['check']> {
    const [wall, work] = await Promise.all([probe(deps.wall, 'signet.links'), probe(deps.work, 'signet.sessions')])
    const checks = { wall, work, keys: keysNow(deps.keys, deps.clock()) }
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

function keysNow(keys: LedgerKeys, at: Date): string {
  try {
    keys.activeChainKey(at)
    keys.ackKey(at)
    return 'ok'
  } catch {
    return 'no chain key or ack key is valid now'
  }
}
