import { query, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'

export type NewDomainEvent = {
  /** Unique within the tenant. */
  readonly id: string
  /** `policy.activated` */
  readonly type: string
  /** `policies/ID` */
  readonly subject: string
  /** RFC 3339. */
  readonly happenedAt: string
  /** JSON. */
  readonly data: string
}
export type WaitingEvent = {
  readonly seq: string
  readonly id: string
  readonly type: string
  readonly subject: string
  readonly happened_at: string
  readonly data: string
}
/** `events`: 100,001 stands for more than 100,000. */
export type Waiting = { readonly tenant: string; readonly oldest: Date; readonly events: number }
/** `rows` were taken away, which stand for `count` events: a row may tell of some that were lost before. */
export type Lost = { readonly rows: number; readonly count: number; readonly first: string; readonly last: string }

/** In the transaction of what they tell. Of one subject, numbers rise in the order of commits: its lock is held from before the number is drawn. */
export async function insertDomainEvents(
  client: Client,
  tenant: string,
  events: readonly NewDomainEvent[],
): Promise<void> {
  // In one order, so that no two transactions wait for each other.
  const keys = [...new Set(events.map(({ subject }) => `${tenant}/${subject}`))].sort()
  for (const key of keys)
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('domain_events/' || $1, 0))", [key])
  await client.query(
    `INSERT INTO signet.domain_events (tenant, id, type, subject, happened_at, data)
     SELECT $1, e.id, e.type, e.subject, e.at, e.data
     FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY AS e(id, type, subject, at, data, nth) ORDER BY e.nth`,
    [
      tenant,
      events.map(({ id }) => id),
      events.map(({ type }) => type),
      events.map(({ subject }) => subject),
      events.map(({ happenedAt }) => happenedAt),
      events.map(({ data }) => data),
    ],
  )
}

/** Tenants of which something waits, the longest first. @throws SignetError DATABASE_UNAVAILABLE */
export async function waitingDomainEvents(pool: Pool): Promise<Waiting[]> {
  const rows = await query<{ tenant: string; oldest: Date; events: string }>(
    pool,
    'SELECT tenant, oldest, events FROM signet.waiting_domain_events()',
  )
  return rows.map(({ tenant, oldest, events }) => ({ tenant, oldest, events: Number(events) }))
}

/**
 * The oldest events of a tenant, at most `limit`, once this process has the word for it, for `forMs` by the database's clock; null while another has it.
 */
export async function claimDomainEvents(
  pool: Pool,
  tenant: string,
  { holder, forMs, limit }: { readonly holder: string; readonly forMs: number; readonly limit: number },
): Promise<WaitingEvent[] | null> {
  return withTenant(pool, tenant, async (client) => {
    const { rowCount } = await client.query(
      `INSERT INTO signet.domain_event_duty AS d (tenant, claimed_by, claimed_until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
       ON CONFLICT (tenant) DO UPDATE SET claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
         WHERE d.claimed_by = $2 OR d.claimed_until < now()`,
      [tenant, holder, forMs],
    )
    if (rowCount === 0) return null
    const { rows } = await client.query<WaitingEvent>(
      'SELECT seq, id, type, subject, happened_at, data FROM signet.domain_events WHERE tenant = $1 ORDER BY seq LIMIT $2',
      [tenant, limit],
    )
    return rows
  })
}

export async function releaseDomainEvents(pool: Pool, tenant: string, holder: string): Promise<void> {
  await withTenant(pool, tenant, (client) =>
    client.query('DELETE FROM signet.domain_event_duty WHERE tenant = $1 AND claimed_by = $2', [tenant, holder]),
  )
}

/** The broker has them. */
export async function deleteDomainEvents(pool: Pool, tenant: string, seqs: readonly string[]): Promise<void> {
  await withTenant(pool, tenant, (client) =>
    client.query('DELETE FROM signet.domain_events WHERE tenant = $1 AND seq = ANY($2::bigint[])', [tenant, seqs]),
  )
}

/** Takes away, oldest first and `limit` at most, what came before `before` and what is beyond the `keep` newest; null where nothing is. */
export async function expireDomainEvents(
  client: Client,
  tenant: string,
  { before, keep, limit }: { readonly before: Date; readonly keep: number; readonly limit: number },
): Promise<Lost | null> {
  const { rows } = await client.query<{
    rows: number
    count: string | null
    first: string | null
    last: string | null
  }>(
    `WITH bound AS (SELECT seq FROM signet.domain_events WHERE tenant = $1 ORDER BY seq DESC OFFSET $3 LIMIT 1),
     gone AS (
       DELETE FROM signet.domain_events WHERE tenant = $1 AND seq IN (
         SELECT seq FROM signet.domain_events WHERE tenant = $1 AND (created_at < $2 OR seq <= (SELECT seq FROM bound)) ORDER BY seq LIMIT $4)
       RETURNING seq, CASE type WHEN 'events.lost' THEN data::jsonb END AS lost)
     SELECT count(*)::int AS rows, sum(coalesce((lost ->> 'count')::bigint, 1)) AS count,
       min(coalesce((lost ->> 'first_sequence')::bigint, seq)) AS first, max(seq) AS last FROM gone`,
    [tenant, before, keep, limit],
  )
  const [lost] = rows
  if (lost === undefined || lost.first === null || lost.last === null) return null
  return { rows: lost.rows, count: Number(lost.count), first: lost.first, last: lost.last }
}
