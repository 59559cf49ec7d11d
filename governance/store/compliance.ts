import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { ReferenceKind } from '../events/reference-kinds.ts'

export type ReferenceRow = {
  readonly kind: ReferenceKind
  readonly key: string
  readonly value: JsonObject
  readonly version: number
  readonly updated_by: string
  readonly created_at: Date
  readonly updated_at: Date
}
export type EventRow = {
  readonly id: string
  readonly source: string
  readonly event_type: string
  readonly subject: string | null
  readonly amount: number | null
  readonly details: JsonObject
  readonly made_by: string
  readonly created_at: Date
}
export type ViolationState = 'open' | 'contained' | 'resolved'
export type ViolationRow = {
  readonly id: string
  readonly event_id: string
  readonly rule: string
  readonly severity: 'low' | 'medium' | 'high' | 'critical'
  readonly severity_rank: number
  readonly subject: string | null
  readonly summary: string
  readonly state: ViolationState
  readonly resolved_by: string | null
  readonly resolved_at: Date | null
  readonly resolution: JsonObject | null
  readonly created_at: Date
}
const REFERENCE = 'kind, key, value, version, updated_by, created_at, updated_at'
export const VIOLATION =
  'id, event_id, rule, severity, severity_rank, subject, summary, state, resolved_by, resolved_at, resolution, created_at'

export async function putReference(
  client: Client,
  tenant: string,
  { kind, key, value, updated_by }: Pick<ReferenceRow, 'kind' | 'key' | 'value' | 'updated_by'>,
): Promise<ReferenceRow> {
  const { rows } = await client.query<ReferenceRow>(
    `INSERT INTO signet.compliance_reference (tenant, kind, key, value, updated_by) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tenant, kind, key) DO UPDATE SET value = $4, updated_by = $5, version = compliance_reference.version + 1, updated_at = now()
     RETURNING ${REFERENCE}`,
    [tenant, kind, key, JSON.stringify(value), updated_by],
  )
  return rows[0]!
}

export async function findReference(
  client: Client,
  tenant: string,
  kind: ReferenceKind,
  key: string,
  lock = false,
): Promise<ReferenceRow | null> {
  const { rows } = await client.query<ReferenceRow>(
    `SELECT ${REFERENCE} FROM signet.compliance_reference WHERE tenant = $1 AND kind = $2 AND key = $3${lock ? ' FOR UPDATE' : ''}`,
    [tenant, kind, key],
  )
  return rows[0] ?? null
}

/** By key, after `after`; one more than `limit` where there is a next page. */
export async function listReference(
  client: Client,
  tenant: string,
  kind: ReferenceKind,
  { after, limit }: { after: string | null; limit: number },
): Promise<ReferenceRow[]> {
  const { rows } = await client.query<ReferenceRow>(
    `SELECT ${REFERENCE} FROM signet.compliance_reference WHERE tenant = $1 AND kind = $2 AND ($3::text IS NULL OR key > $3) ORDER BY key LIMIT $4`,
    [tenant, kind, after, limit + 1],
  )
  return rows
}

export async function deleteReference(client: Client, tenant: string, kind: ReferenceKind, key: string): Promise<void> {
  await client.query('DELETE FROM signet.compliance_reference WHERE tenant = $1 AND kind = $2 AND key = $3', [
    tenant,
    kind,
    key,
  ])
}

export async function insertEvent(
  client: Client,
  tenant: string,
  event: Omit<EventRow, 'created_at'>,
): Promise<EventRow> {
  // One event of a subject after the other: each is compared with all that came before it.
  if (event.subject !== null)
    await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [
      JSON.stringify([tenant, event.source, event.subject]),
    ])
  const { rows } = await client.query<EventRow>(
    `INSERT INTO signet.compliance_events (tenant, id, source, event_type, subject, amount, details, made_by, created_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp()) RETURNING id, source, event_type, subject, amount, details, made_by, created_at`,
    [
      tenant,
      event.id,
      event.source,
      event.event_type,
      event.subject,
      event.amount,
      JSON.stringify(event.details),
      event.made_by,
    ],
  )
  return rows[0]!
}

export async function findEvent(client: Client, tenant: string, id: string): Promise<EventRow | null> {
  const { rows } = await client.query<EventRow>(
    `SELECT id, source, event_type, subject, amount, details, made_by, created_at FROM signet.compliance_events WHERE tenant = $1 AND id = $2`,
    [tenant, id],
  )
  return rows[0] ?? null
}

/** The sum of a subject's amounts in the calendar month (UTC) of `at`, of events before it. */
export async function usedInMonth(
  client: Client,
  tenant: string,
  source: string,
  subject: string,
  event: { readonly id: string; readonly at: Date },
): Promise<number> {
  const { rows } = await client.query<{ used: number }>(
    `SELECT coalesce(sum(amount), 0)::float8 AS used FROM signet.compliance_events
     WHERE tenant = $1 AND source = $2 AND subject = $3 AND id <> $4 AND created_at <= $5
       AND created_at >= date_trunc('month', $5::timestamptz, 'UTC')`,
    [tenant, source, subject, event.id, event.at],
  )
  return rows[0]?.used ?? 0
}

export type ActivityHistory = { readonly count: number; readonly mean: number; readonly deviation: number }

/** A subject's amounts in the thirty days before `at`; the newest thousand. */
export async function historyOf(
  client: Client,
  tenant: string,
  source: string,
  subject: string,
  event: { readonly id: string; readonly at: Date },
): Promise<ActivityHistory> {
  const { rows } = await client.query<ActivityHistory>(
    `SELECT count(*)::int AS count, coalesce(avg(amount), 0)::float8 AS mean, coalesce(stddev_pop(amount), 0)::float8 AS deviation FROM (
       SELECT amount FROM signet.compliance_events WHERE tenant = $1 AND source = $2 AND subject = $3 AND id <> $4
         AND created_at <= $5 AND created_at > $5::timestamptz - interval '30 days' AND amount IS NOT NULL
       ORDER BY created_at DESC LIMIT 1000) AS newest`,
    [tenant, source, subject, event.id, event.at],
  )
  return rows[0] ?? { count: 0, mean: 0, deviation: 0 }
}

export async function insertViolation(
  client: Client,
  tenant: string,
  made: Pick<ViolationRow, 'id' | 'event_id' | 'rule' | 'severity' | 'severity_rank' | 'subject' | 'summary'>,
): Promise<ViolationRow> {
  const { rows } = await client.query<ViolationRow>(
    `INSERT INTO signet.compliance_violations (tenant, id, event_id, rule, severity, severity_rank, subject, summary)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING ${VIOLATION}`,
    [tenant, made.id, made.event_id, made.rule, made.severity, made.severity_rank, made.subject, made.summary],
  )
  return rows[0]!
}

export async function findViolation(
  client: Client,
  tenant: string,
  id: string,
  lock = false,
): Promise<ViolationRow | null> {
  const { rows } = await client.query<ViolationRow>(
    `SELECT ${VIOLATION} FROM signet.compliance_violations WHERE tenant = $1 AND id = $2${lock ? ' FOR UPDATE' : ''}`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export type ViolationCursor = { readonly rank: number; readonly at: Date; readonly id: string }

/** Those that are not resolved, the worst first, of these the newest; one more than `limit` where there is a next page. */
export async function listUnresolved(
  client: Client,
  tenant: string,
  { after, limit }: { after: ViolationCursor | null; limit: number },
): Promise<ViolationRow[]> {
  const { rows } = await client.query<ViolationRow>(
    `SELECT ${VIOLATION} FROM signet.compliance_violations
     WHERE tenant = $1 AND state <> 'resolved' AND ($2::int IS NULL OR severity_rank > $2 OR (severity_rank = $2 AND (created_at, id) < ($3, $4::uuid)))
     ORDER BY severity_rank, created_at DESC, id DESC LIMIT $5`,
    [tenant, after?.rank ?? null, after?.at ?? null, after?.id ?? null, limit + 1],
  )
  return rows
}

export async function setViolation(
  client: Client,
  tenant: string,
  id: string,
  {
    state,
    by,
    resolution,
    now,
  }: {
    readonly state: ViolationState
    readonly by: string | null
    readonly resolution: JsonObject | null
    readonly now: Date
  },
): Promise<ViolationRow> {
  const { rows } = await client.query<ViolationRow>(
    `UPDATE signet.compliance_violations SET state = $3::text, resolved_by = $4, resolution = $5, resolved_at = CASE WHEN $3::text = 'resolved' THEN $6::timestamptz END
     WHERE tenant = $1 AND id = $2 RETURNING ${VIOLATION}`,
    [tenant, id, state, by, resolution === null ? null : JSON.stringify(resolution), now],
  )
  return rows[0]!
}

export type Stats = {
  readonly totalEvents: number
  readonly totalViolations: number
  readonly unresolvedCount: number
  readonly bySeverity: Readonly<Record<string, number>>
}

export async function countCompliance(client: Client, tenant: string): Promise<Stats> {
  const { rows } = await client.query<Stats>(
    `SELECT (SELECT count(*)::int FROM signet.compliance_events WHERE tenant = $1) AS "totalEvents",
       (SELECT count(*)::int FROM signet.compliance_violations WHERE tenant = $1) AS "totalViolations",
       (SELECT count(*)::int FROM signet.compliance_violations WHERE tenant = $1 AND state <> 'resolved') AS "unresolvedCount",
       (SELECT coalesce(json_object_agg(severity, n), '{}') FROM
         (SELECT severity, count(*)::int AS n FROM signet.compliance_violations WHERE tenant = $1 GROUP BY severity) s) AS "bySeverity"`,
    [tenant],
  )
  return rows[0]!
}
