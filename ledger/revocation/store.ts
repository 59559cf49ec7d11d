import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** What can be revoked: a bearer token by its SHA-256 (lowercase hex), all that calls as a producer, all that runs as a service account (`NAMESPACE/NAME`). */
export const REVOCATION_KINDS = ['token', 'producer', 'service_account'] as const
export type RevocationKind = (typeof REVOCATION_KINDS)[number]

/** Whose access is asked for, within a tenant. */
export type Target = { readonly tenant: string; readonly kind: RevocationKind; readonly target: string }
/** A revocation that holds. */
export type Standing = Target & { readonly id: string; readonly reason: string }

export type Revocation = Standing & {
  readonly revokedBy: string
  readonly revokedAt: Date
  /** When it was in the chain; null until then. */
  readonly recordedAt: Date | null
  readonly lifted: { readonly by: string; readonly reason: string; readonly at: Date } | null
}

type Row = {
  tenant: string
  id: string
  kind: RevocationKind
  target: string
  reason: string
  revoked_by: string
  revoked_at: Date
  recorded_at: Date | null
  lifted_by: string | null
  lift_reason: string | null
  lifted_at: Date | null
}
const COLUMNS =
  'tenant, id, kind, target, reason, revoked_by, revoked_at, recorded_at, lifted_by, lift_reason, lifted_at'

function revocationOf(row: Row): Revocation {
  const { tenant, id, kind, target, reason, revoked_by: revokedBy, revoked_at: revokedAt } = row
  const lifted =
    row.lifted_at === null ? null : { by: row.lifted_by ?? '', reason: row.lift_reason ?? '', at: row.lifted_at }
  return { tenant, id, kind, target, reason, revokedBy, revokedAt, recordedAt: row.recorded_at, lifted }
}

/** Those of the targets that are revoked now. */
export async function findStanding(work: Pool, targets: readonly Target[]): Promise<Standing[]> {
  return query<Standing>(
    work,
    `SELECT r.tenant, r.kind, r.target, r.id, r.reason
       FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (tenant, kind, target)
       JOIN signet.revocations r USING (tenant, kind, target) WHERE r.lifted_at IS NULL`,
    [targets.map(({ tenant }) => tenant), targets.map(({ kind }) => kind), targets.map(({ target }) => target)],
  )
}

/** Makes it stand, or finds the one that stands already: of two at a time one is made. */
export async function insertRevocation(
  work: Pool,
  made: Standing & { readonly revokedBy: string; readonly revokedAt: Date },
): Promise<Revocation> {
  const { tenant, id, kind, target, reason, revokedBy, revokedAt } = made
  const [row] = await query<Row>(
    work,
    // DO UPDATE of nothing: DO NOTHING would not show the row that is there.
    `INSERT INTO signet.revocations AS r (tenant, id, kind, target, reason, revoked_by, revoked_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (tenant, kind, target) WHERE lifted_at IS NULL DO UPDATE SET kind = r.kind
     RETURNING ${COLUMNS}`,
    [tenant, id, kind, target, reason, revokedBy, revokedAt],
  )
  if (row === undefined) throw new Error('an upsert returned no row')
  return revocationOf(row)
}

export async function countStanding(work: Pool, tenant: string): Promise<number> {
  const [row] = await query<{ count: string }>(
    work,
    'SELECT count(*) FROM signet.revocations WHERE tenant = $1 AND lifted_at IS NULL',
    [tenant],
  )
  return Number(row?.count ?? 0)
}

export async function findRevocation(work: Pool, tenant: string, id: string): Promise<Revocation | null> {
  const [row] = await query<Row>(work, `SELECT ${COLUMNS} FROM signet.revocations WHERE tenant = $1 AND id = $2`, [
    tenant,
    id,
  ])
  return row === undefined ? null : revocationOf(row)
}

/** The newest first, older than `before`. `standing`: without those that were lifted. */
export async function listRevocations(
  work: Pool,
  tenant: string,
  page: { readonly before: string | null; readonly standing: boolean; readonly limit: number },
): Promise<Revocation[]> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.revocations
      WHERE tenant = $1 AND ($2::uuid IS NULL OR id < $2) AND (NOT $3 OR lifted_at IS NULL)
      ORDER BY id DESC LIMIT $4`,
    [tenant, page.before, page.standing, page.limit],
  )
  return rows.map(revocationOf)
}

export async function saveRecorded(work: Pool, { tenant, id }: Standing, at: Date): Promise<void> {
  await query(
    work,
    'UPDATE signet.revocations SET recorded_at = coalesce(recorded_at, $3) WHERE tenant = $1 AND id = $2',
    [tenant, id, at],
  )
}

export async function saveLifted(
  work: Pool,
  { tenant, id }: Standing,
  lifted: NonNullable<Revocation['lifted']>,
): Promise<void> {
  await query(
    work,
    `UPDATE signet.revocations SET lifted_by = $3, lift_reason = $4, lifted_at = $5
      WHERE tenant = $1 AND id = $2 AND lifted_at IS NULL`,
    [tenant, id, lifted.by, lifted.reason, lifted.at],
  )
}

/** Revocations that are not in the chain yet, the oldest first. */
export async function findUnrecorded(work: Pool, limit: number): Promise<Revocation[]> {
  const rows = await query<Row>(
    work,
    `SELECT ${COLUMNS} FROM signet.revocations WHERE recorded_at IS NULL ORDER BY revoked_at LIMIT $1`,
    [limit],
  )
  return rows.map(revocationOf)
}

/** Lets go of what was lifted before `before`: the chain has it. */
export async function forgetLifted(work: Pool, before: Date): Promise<void> {
  await query(
    work,
    `DELETE FROM signet.revocations WHERE (tenant, id) IN
       (SELECT tenant, id FROM signet.revocations WHERE lifted_at < $1 AND recorded_at IS NOT NULL LIMIT 1000)`,
    [before],
  )
}
