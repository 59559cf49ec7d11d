import { Cron } from 'croner'
import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoing, type Background } from '../background.ts'
import { noteRun, takeDue, type ScheduleRow } from '../store/schedules.ts'
import { tenantNames } from '../store/tenants.ts'
import { loggedScan, makeScan, storeScan, type ScanDeps } from './scan.ts'

const SHORTEST_MS = 5 * 60_000
const RUNS_CHECKED = 300
const LOOK_MS = 5_000

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

/** Runs what is due, one after the other; several processes may. */
export function keepScanning(deps: ScanDeps & { readonly runner: ActionRunner; readonly log: Logger }): Background {
  const { pool, runner, log, clock } = deps

  async function runDue(tenant: string): Promise<boolean> {
    const due = await withTenant(pool, tenant, (client) =>
      takeDue(client, tenant, clock(), (cron) => nextRun(cron, clock())),
    )
    if (due === null) return false
    try {
      await runOne(tenant, due)
    } catch (error) {
      log.warn({ error, tenant, schedule: due.id }, 'a scheduled scan was not made')
      const said = error instanceof SignetError ? error.message.slice(0, 500) : 'it failed here; the log has why'
      await withTenant(pool, tenant, (client) => noteRun(client, tenant, due.id, { scan: null, error: said }))
    }
    return true
  }

  async function runOne(tenant: string, { id, org_id, rule_ids }: ScheduleRow): Promise<void> {
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
      const opened = await storeScan(client, tenant, made, deps)
      await noteRun(client, tenant, id, { scan: made.scan.id, error: null })
      return { result: undefined, before: null, after: loggedScan(made, opened) }
    })
  }

  async function look(signal: AbortSignal): Promise<void> {
    for (const tenant of await tenantNames(pool)) {
      // One a turn, so that a tenant with many schedules does not keep the others waiting.
      if (signal.aborted) return
      await runDue(tenant)
    }
  }

  const onError = (error: unknown): void => log.warn({ error }, 'schedules cannot be read; it is tried again')
  return keepDoing(look, { everyMs: LOOK_MS, onError })
}
