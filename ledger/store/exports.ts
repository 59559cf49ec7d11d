import { query, type Pool } from '#runtime/postgres/transaction.ts'
import type { ExportPackage, ExportRequest } from '../export/request.ts'

/** An export in the work database. */
export type ExportJob = {
  readonly id: string
  readonly tenant: string
  readonly requestedBy: string
  readonly request: ExportRequest
  readonly headSeq: number
  readonly state: 'queued' | 'running' | 'done' | 'failed'
  readonly createdAt: Date
  readonly expiresAt: Date
  readonly attempts: number
  readonly recordsFound: number
  readonly foundExact: boolean
  readonly recordsDone: number
  readonly finishedAt: Date | null
  readonly package: ExportPackage | null
  readonly error: { readonly code: string; readonly detail: string } | null
}
export type Freeze = { readonly frozenAt: Date; readonly frozenBy: string; readonly reason: string }

type Row = {
  id: string
  tenant: string
  requested_by: string
  request: ExportRequest
  head_seq: string
  state: ExportJob['state']
  created_at: Date
  expires_at: Date
  attempts: number
  records_found: string
  found_exact: boolean
  records_done: string
  finished_at: Date | null
  package: ExportPackage | null
  error: ExportJob['error']
}

/** Keeps a job, unless the tenant has `max` that have not expired. False then. */
export async function insertExport(
  work: Pool,
  job: Pick<
    ExportJob,
    'id' | 'tenant' | 'requestedBy' | 'request' | 'headSeq' | 'createdAt' | 'expiresAt' | 'recordsFound' | 'foundExact'
  >,
  max: number,
): Promise<boolean> {
  const rows = await query(
    work,
    `INSERT INTO signet.exports (id, tenant, requested_by, request, head_seq, state, created_at, expires_at, records_found, found_exact)
     SELECT $1, $2::text, $3, $4, $5, 'queued', $6::timestamptz, $7, $8, $9
      WHERE (SELECT count(*) FROM signet.exports WHERE tenant = $2 AND expires_at > $6) < $10
     RETURNING id`,
    [
      job.id,
      job.tenant,
      job.requestedBy,
      JSON.stringify(job.request),
      job.headSeq,
      job.createdAt,
      job.expiresAt,
      job.recordsFound,
      job.foundExact,
      max,
    ],
  )
  return rows.length === 1
}

/** How many exports of a tenant have not expired. */
export async function countExports(work: Pool, tenant: string, at: Date): Promise<number> {
  const [row] = await query<{ n: number }>(
    work,
    'SELECT count(*)::int AS n FROM signet.exports WHERE tenant = $1 AND expires_at > $2',
    [tenant, at],
  )
  return row?.n ?? 0
}

export async function findExport(work: Pool, tenant: string, id: string): Promise<ExportJob | null> {
  const [row] = await query<Row>(work, 'SELECT * FROM signet.exports WHERE tenant = $1 AND id = $2', [tenant, id])
  return row === undefined ? null : jobOf(row)
}

/** Takes the oldest job that nobody works on, until `until`. Jobs of tenants whose exports are frozen wait. */
export async function claimExport(work: Pool, claimant: string, at: Date, until: Date): Promise<ExportJob | null> {
  const [row] = await query<Row>(
    work,
    `UPDATE signet.exports SET state = 'running', claimed_by = $1, claimed_until = $3, attempts = attempts + 1, records_done = 0
      WHERE id = (SELECT id FROM signet.exports e
                   WHERE (state = 'queued' OR (state = 'running' AND claimed_until < $2)) AND expires_at > $2
                     AND NOT EXISTS (SELECT FROM signet.export_freezes f WHERE f.tenant = e.tenant)
                   ORDER BY created_at LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING *`,
    [claimant, at, until],
  )
  return row === undefined ? null : jobOf(row)
}

/** Says how far a job is, and keeps it until `until`. False when another process has taken it over, or its tenant's exports are frozen. */
export async function keepExport(
  work: Pool,
  claim: { readonly id: string; readonly claimant: string },
  recordsDone: number,
  until: Date,
): Promise<boolean> {
  const rows = await query(
    work,
    `UPDATE signet.exports e SET records_done = $3, claimed_until = $4
      WHERE id = $1 AND claimed_by = $2 AND state = 'running'
        AND NOT EXISTS (SELECT FROM signet.export_freezes f WHERE f.tenant = e.tenant)
      RETURNING id`,
    [claim.id, claim.claimant, recordsDone, until],
  )
  return rows.length === 1
}

/** Gives a job back, for the next who asks. */
export async function releaseExport(work: Pool, claim: { id: string; claimant: string }): Promise<void> {
  await query(
    work,
    `UPDATE signet.exports SET state = 'queued', claimed_by = NULL, claimed_until = NULL, attempts = attempts - 1
      WHERE id = $1 AND claimed_by = $2 AND state = 'running'`,
    [claim.id, claim.claimant],
  )
}

export async function finishExport(
  work: Pool,
  claim: { readonly id: string; readonly claimant: string },
  outcome:
    | { readonly package: ExportPackage; readonly recordsDone: number }
    | { readonly error: NonNullable<ExportJob['error']> },
  at: Date,
): Promise<boolean> {
  const done = 'package' in outcome
  const rows = await query(
    work,
    `UPDATE signet.exports SET state = $3, package = $4, error = $5, finished_at = $6, records_done = coalesce($7, records_done)
      WHERE id = $1 AND claimed_by = $2 AND state = 'running' RETURNING id`,
    [
      claim.id,
      claim.claimant,
      done ? 'done' : 'failed',
      done ? JSON.stringify(outcome.package) : null,
      done ? null : JSON.stringify(outcome.error),
      at,
      done ? outcome.recordsDone : null,
    ],
  )
  return rows.length === 1
}

/** Exports of a tenant that have not been forgotten, newest first. */
export async function listExports(work: Pool, tenant: string, limit: number): Promise<ExportJob[]> {
  const rows = await query<Row>(
    work,
    'SELECT * FROM signet.exports WHERE tenant = $1 ORDER BY created_at DESC, id LIMIT $2',
    [tenant, limit],
  )
  return rows.map(jobOf)
}

/**
 * A finished export that somebody is to be told of, claimed until the next try: `againMinutes[n]` after the nth failure, not again after the
 * last of them.
 */
export async function claimTelling(work: Pool, at: Date, againMinutes: readonly number[]): Promise<ExportJob | null> {
  const [row] = await query<Row>(
    work,
    `UPDATE signet.exports SET tell_attempts = tell_attempts + 1,
        tell_after = $1::timestamptz + make_interval(mins => ($2::int[])[tell_attempts + 1])
      WHERE id = (SELECT id FROM signet.exports
                   WHERE told_at IS NULL AND finished_at IS NOT NULL AND request ? 'notify' AND tell_attempts < $3
                     AND (tell_after IS NULL OR tell_after <= $1) AND expires_at > $1
                   ORDER BY finished_at LIMIT 1 FOR UPDATE SKIP LOCKED)
      RETURNING *`,
    [at, againMinutes, againMinutes.length],
  )
  return row === undefined ? null : jobOf(row)
}

export async function markTold(work: Pool, id: string, at: Date): Promise<void> {
  await query(work, 'UPDATE signet.exports SET told_at = $2 WHERE id = $1', [id, at])
}

/** Forgets what expired before. */
export async function forgetExports(work: Pool, before: Date): Promise<void> {
  await query(work, 'DELETE FROM signet.exports WHERE expires_at < $1', [before])
}

export async function findFreeze(work: Pool, tenant: string): Promise<Freeze | null> {
  const [row] = await query<{ frozen_at: Date; frozen_by: string; reason: string }>(
    work,
    'SELECT frozen_at, frozen_by, reason FROM signet.export_freezes WHERE tenant = $1',
    [tenant],
  )
  return row === undefined ? null : { frozenAt: row.frozen_at, frozenBy: row.frozen_by, reason: row.reason }
}

/** The freeze in force afterwards: the first one, where there was one. */
export async function saveFreeze(work: Pool, tenant: string, freeze: Freeze): Promise<void> {
  await query(
    work,
    'INSERT INTO signet.export_freezes (tenant, frozen_at, frozen_by, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (tenant) DO NOTHING',
    [tenant, freeze.frozenAt, freeze.frozenBy, freeze.reason],
  )
}

export async function removeFreeze(work: Pool, tenant: string): Promise<void> {
  await query(work, 'DELETE FROM signet.export_freezes WHERE tenant = $1', [tenant])
}

function jobOf(row: Row): ExportJob {
  return {
    id: row.id,
    tenant: row.tenant,
    requestedBy: row.requested_by,
    request: row.request,
    headSeq: Number(row.head_seq),
    state: row.state,
    createdAt: row.created_at,
    expiresAt: row.expires_at,
    attempts: row.attempts,
    recordsFound: Number(row.records_found),
    foundExact: row.found_exact,
    recordsDone: Number(row.records_done),
    finishedAt: row.finished_at,
    package: row.package,
    error: row.error,
  }
}
