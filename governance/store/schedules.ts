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

/** The schedule that is due for longest, whose next time is set to `nextOf` it, so that no other process takes it; null where none is. */
export async function takeDue(
  client: Client,
  tenant: string,
  now: Date,
  nextOf: (cron: string) => Date,
): Promise<ScheduleRow | null> {
  const { rows } = await client.query<ScheduleRow>(
    `SELECT ${COLUMNS} FROM signet.scan_schedules WHERE tenant = $1 AND is_active AND next_at <= $2
     ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED`,
    [tenant, now],
  )
  const due = rows[0]
  if (due === undefined) return null
  await client.query('UPDATE signet.scan_schedules SET next_at = $3 WHERE tenant = $1 AND id = $2', [
    tenant,
    due.id,
    nextOf(due.cron),
  ])
  return due
}

export async function noteRun(
  client: Client,
  tenant: string,
  id: string,
  { scan, error }: { scan: string | null; error: string | null },
): Promise<void> {
  await client.query(
    `UPDATE signet.scan_schedules SET last_scan = coalesce($3, last_scan), last_error = $4 WHERE tenant = $1 AND id = $2`,
    [tenant, id, scan, error],
  )
}
