import type { Client } from '#runtime/postgres/transaction.ts'

export type ScheduleRow = {
  readonly id: string
  readonly org_id: string
  readonly cron: string
  readonly rule_ids: string[] | null
  readonly is_active: boolean
  readonly next_at: Date
  readonly last_scan: string | null
  readonly last_error: string | null
  readonly version: number
  readonly created_at: Date
}

const COLUMNS = 'id, org_id, cron, rule_ids, is_active, next_at, last_scan, last_error, version, created_at'

export async function insertSchedule(
  client: Client,
  tenant: string,
  { id, org_id, cron, rule_ids, next_at }: Pick<ScheduleRow, 'id' | 'org_id' | 'cron' | 'rule_ids' | 'next_at'>,
): Promise<ScheduleRow> {
  const { rows } = await client.query<ScheduleRow>(
    `INSERT INTO signet.scan_schedules (tenant, id, org_id, cron, rule_ids, next_at) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ${COLUMNS}`,
    [tenant, id, org_id, cron, rule_ids === null ? null : JSON.stringify(rule_ids), next_at],
  )
  return rows[0]!
}

export async function countSchedules(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    'SELECT count(*)::int AS count FROM signet.scan_schedules WHERE tenant = $1',
    [tenant],
  )
  return rows[0]?.count ?? 0
}

export async function listSchedules(client: Client, tenant: string): Promise<ScheduleRow[]> {
  const { rows } = await client.query<ScheduleRow>(
    `SELECT ${COLUMNS} FROM signet.scan_schedules WHERE tenant = $1 ORDER BY created_at, id`,
    [tenant],
  )
  return rows
}

export async function findSchedule(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<ScheduleRow | null> {
  const { rows } = await client.query<ScheduleRow>(
    `SELECT ${COLUMNS} FROM signet.scan_schedules WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function updateSchedule(
  client: Client,
  tenant: string,
  { id, cron, is_active, next_at }: Pick<ScheduleRow, 'id' | 'cron' | 'is_active' | 'next_at'>,
): Promise<ScheduleRow> {
  const { rows } = await client.query<ScheduleRow>(
    `UPDATE signet.scan_schedules SET cron = $3, is_active = $4, next_at = $5, version = version + 1, updated_at = now()
     WHERE tenant = $1 AND id = $2 RETURNING ${COLUMNS}`,
    [tenant, id, cron, is_active, next_at],
  )
  return rows[0]!
}

export async function deleteSchedule(client: Client, tenant: string, id: string): Promise<void> {
  await client.query('DELETE FROM signet.scan_schedules WHERE tenant = $1 AND id = $2', [tenant, id])
}

/** One run of a schedule: whoever has `run_id` has the word for it, until `run_until`. */
export type ScheduledRun = ScheduleRow & {
  readonly run_id: string
  /** How often this time was begun, this run included. */
  readonly run_attempts: number
}

/**
 * Begins the schedule that is due for longest and that nobody has the word for; null where none is. It stays due: whoever does not come back leaves it
 * to the next, once `until` is over.
 */
export async function beginRun(
  client: Client,
  tenant: string,
  { runId, now, until }: { readonly runId: string; readonly now: Date; readonly until: Date },
): Promise<ScheduledRun | null> {
  const { rows } = await client.query<ScheduledRun>(
    `UPDATE signet.scan_schedules SET run_id = $2, run_until = $4, run_attempts = run_attempts + 1 WHERE tenant = $1 AND id = (
       SELECT id FROM signet.scan_schedules
       WHERE tenant = $1 AND is_active AND next_at <= $3 AND (run_until IS NULL OR run_until <= $3)
       ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
     RETURNING ${COLUMNS}, run_id, run_attempts`,
    [tenant, runId, now, until],
  )
  return rows[0] ?? null
}

/** False where the run is another's by now. */
export async function keepRun(client: Client, tenant: string, runId: string, until: Date): Promise<boolean> {
  const { rowCount } = await client.query(
    'UPDATE signet.scan_schedules SET run_until = $3 WHERE tenant = $1 AND run_id = $2',
    [tenant, runId, until],
  )
  return rowCount === 1
}

/** What failed for a reason that passes is begun again after `until`. */
export async function postponeRun(
  client: Client,
  tenant: string,
  runId: string,
  { until, error }: { readonly until: Date; readonly error: string },
): Promise<void> {
  await client.query(
    'UPDATE signet.scan_schedules SET run_until = $3, last_error = $4 WHERE tenant = $1 AND run_id = $2',
    [tenant, runId, until, error],
  )
}

/** Ends a run, and sets the next time to `nextOf` it. False where the run is another's by now, or the schedule is gone: then nothing is changed. */
export async function endRun(
  client: Client,
  tenant: string,
  runId: string,
  { scan, error, nextOf }: { scan: string | null; error: string | null; nextOf: (cron: string) => Date },
): Promise<boolean> {
  const { rows } = await client.query<{ id: string; cron: string }>(
    'SELECT id, cron FROM signet.scan_schedules WHERE tenant = $1 AND run_id = $2 FOR UPDATE',
    [tenant, runId],
  )
  const [row] = rows
  if (row === undefined) return false
  await client.query(
    `UPDATE signet.scan_schedules SET next_at = $3, run_id = NULL, run_until = NULL, run_attempts = 0,
       last_scan = coalesce($4, last_scan), last_error = $5 WHERE tenant = $1 AND id = $2`,
    [tenant, row.id, nextOf(row.cron), scan, error],
  )
  return true
}
