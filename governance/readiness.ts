import { query, type Pool } from '#runtime/postgres/transaction.ts'

export type Readiness = () => Promise<{ readonly ready: boolean; readonly checks: Readonly<Record<string, string>> }>

const FRESH_MS = 500
const ANSWER_WITHIN_MS = 2_000

/** Ready when the database is there. Not so the ledger: reading goes on without it, and what cannot be recorded is refused by itself. */
export function createReadiness(pool: Pool, nowMs: () => number): Readiness {
  let latest: { atMs: number; result: ReturnType<Readiness> } | undefined
  return () => {
    const atMs = nowMs()
    if (latest === undefined || atMs - latest.atMs > FRESH_MS) latest = { atMs, result: check(pool) }
    return latest.result
  }
}

async function check(pool: Pool): ReturnType<Readiness> {
  const answer = query<{ there: boolean }>(pool, "SELECT to_regclass('signet.actions') IS NOT NULL AS there").then(
    ([row]) => (row?.there === true ? 'ok' : 'the schema is missing: run the migrations'),
    () => 'the database does not answer',
  )
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, ANSWER_WITHIN_MS, 'the database does not answer in time')
  })
  const database = await Promise.race([answer, late]).finally(() => clearTimeout(timer))
  return { ready: database === 'ok', checks: { database } }
}
