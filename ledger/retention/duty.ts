import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { query, type Pool } from '#runtime/postgres/transaction.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { readTenants } from '#runtime/wall/tree.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { readClasses } from './classes.ts'
import type { RetentionMetrics } from './metrics.ts'
import { readMonths, verdictOf, type ClassMonth } from './months.ts'
import { followPolicies } from './follow.ts'
import type { PolicyBook } from './policies.ts'
import { findObstacles, purgeMonth, settlePurges, type PurgeDeps, type PurgeOutcome } from './purge.ts'

export type RetentionDutyDeps = PurgeDeps & {
  readonly work: Pool
  readonly book: PolicyBook
  readonly metrics: RetentionMetrics
  readonly log: Logger
  /** Minutes between two rounds of purging; 0: only on demand. */
  readonly purgeEveryMinutes: number
}

export type RetentionDuty = {
  /**
   * What there is to purge, or, with `dryRun` false, purges it, in this process alone.
   * @throws SignetError LEDGER_BUSY while another process does
   */
  purge(options: { dryRun: boolean; only: ClassMonth | null; by: string; signal: AbortSignal }): Promise<PurgeOutcome[]>
  stop(): Promise<void>
}

const TICK_MS = 5_000
const FOLLOW_EVERY_MS = 60_000
const FIRST_PURGE_MS = 15_000
const CLAIM_MS = 3 * 60_000
const CLAIM_PATIENCE_MS = 10_000
const CLAIM_POLL_MS = 250
const SCHEDULER = 'signet-ledger'

/** Keeps policies read, their holds placed, and purges what is due, for as long as the process lives. */
export function keepRetention(deps: RetentionDutyDeps): RetentionDuty {
  const { work, book, metrics, log, purgeEveryMinutes } = deps
  const stopped = new AbortController()
  const holder = randomUUID()
  // One claim a process: the tick and a call must not take each other's for their own.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = turn.then(work)
    turn = done.catch(() => undefined)
    return done
  }

  async function claim(): Promise<boolean> {
    const rows = await query(
      work,
      `UPDATE signet.retention_duty SET claimed_by = $1, claimed_until = now() + $2 * interval '1 millisecond'
        WHERE claimed_by = $1 OR claimed_by IS NULL OR claimed_until < now() RETURNING 1`,
      [holder, CLAIM_MS],
    )
    return rows.length > 0
  }
  async function release(): Promise<void> {
    await query(work, 'UPDATE signet.retention_duty SET claimed_by = NULL WHERE claimed_by = $1', [holder])
  }

  async function purgeAll(only: ClassMonth | null, by: string, signal: AbortSignal): Promise<PurgeOutcome[]> {
    const tenants = await poolReader(deps.wall).inTree((client) => readTenants(client))
    const stillDue = async (which: ClassMonth): Promise<boolean> => (await findObstacles(deps, which)).length === 0
    for (const tenant of tenants) await settlePurges(deps, tenant, stillDue)
    const outcomes: PurgeOutcome[] = []
    for (const which of await monthsOf(only)) {
      signal.throwIfAborted()
      await claim()
      const outcome = await purgeMonth(deps, which, by, signal)
      outcomes.push(outcome)
      if (outcome.state !== 'purged') continue
      metrics.purged.inc(outcome.records)
      log.info({ ...which, records: outcome.records, by }, 'a month was purged')
    }
    if (only === null) metrics.show(outcomes)
    metrics.classes.set((await readClasses(deps.wall)).length)
    return outcomes
  }

  async function monthsOf(only: ClassMonth | null): Promise<ClassMonth[]> {
    const all = (await readMonths(deps.wall)).map(({ retentionClass, month }) => ({ retentionClass, month }))
    return only === null
      ? all
      : all.filter(({ retentionClass, month }) => retentionClass === only.retentionClass && month === only.month)
  }

  async function look(only: ClassMonth | null): Promise<PurgeOutcome[]> {
    const outcomes: PurgeOutcome[] = []
    for (const which of await monthsOf(only)) {
      const obstacles = await findObstacles(deps, which)
      outcomes.push({ ...which, state: verdictOf(obstacles), records: 0, obstacles })
    }
    return outcomes
  }

  const followDeps = { ...deps, signal: stopped.signal, seen: new Map<string, unknown>() }
  let purgeAt = performance.now() + FIRST_PURGE_MS
  let followed: ReturnType<PolicyBook['all']> = null
  let followAt = 0
  async function tick(): Promise<void> {
    await book.refresh()
    if (!(await claim())) return
    try {
      // New tenants come without a change of policies.
      if (book.all() !== followed || performance.now() >= followAt) {
        const policies = book.all()
        await followPolicies(followDeps)
        followed = policies
        followAt = performance.now() + FOLLOW_EVERY_MS
      }
      if (purgeEveryMinutes > 0 && performance.now() >= purgeAt) {
        await purgeAll(null, SCHEDULER, stopped.signal)
        purgeAt = performance.now() + purgeEveryMinutes * 60_000
      }
    } finally {
      await release()
    }
  }

  async function run(): Promise<void> {
    while (!stopped.signal.aborted) {
      await inTurn(tick).catch((error: unknown) => {
        if (stopped.signal.aborted) return
        metrics.errors.inc({ code: error instanceof SignetError ? error.code : 'INTERNAL' })
        log.warn({ error }, 'retention has to wait')
      })
      await sleep(TICK_MS, undefined, { signal: stopped.signal }).catch(() => undefined)
    }
  }
  const running = run()

  return {
    async purge({ dryRun, only, by, signal }) {
      if (dryRun) return look(only)
      return inTurn(async () => {
        const deadline = performance.now() + CLAIM_PATIENCE_MS
        while (!(await claim())) {
          if (performance.now() > deadline)
            throw new SignetError('LEDGER_BUSY', 'another process is purging; try again shortly')
          await sleep(CLAIM_POLL_MS, undefined, { signal })
        }
        try {
          // A hold that a policy has just asked for counts.
          await book.refresh()
          await followPolicies(followDeps)
          return await purgeAll(only, by, AbortSignal.any([signal, stopped.signal]))
        } finally {
          await release()
        }
      })
    },
    async stop() {
      stopped.abort()
      await running
      await turn
    },
  }
}
