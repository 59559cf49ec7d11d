import pg from 'pg'
import { SignetError } from '#core/error/signet-error.ts'
import { namesSomebody } from '#core/seal/mention.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'

/**
 * A legal hold: while it stands no partition that has a record which it selects is purged, and nobody of the tenant is erased. Months are
 * first days, `2026-11-01`; null selects all.
 */
export type Hold = {
  readonly id: string
  readonly tenant: string
  readonly reason: string
  readonly reference: string | null
  readonly dataDomains: readonly string[] | null
  readonly regions: readonly string[] | null
  readonly fromMonth: string | null
  readonly toMonth: string | null
  /** The policy that asks for it (`operator/NAME`, `api/NAME`); null for one placed by hand. */
  readonly policy: string | null
  readonly placedBy: string
  readonly placedAt: Date
}

/** Holds of a tenant that stand at a time. */
export const MAX_HOLDS = 1_000

type Row = {
  id: string
  tenant: string
  reason: string
  reference: string | null
  data_domains: string[] | null
  regions: string[] | null
  from_month: string | null
  to_month: string | null
  policy: string | null
  placed_by: string
  placed_at: Date
}

/** The holds of a tenant that stand now, the latest first. @throws SignetError DATABASE_UNAVAILABLE */
export async function holdsFor(wall: Pool, tenant: string): Promise<Hold[]> {
  return withTenant(wall, tenant, (client) => readHolds(client, tenant), { readOnly: true })
}

/** The same in a transaction that sees the tenant. */
export async function readHolds(client: Client, tenant: string): Promise<Hold[]> {
  const { rows } = await client.query<Row>(
    `SELECT h.id, h.tenant, h.reason, h.reference, h.data_domains, h.regions, h.from_month::text, h.to_month::text, h.policy, h.placed_by, h.placed_at
       FROM signet.legal_holds h
      WHERE h.tenant = $1 AND NOT EXISTS (SELECT FROM signet.legal_hold_releases r WHERE r.tenant = h.tenant AND r.id = h.id)
      ORDER BY h.placed_at DESC, h.id LIMIT ${MAX_HOLDS}`,
    [tenant],
  )
  return rows.map((row) => ({
    id: row.id,
    tenant: row.tenant,
    reason: row.reason,
    reference: row.reference,
    dataDomains: row.data_domains,
    regions: row.regions,
    fromMonth: row.from_month,
    toMonth: row.to_month,
    policy: row.policy,
    placedBy: row.placed_by,
    placedAt: row.placed_at,
  }))
}

/**
 * Places a hold. When it resolves, no purge that it forbids can still happen: a purge under way is waited for.
 * @throws SignetError TOO_MANY_REQUESTS past `MAX_HOLDS`, REQUEST_INVALID for one placed by hand that says an e-mail address, DATABASE_UNAVAILABLE
 */
export async function placeHold(wall: Pool, hold: Omit<Hold, 'placedAt'>): Promise<void> {
  // A policy's hold is not to fail for its words: whoever writes policies can write others.
  if (hold.policy === null) refuseNames([hold.reason, hold.reference ?? ''])
  await withTenant(wall, hold.tenant, async (client) => {
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('signet.retention', 0))")
    if ((await readHolds(client, hold.tenant)).length >= MAX_HOLDS)
      throw new SignetError('TOO_MANY_REQUESTS', `a tenant has at most ${MAX_HOLDS} holds at a time; release some`)
    await client.query(
      `INSERT INTO signet.legal_holds (tenant, id, reason, reference, data_domains, regions, from_month, to_month, policy, placed_by)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        hold.tenant,
        hold.id,
        hold.reason,
        hold.reference,
        hold.dataDomains,
        hold.regions,
        hold.fromMonth,
        hold.toMonth,
        hold.policy,
        hold.placedBy,
      ],
    )
  })
}

/**
 * What is said of a hold stays on the wall for ever, in clear: nobody named in it could be erased.
 * @throws SignetError REQUEST_INVALID for an e-mail address in it
 */
export function refuseNames(texts: readonly string[]): void {
  if (!texts.some((text) => namesSomebody(text))) return
  throw new SignetError(
    'REQUEST_INVALID',
    'the reason or the reference of a hold has an e-mail address, and is kept for ever: give the number of a case instead',
  )
}

/** Ends a hold; false where it had ended before. */
export async function releaseHold(
  wall: Pool,
  tenant: string,
  release: { readonly id: string; readonly reason: string; readonly releasedBy: string },
): Promise<boolean> {
  try {
    await withTenant(wall, tenant, (client) =>
      client.query('INSERT INTO signet.legal_hold_releases (tenant, id, reason, released_by) VALUES ($1, $2, $3, $4)', [
        tenant,
        release.id,
        release.reason,
        release.releasedBy,
      ]),
    )
    return true
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === '23505') return false
    throw error
  }
}
