import type { Client } from '#runtime/postgres/transaction.ts'
import type { FoundRow } from './search.ts'

type Row = Pick<FoundRow, 'seq' | 'nonce' | 'bytes' | 'commitment'>

/** Events of a trace in the order of the chain, `limit` at most. */
export async function readTrace(client: Client, tenant: string, traceId: string, limit: number): Promise<Row[]> {
  const { rows } = await client.query<Omit<Row, 'seq'> & { seq: string }>(
    `SELECT r.seq, r.nonce, r.bytes, l.commitment
       FROM (SELECT seq, nonce, bytes FROM signet.records WHERE tenant = $1 AND trace_id = $2 ORDER BY seq LIMIT $3) r
       LEFT JOIN signet.links l ON l.tenant = $1 AND l.seq = r.seq
      ORDER BY r.seq`,
    [tenant, traceId, limit],
  )
  return rows.map((row) => ({ ...row, seq: Number(row.seq) }))
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
