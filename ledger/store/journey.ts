import type { Client } from '#runtime/postgres/transaction.ts'
import type { FoundRow } from './search.ts'

type Row = Pick<FoundRow, 'seq' | 'nonce' | 'bytes' | 'commitment'>

/** Bytes of sealed records that a journey may hold; it ends before, but never empty. */
const MAX_TRACE_BYTES = 16 * 1024 * 1024

/** Events of a trace in the order of the chain, `limit` at most and as many as fit; `more` where there are others. */
export async function readTrace(
  client: Client,
  tenant: string,
  traceId: string,
  limit: number,
): Promise<{ rows: Row[]; more: boolean }> {
  const { rows } = await client.query<Omit<Row, 'seq'> & { seq: string; found: string }>(
    `WITH trace AS (
       SELECT seq, nonce, bytes,
              row_number() OVER (ORDER BY seq) AS place, sum(length(bytes)) OVER (ORDER BY seq) AS size_so_far, count(*) OVER () AS found
         FROM (SELECT seq, nonce, bytes FROM signet.records WHERE tenant = $1 AND trace_id = $2 ORDER BY seq LIMIT $3) AS oldest)
     SELECT t.seq, t.nonce, t.bytes, t.found, l.commitment
       FROM trace t LEFT JOIN signet.links l ON l.tenant = $1 AND l.seq = t.seq
      WHERE t.place < $3 AND (t.place = 1 OR t.size_so_far <= $4)
      ORDER BY t.seq`,
    [tenant, traceId, limit + 1, MAX_TRACE_BYTES],
  )
  const found = Number(rows[0]?.found ?? 0)
  return { rows: rows.map((row) => ({ ...row, seq: Number(row.seq) })), more: found > rows.length }
}

/** The gaps that the ledger recorded under its own traces (`ledgerTraceId`), `limit` at most. */
export async function readGaps(
  client: Client,
  tenant: string,
  traceIds: readonly string[],
  limit: number,
): Promise<Row[]> {
  const { rows } = await client.query<Omit<Row, 'seq'> & { seq: string }>(
    `SELECT r.seq, r.nonce, r.bytes, l.commitment
       FROM (SELECT seq, nonce, bytes FROM signet.records
              WHERE tenant = $1 AND trace_id = ANY($2::text[]) AND event_type = 'audit.gap' ORDER BY seq LIMIT $3) r
       LEFT JOIN signet.links l ON l.tenant = $1 AND l.seq = r.seq
      ORDER BY r.seq`,
    [tenant, traceIds, limit],
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
}
