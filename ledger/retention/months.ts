import { query, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'

/** A month of a class that has a partition of its own. `month`: first day, `2026-11-01`. */
export type ClassMonth = { readonly retentionClass: string; readonly month: string }
export type MonthState = ClassMonth & { readonly hotUntil: Date; readonly keepUntil: Date; readonly never: boolean }

/** Why a month may not be purged. `tenant`: whose reason it is; null where it is nobody's. */
export const OBSTACLES = [
  'no-class',
  'no-partition',
  'never',
  'hot',
  'clock',
  'held',
  'incomplete',
  'not-archived',
  'archive-short',
  'not-recorded',
  'broken',
  'busy',
] as const
export type Obstacle = {
  readonly reason: (typeof OBSTACLES)[number]
  readonly tenant: string | null
  readonly detail: string
}

/** `due`: nothing is in the way. `held`: a hold is. `blocked`: something else, past the hot period. */
export const MONTH_STATES = ['hot', 'never', 'due', 'held', 'blocked'] as const
export type MonthVerdict = (typeof MONTH_STATES)[number]

export function verdictOf(obstacles: readonly Obstacle[]): MonthVerdict {
  const reasons = new Set(obstacles.map(({ reason }) => reason))
  if (reasons.size === 0) return 'due'
  if (reasons.has('never')) return 'never'
  if (reasons.has('hot')) return 'hot'
  return reasons.has('held') ? 'held' : 'blocked'
}

/** All months of all classes. */
export async function readMonths(wall: Pool): Promise<MonthState[]> {
  const rows = await query<{
    retention_class: string
    month: string
    hot_until: Date
    keep_until: Date
    never: boolean
  }>(wall, 'SELECT retention_class, month::text, hot_until, keep_until, never FROM signet.retention_months()')
  return rows.map((row) => ({
    retentionClass: row.retention_class,
    month: row.month,
    hotUntil: row.hot_until,
    keepUntil: row.keep_until,
    never: row.never,
  }))
}

/** What the wall says against purging a month. `recorded`: whether purge records have to be in the chains. Reads the month once it is due. */
export async function readObstacles(
  wall: Pool,
  { retentionClass, month }: ClassMonth,
  recorded: boolean,
): Promise<Obstacle[]> {
  const rows = await query<{ reason: Obstacle['reason']; tenant: string | null; detail: string }>(
    wall,
    'SELECT reason, tenant, detail FROM signet.purge_obstacles($1, $2::date, $3)',
    [retentionClass, month, recorded],
  )
  return rows
}

export type TenantPart = {
  readonly tenant: string
  readonly firstSeq: number
  readonly lastSeq: number
  readonly records: number
}

/** Whose records a month has. */
export async function readParts(wall: Pool, { retentionClass, month }: ClassMonth): Promise<TenantPart[]> {
  const rows = await query<{ tenant: string; first_seq: string; last_seq: string; records: string }>(
    wall,
    'SELECT tenant, first_seq, last_seq, records FROM signet.retention_tenants($1, $2::date)',
    [retentionClass, month],
  )
  return rows.map((row) => ({
    tenant: row.tenant,
    firstSeq: Number(row.first_seq),
    lastSeq: Number(row.last_seq),
    records: Number(row.records),
  }))
}

/** The months of classes that have records of a tenant. */
export async function readTenantMonths(
  client: Client,
  tenant: string,
  months: readonly MonthState[],
): Promise<MonthState[]> {
  if (months.length === 0) return []
  const { rows } = await client.query<{ place: string }>(
    `SELECT m.place FROM unnest($2::text[], $3::date[]) WITH ORDINALITY AS m(class, month, place)
      WHERE EXISTS (SELECT FROM signet.records r WHERE r.tenant = $1 AND r.retention_class = m.class AND r.month = m.month)`,
    [tenant, months.map(({ retentionClass }) => retentionClass), months.map(({ month }) => month)],
  )
  return rows.flatMap(({ place }) => months[Number(place) - 1] ?? [])
}

export type PurgedMonth = ClassMonth & {
  readonly firstSeq: number
  readonly lastSeq: number
  readonly records: number
  /** Where in the chain the purge was recorded. */
  readonly authorizedSeq: number
  readonly snapshot: string
  readonly purgedAt: Date
}

/** What was purged of a tenant, the latest first. */
export async function readPurged(wall: Pool, tenant: string, limit: number): Promise<PurgedMonth[]> {
  return withTenant(wall, tenant, (client) => readPurgedOf(client, tenant, limit), { readOnly: true })
}

export async function readPurgedOf(client: Client, tenant: string, limit: number): Promise<PurgedMonth[]> {
  const { rows } = await client.query<{
    retention_class: string
    month: string
    first_seq: string
    last_seq: string
    records: string
    authorized_seq: string
    snapshot: string
    purged_at: Date
  }>(
    `SELECT retention_class, month::text, first_seq, last_seq, records, authorized_seq, snapshot, purged_at
       FROM signet.purges WHERE tenant = $1 ORDER BY purged_at DESC, retention_class, month DESC LIMIT $2`,
    [tenant, limit],
  )
  return rows.map((row) => ({
    retentionClass: row.retention_class,
    month: row.month,
    firstSeq: Number(row.first_seq),
    lastSeq: Number(row.last_seq),
    records: Number(row.records),
    authorizedSeq: Number(row.authorized_seq),
    snapshot: row.snapshot,
    purgedAt: row.purged_at,
  }))
}

export type SummaryLine = {
  readonly retention_class: string
  readonly day: string
  readonly event_type: string
  readonly outcome: string
  readonly records: number
}

const MAX_SUMMARY_LINES = 20_000

/** What purges of a month left of a tenant's records: counts. */
export async function readSummary(client: Client, tenant: string, month: string): Promise<SummaryLine[]> {
  const { rows } = await client.query<Omit<SummaryLine, 'records'> & { records: string }>(
    `SELECT retention_class, day::text, event_type, outcome, records FROM signet.purge_summaries
      WHERE tenant = $1 AND month = $2::date ORDER BY day, event_type, outcome, retention_class LIMIT ${MAX_SUMMARY_LINES}`,
    [tenant, month],
  )
  return rows.map((row) => ({ ...row, records: Number(row.records) }))
}
