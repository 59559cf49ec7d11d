import { query, type Client, type Pool } from '#runtime/postgres/transaction.ts'

/** Takes the word for a topic for a while, or keeps it; false while another process has it. The clock is the database's. */
export async function claimFeed(work: Pool, topic: string, holder: string, forMs: number): Promise<boolean> {
  const rows = await query(
    work,
    `INSERT INTO signet.feed_duty AS d (topic, claimed_by, claimed_until) VALUES ($1, $2, now() + $3 * interval '1 millisecond')
     ON CONFLICT (topic) DO UPDATE SET claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until
       WHERE d.claimed_by = $2 OR d.claimed_by IS NULL OR d.claimed_until < now()
     RETURNING 1`,
    [topic, holder, forMs],
  )
  return rows.length > 0
}

export async function releaseFeed(work: Pool, topic: string, holder: string): Promise<void> {
  await query(work, 'UPDATE signet.feed_duty SET claimed_by = NULL WHERE topic = $1 AND claimed_by = $2', [
    topic,
    holder,
  ])
}

export async function readFeedCursors(work: Pool, topic: string): Promise<Map<string, number>> {
  const rows = await query<{ tenant: string; seq: string }>(
    work,
    'SELECT tenant, seq FROM signet.feed_cursors WHERE topic = $1',
    [topic],
  )
  return new Map(rows.map((row) => [row.tenant, Number(row.seq)]))
}

/** False where another process has the word now: what this one saw as sent, that one sends again. Never goes back. */
export async function saveFeedCursor(
  work: Pool,
  { topic, holder, tenant, seq }: { topic: string; holder: string; tenant: string; seq: number },
): Promise<boolean> {
  const rows = await query(
    work,
    `WITH word AS (SELECT 1 FROM signet.feed_duty WHERE topic = $1 AND claimed_by = $2 AND claimed_until > now() FOR UPDATE)
     INSERT INTO signet.feed_cursors AS c (topic, tenant, seq) SELECT $1, $3, $4 FROM word
     ON CONFLICT (topic, tenant) DO UPDATE SET seq = greatest(c.seq, excluded.seq)
     RETURNING 1`,
    [topic, holder, tenant, seq],
  )
  return rows.length > 0
}

/** The head of every chain. Leaps from one tenant to the next. In a transaction of `withTree`. */
export async function readHeads(client: Client): Promise<Map<string, number>> {
  const { rows } = await client.query<{ tenant: string; seq: string }>(
    `WITH RECURSIVE tenants AS (
       (SELECT tenant FROM signet.links ORDER BY tenant LIMIT 1)
       UNION ALL
       SELECT (SELECT l.tenant FROM signet.links l WHERE l.tenant > t.tenant ORDER BY l.tenant LIMIT 1) FROM tenants t WHERE t.tenant IS NOT NULL
     )
     SELECT t.tenant, h.seq FROM tenants t
       JOIN LATERAL (SELECT seq FROM signet.links l WHERE l.tenant = t.tenant ORDER BY seq DESC LIMIT 1) AS h ON true`,
  )
  return new Map(rows.map((row) => [row.tenant, Number(row.seq)]))
}

/** Heads of some chains, by tenant; one that is empty is left out. In a transaction of `withTree`. */
export async function readHeadsOf(client: Client, tenants: readonly string[]): Promise<Map<string, number>> {
  const { rows } = await client.query<{ tenant: string; seq: string }>(
    `SELECT t.tenant, h.seq FROM unnest($1::text[]) AS t(tenant)
       JOIN LATERAL (SELECT seq FROM signet.links l WHERE l.tenant = t.tenant ORDER BY seq DESC LIMIT 1) AS h ON true`,
    [tenants],
  )
  return new Map(rows.map((row) => [row.tenant, Number(row.seq)]))
}

/** When the earliest of these links was appended; null for none. In a transaction of `withTree`. */
export async function oldestAppended(
  client: Client,
  links: readonly { readonly tenant: string; readonly seq: number }[],
): Promise<Date | null> {
  const { rows } = await client.query<{ at: Date | null }>(
    `SELECT min(l.appended_at) AS at FROM unnest($1::text[], $2::bigint[]) AS w(tenant, seq)
       JOIN signet.links l ON l.tenant = w.tenant AND l.seq = w.seq`,
    [links.map((link) => link.tenant), links.map((link) => link.seq)],
  )
  return rows[0]?.at ?? null
}

export async function readLinkHash(client: Client, tenant: string, seq: number): Promise<Buffer | null> {
  const { rows } = await client.query<{ hash: Buffer }>(
    'SELECT hash FROM signet.links WHERE tenant = $1 AND seq = $2',
    [tenant, seq],
  )
  return rows[0]?.hash ?? null
}
