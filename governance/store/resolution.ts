import type { JsonObject } from '#core/json/value.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { ChosenStrategies } from '../resolution/strategies.ts'
import type { Undo } from '../resolution/undo.ts'
import { VIOLATION, type ViolationRow } from './compliance.ts'

export type AttemptRow = {
  readonly id: string
  readonly violation_id: string
  readonly strategy: string
  readonly dry_run: boolean
  readonly outcome: 'resolved' | 'contained' | 'not_resolved' | 'failed' | 'would_act' | 'waiting'
  readonly detail: string
  readonly evidence: JsonObject
  readonly undo: Undo | null
  readonly undone_at: Date | null
  readonly undone_by: string | null
  readonly created_at: Date
}

const ATTEMPT = 'id, violation_id, strategy, dry_run, outcome, detail, evidence, undo, undone_at, undone_by, created_at'

export async function insertAttempt(
  client: Client,
  tenant: string,
  made: Omit<AttemptRow, 'created_at' | 'undone_at' | 'undone_by'>,
): Promise<void> {
  await client.query(
    `INSERT INTO signet.resolution_attempts (tenant, id, violation_id, strategy, dry_run, outcome, detail, evidence, undo)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
    [
      tenant,
      made.id,
      made.violation_id,
      made.strategy,
      made.dry_run,
      made.outcome,
      made.detail,
      JSON.stringify(made.evidence),
      made.undo === null ? null : JSON.stringify(made.undo),
    ],
  )
}

/** Oldest first, the last hundred. */
export async function listAttempts(client: Client, tenant: string, violationId: string): Promise<AttemptRow[]> {
  const { rows } = await client.query<AttemptRow>(
    `SELECT * FROM (SELECT ${ATTEMPT} FROM signet.resolution_attempts
       WHERE tenant = $1 AND violation_id = $2 ORDER BY created_at DESC, id DESC LIMIT 100) AS newest ORDER BY created_at, id`,
    [tenant, violationId],
  )
  return rows
}

export async function findAttempt(client: Client, tenant: string, id: string): Promise<AttemptRow | null> {
  const { rows } = await client.query<AttemptRow>(
    `SELECT ${ATTEMPT} FROM signet.resolution_attempts WHERE tenant = $1 AND id = $2`,
    [tenant, id],
  )
  return rows[0] ?? null
}

export async function setUndone(
  client: Client,
  tenant: string,
  id: string,
  { by, now }: { readonly by: string; readonly now: Date },
): Promise<AttemptRow> {
  const { rows } = await client.query<AttemptRow>(
    `UPDATE signet.resolution_attempts SET undone_at = $3, undone_by = $4 WHERE tenant = $1 AND id = $2 RETURNING ${ATTEMPT}`,
    [tenant, id, now, by],
  )
  return rows[0]!
}

export type ResolutionMode = 'off' | 'dry_run' | 'on'
export type Settings = {
  readonly mode: ResolutionMode
  /** The tenant's own choice of strategies. */
  readonly strategies: ChosenStrategies
  /** Whether proxies hold back an endpoint that differs from its contract. */
  readonly block_endpoints: boolean
}
export type SettingsRow = Settings & { readonly updated_by: string | null; readonly updated_at: Date | null }

/** What holds for a tenant that has not said anything. */
const DEFAULTS: SettingsRow = {
  mode: 'dry_run',
  strategies: {},
  block_endpoints: false,
  updated_by: null,
  updated_at: null,
}

export async function findSettings(client: Client, tenant: string): Promise<SettingsRow> {
  const { rows } = await client.query<SettingsRow>(
    'SELECT mode, strategies, block_endpoints, updated_by, updated_at FROM signet.resolution_settings WHERE tenant = $1',
    [tenant],
  )
  return rows[0] ?? DEFAULTS
}

export async function putSettings(
  client: Client,
  tenant: string,
  { mode, strategies, block_endpoints, updated_by }: Settings & { readonly updated_by: string },
): Promise<SettingsRow> {
  const { rows } = await client.query<SettingsRow>(
    `INSERT INTO signet.resolution_settings (tenant, mode, strategies, block_endpoints, updated_by) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (tenant) DO UPDATE SET mode = $2, strategies = $3, block_endpoints = $4, updated_by = $5, updated_at = now()
     RETURNING mode, strategies, block_endpoints, updated_by, updated_at`,
    [tenant, mode, JSON.stringify(strategies), block_endpoints, updated_by],
  )
  return rows[0]!
}

/** Tries of one violation at most, dry ones not counted, and how long after one the next comes: twice as long each time, to a day. */
const MAX_ATTEMPTS = 6
const FIRST_WAIT = '30 seconds'
const LONGEST_WAIT = '1 day'
/** What waits for people is looked at for as long as this. */
const LONGEST_WATCH = '90 days'

/**
 * Open violations that are to be tried now, the worst first. A dry try is made once. What was undone by a person is left to people; what waits
 * for them is looked at again, once a day in the end.
 */
export async function dueViolations(client: Client, tenant: string, now: Date, limit: number): Promise<ViolationRow[]> {
  const { rows } = await client.query<ViolationRow>(
    `SELECT ${VIOLATION} FROM signet.compliance_violations v
     LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE NOT dry_run) AS tries, count(*) FILTER (WHERE dry_run) AS dry, max(created_at) AS last,
         bool_or(undone_at IS NOT NULL) AS undone, (array_agg(outcome ORDER BY created_at DESC, id DESC))[1] AS outcome
       FROM signet.resolution_attempts a WHERE a.tenant = v.tenant AND a.violation_id = v.id) a ON true
     WHERE v.tenant = $1 AND v.state = 'open' AND a.undone IS NOT TRUE
       AND (a.tries < ${MAX_ATTEMPTS} OR (a.outcome = 'waiting' AND v.created_at > $2::timestamptz - interval '${LONGEST_WATCH}'))
       AND (a.dry = 0 OR coalesce((SELECT mode FROM signet.resolution_settings WHERE tenant = $1), 'dry_run') = 'on')
       AND (a.tries = 0 OR a.last < $2::timestamptz - least(interval '${LONGEST_WAIT}', interval '${FIRST_WAIT}' * power(2, least(a.tries, 20) - 1)))
     ORDER BY v.severity_rank, v.created_at LIMIT $3`,
    [tenant, now, limit],
  )
  return rows
}
