import { Cron } from 'croner'
import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoing, type Background } from '../background.ts'
import { beginRun, endRun, keepRun, postponeRun, type ScheduledRun } from '../store/schedules.ts'
import { tenantNames } from '../store/tenants.ts'
import { loggedScan, makeScan, storeScan, type ScanDeps } from './scan.ts'

const SHORTEST_MS = 5 * 60_000
const RUNS_CHECKED = 300
const LOOK_MS = 5_000
/** Of all tenants together. */
const AT_ONCE = 4
/** Of whoever is not heard of for that long, another takes over. */
const LEASE_MS = 120_000
/** A scan that ends the process that makes it does so no more often. */
const MAX_ATTEMPTS = 3

/** In UTC. */
export function nextRun(cron: string, after: Date): Date {
  const next = new Cron(cron, { timezone: 'UTC', mode: '5-part' }).nextRun(after)
  // It was checked when it came; a date that never is (30 February) is as far away as dates go.
  return next ?? new Date(Date.UTC(9999, 11, 31))
}

/** @throws SignetError REQUEST_INVALID: no cron, one that never is, or one that is too often */
export function requireCron(cron: string): void {
  let runs: Date[]
  try {
    // A day and more of them: as many as there may be, and one.
    runs = new Cron(cron, { timezone: 'UTC', mode: '5-part' }).nextRuns(RUNS_CHECKED, new Date(Date.UTC(2026, 0, 1)))
  } catch {
    throw new SignetError(
      'REQUEST_INVALID',
      'the body at /cron is no cron of five fields: minute hour day month weekday',
    )
  }
  if (runs.length === 0) throw new SignetError('REQUEST_INVALID', 'the body at /cron names a time that never is')
  const isTooOften = runs.some(
    (run, index) => index > 0 && run.getTime() - (runs[index - 1]?.getTime() ?? 0) < SHORTEST_MS,
  )
  if (isTooOften) throw new SignetError('REQUEST_INVALID', 'the body at /cron is more often than every five minutes')
}

/**
 * Makes the scans that are due, one of a tenant at a time and `AT_ONCE` in all; several processes may. A scan that is due is made at least once, and
 * stored once: its time moves on in the transaction that stores it, which only whoever still has the word for the run can make.
 */
export function keepScanning(deps: ScanDeps & { readonly runner: ActionRunner; readonly log: Logger }): Background {
  const { pool, runner, log, clock } = deps
  /** Scans under way, by tenant. */
  const running = new Map<string, Promise<void>>()
  /** Who was the last to get a turn, so that those behind it come next. */
  let last = ''

  const leaseEnd = (): Date => new Date(clock().getTime() + LEASE_MS)
  const nextOf = (cron: string): Date => nextRun(cron, clock())

  async function look(signal: AbortSignal): Promise<void> {
    const tenants = await tenantNames(pool)
    const behind = tenants.findIndex((tenant) => tenant > last)
    for (const tenant of behind === -1 ? tenants : [...tenants.slice(behind), ...tenants.slice(0, behind)]) {
      if (signal.aborted || running.size >= AT_ONCE) return
      if (running.has(tenant)) continue
      const run = await withTenant(pool, tenant, (client) =>
        beginRun(client, tenant, { runId: deps.newId(), now: clock(), until: leaseEnd() }),
      )
      if (run === null) continue
      last = tenant
      running.set(
        tenant,
        perform(tenant, run).finally(() => running.delete(tenant)),
      )
    }
  }

  /** Never rejects: what could not be noted is begun again when its lease is over. */
  async function perform(tenant: string, run: ScheduledRun): Promise<void> {
    const { id: schedule, run_id: runId, run_attempts: attempts } = run
    const keeping = keepDoing(
      async () => {
        await withTenant(pool, tenant, (client) => keepRun(client, tenant, runId, leaseEnd()))
      },
      {
        everyMs: LEASE_MS / 4,
        onError: (error) => log.warn({ error, tenant, schedule }, 'a scheduled scan cannot keep its turn'),
      },
    )
    try {
      if (attempts > MAX_ATTEMPTS)
        throw new SignetError('EVALUATION_LIMIT', `it was begun ${MAX_ATTEMPTS} times, and never came to its end`)
      await runOne(tenant, run)
    } catch (error) {
      log.warn({ error, tenant, schedule }, 'a scheduled scan was not made')
      const said = error instanceof SignetError ? error.message.slice(0, 500) : 'it failed here; the log has why'
      await withTenant(pool, tenant, async (client) => {
        if (attempts < MAX_ATTEMPTS && isPassing(error))
          await postponeRun(client, tenant, runId, { until: leaseEnd(), error: said })
        else await endRun(client, tenant, runId, { scan: null, error: said, nextOf })
      }).catch((cause: unknown) =>
        log.warn({ error: cause, tenant, schedule }, 'a scheduled scan is tried again later'),
      )
    } finally {
      await keeping.stop()
    }
  }

  async function runOne(tenant: string, { id, run_id: runId, org_id, rule_ids }: ScheduledRun): Promise<void> {
    const actor = 'system/scan-schedule'
    const made = await makeScan(deps, {
      tenant,
      orgId: org_id,
      ruleIds: rule_ids,
      given: {},
      trigger: 'schedule',
      by: actor,
    })
    const traceId = newTraceId()
    const request = {
      tenant,
      actor,
      action: 'execute',
      resource: 'scans',
      resourceId: made.scan.id,
      wanted: { schedule: id, org_id },
      traceId,
      requestId: traceId,
    } as const
    await runner.runAsSystem(request, async (client) => {
      if (!(await endRun(client, tenant, runId, { scan: made.scan.id, error: null, nextOf })))
        throw new SignetError('CONFLICT', 'the schedule is gone, or this scan took so long that another was begun')
      const opened = await storeScan(client, tenant, made, deps)
      return { result: undefined, before: null, after: loggedScan(made, opened) }
    })
  }

  const onError = (error: unknown): void => log.warn({ error }, 'schedules cannot be read; it is tried again')
  const looking = keepDoing(look, { everyMs: LOOK_MS, onError })
  return {
    async stop() {
      await looking.stop()
      await Promise.all(running.values())
    },
  }
}

function isPassing(error: unknown): boolean {
  return error instanceof SignetError && ['LEDGER_UNREACHABLE', 'DATABASE_UNAVAILABLE'].includes(error.code)
}
