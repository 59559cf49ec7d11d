import { query, type Pool } from '#runtime/postgres/transaction.ts'

/** A session in the work database: a cursor, never evidence; the wall has the last word. */
export type SessionRow = { tenant: string; session: string; producerId: string; lastSpoolSeq: number }

export async function saveOpened(work: Pool, row: SessionRow & { software: string | null; at: Date }): Promise<void> {
  await query(
    work,
    `INSERT INTO signet.sessions AS s (tenant, session, producer_id, software, state, last_spool_seq, opened_at, last_seen_at)
     VALUES ($1, $2, $3, $4, 'open', $5, $6, $6)
     ON CONFLICT (tenant, session) DO UPDATE
       SET software = coalesce(excluded.software, s.software),
           last_spool_seq = greatest(s.last_spool_seq, excluded.last_spool_seq), last_seen_at = excluded.last_seen_at`,
    [row.tenant, row.session, row.producerId, row.software, row.lastSpoolSeq, row.at],
  )
}

/** Cursors move forward only: an answer that was slow must not take one back. */
export async function saveProgress(work: Pool, rows: readonly SessionRow[], at: Date): Promise<void> {
  if (rows.length === 0) return
  await query(
    work,
    `INSERT INTO signet.sessions AS s (tenant, session, producer_id, state, last_spool_seq, opened_at, last_seen_at)
     SELECT tenant, session, producer_id, 'open', last_spool_seq, $5, $5
       FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[]) AS r(tenant, session, producer_id, last_spool_seq)
     ON CONFLICT (tenant, session) DO UPDATE
       SET last_spool_seq = greatest(s.last_spool_seq, excluded.last_spool_seq), last_seen_at = excluded.last_seen_at`,
    [
      rows.map((row) => row.tenant),
      rows.map((row) => row.session),
      rows.map((row) => row.producerId),
      rows.map((row) => row.lastSpoolSeq),
      at,
    ],
  )
}

export async function saveClosed(work: Pool, row: SessionRow & { clean: boolean; at: Date }): Promise<void> {
  await query(
    work,
    `INSERT INTO signet.sessions AS s (tenant, session, producer_id, state, last_spool_seq, opened_at, last_seen_at, closed_at)
     VALUES ($1, $2, $3, $4, $5, $6, $6, $6)
     ON CONFLICT (tenant, session) DO UPDATE
       SET state = excluded.state, closed_at = coalesce(s.closed_at, excluded.closed_at),
           last_spool_seq = greatest(s.last_spool_seq, excluded.last_spool_seq), last_seen_at = excluded.last_seen_at
     WHERE s.state = 'open'`,
    [row.tenant, row.session, row.producerId, row.clean ? 'closed' : 'lost', row.lastSpoolSeq, row.at],
  )
}

/** Open sessions, the longest unseen first. */
export async function listOpen(work: Pool, limit: number): Promise<SessionRow[]> {
  const rows = await query<{ tenant: string; session: string; producer_id: string; last_spool_seq: string }>(
    work,
    `SELECT tenant, session, producer_id, last_spool_seq FROM signet.sessions WHERE state = 'open' ORDER BY last_seen_at LIMIT $1`,
    [limit],
  )
  return rows.map((row) => ({
    tenant: row.tenant,
    session: row.session,
    producerId: row.producer_id,
    lastSpoolSeq: Number(row.last_spool_seq),
  }))
}
