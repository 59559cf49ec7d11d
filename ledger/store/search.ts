import type { Client } from '#runtime/postgres/transaction.ts'
import type { LogsFilter } from '../query.ts'

export type FoundRow = {
  seq: number
  nonce: Buffer
  bytes: Buffer
  /** These are of the link; null when somebody has taken it away. */
  commitment: Buffer | null
  hash: Buffer | null
  previous_hash: Buffer | null
  previous_trace_hash: Buffer | null
  key_id: string | null
}

/** Bytes of sealed records that one page or batch may hold; it ends before, but never empty. */
const MAX_PAGE_BYTES = 16 * 1024 * 1024
// The columns whose index is over their beginning; see the migration.
const PREFIX_INDEXED = new Set(['actor', 'resource', 'request_id'])

/** One page, newest first: `limit` rows at most, and one more when there are more. */
export async function searchRecords(
  client: Client,
  tenant: string,
  filter: LogsFilter,
): Promise<{ rows: FoundRow[]; more: boolean }> {
  const values: unknown[] = [tenant, filter.limit + 1, MAX_PAGE_BYTES]
  const conditions = ['tenant = $1']
  const add = (condition: (parameter: string) => string, value: unknown): void => {
    values.push(value)
    conditions.push(condition(`$${values.length}`))
  }
  if (filter.beforeSeq !== null) add((p) => `seq < ${p}::bigint`, filter.beforeSeq)
  if (filter.from !== null) add((p) => `"timestamp" >= ${p}::timestamptz`, filter.from)
  if (filter.to !== null) add((p) => `"timestamp" < ${p}::timestamptz`, filter.to)
  for (const [column, value] of filter.equals) {
    const type = column === 'session' ? 'uuid' : 'text'
    add((p) => `${column} = ${p}::${type}`, value)
    if (PREFIX_INDEXED.has(column)) conditions.push(`left(${column}, 100) = left($${values.length}::text, 100)`)
  }
  const { rows } = await client.query<Omit<FoundRow, 'seq'> & { seq: string; found: string }>(
    `WITH page AS (
       SELECT seq, nonce, bytes,
              count(*) OVER (ORDER BY seq DESC) AS row_number, sum(length(bytes)) OVER (ORDER BY seq DESC) AS size_so_far, count(*) OVER () AS found
         FROM (SELECT seq, nonce, bytes FROM signet.records WHERE ${conditions.join(' AND ')} ORDER BY seq DESC LIMIT $2) AS newest)
     SELECT p.seq, p.nonce, p.bytes, p.found, l.commitment, l.hash, l.previous_hash, l.previous_trace_hash, l.key_id
       FROM page p LEFT JOIN signet.links l ON l.tenant = $1 AND l.seq = p.seq
      WHERE p.row_number < $2 AND (p.row_number = 1 OR p.size_so_far <= $3)
      ORDER BY p.seq DESC`,
    values,
  )
  const found = Number(rows[0]?.found ?? 0)
  return { rows: rows.map((row) => ({ ...row, seq: Number(row.seq) })), more: found > rows.length }
}

/** The exact JCS bytes of a stamp of this tenant. */
export async function findStamp(client: Client, tenant: string, stampHash: string): Promise<Buffer | null> {
  const { rows } = await client.query<{ stamp: Buffer }>(
    'SELECT stamp FROM signet.compliance_stamps WHERE tenant = $1 AND stamp_hash = $2',
    [tenant, stampHash],
  )
  return rows[0]?.stamp ?? null
}

/**
 * The first stamp recorded under a request id, of this producer if one is given. The first: another producer of the tenant that
 * learns the id from the answer comes too late to put its own in place of it. A stamp's producer is its event's (`intake.ts`).
 */
export async function findStampOfRequest(
  client: Client,
  tenant: string,
  requestId: string,
  producerId: string | null,
): Promise<{ hash: string; stamp: Buffer } | null> {
  const { rows } = await client.query<{ stamp_hash: string; stamp: Buffer }>(
    `SELECT s.stamp_hash, s.stamp FROM signet.compliance_stamps s
      WHERE s.tenant = $1 AND left(s.request_id, 100) = left($2::text, 100) AND s.request_id = $2
        AND ($3::text IS NULL OR EXISTS (
              SELECT FROM signet.records r WHERE r.tenant = $1 AND r.seq = s.seq AND r.producer_id = $3))
      ORDER BY s.seq LIMIT 1`,
    [tenant, requestId, producerId],
  )
  const [row] = rows
  return row === undefined ? null : { hash: row.stamp_hash, stamp: row.stamp }
}
