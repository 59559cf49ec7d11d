import type { Link } from '#core/chain/link.ts'
import type { RecordProjection } from '#core/audit/record.ts'
import type { Client } from '#runtime/postgres/transaction.ts'

/** A link as the wall has it. `traceHead`: hash of the link before it in its trace, as found by the index; null where there is none. */
export type StoredLink = Link & {
  readonly retentionClass: string
  readonly month: string
  readonly appendedAt: string
  readonly traceHead: Buffer | null
}
/** A record as the wall has it, its projections as text in the forms of `RecordProjection`. */
export type StoredRecord = {
  readonly seq: number
  readonly nonce: Buffer
  readonly bytes: Buffer
  readonly retentionClass: string
  readonly projection: RecordProjection
}

/** What bounds a batch, besides the number of links: bytes of sealed records. */
const MAX_BATCH_BYTES = 16 * 1024 * 1024

// Microseconds, since that is what the column holds: a change below a millisecond is a change.
const RFC3339 = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`

/** Links with `after < seq <= to`, in order, `limit` at most; of one trace only where `traceHmac` is given. */
export async function readLinks(
  client: Client,
  tenant: string,
  range: { after: number; to: number; limit: number; traceHmac: Buffer | null },
): Promise<StoredLink[]> {
  const { rows } = await client.query<
    Record<string, Buffer | null> & {
      seq: string
      event_id: string
      key_id: string
      retention_class: string
      month: string
      appended_at: string
    }
  >(
    `SELECT l.seq, l.event_id, l.commitment, l.hash, l.previous_hash, l.previous_trace_hash, l.key_id, l.trace_hmac, l.received_hmac,
            l.retention_class, to_char(l.month, 'YYYY-MM-DD') AS month,
            to_char(l.appended_at AT TIME ZONE 'UTC', ${RFC3339}) AS appended_at,
            (SELECT t.hash FROM signet.links t WHERE t.tenant = l.tenant AND t.trace_hmac = l.trace_hmac AND t.seq < l.seq
              ORDER BY t.seq DESC LIMIT 1) AS trace_head
       FROM signet.links l
      WHERE l.tenant = $1 AND l.seq > $2 AND l.seq <= $3 AND ($5::bytea IS NULL OR l.trace_hmac = $5)
      ORDER BY l.seq LIMIT $4`,
    [tenant, range.after, range.to, range.limit, range.traceHmac],
  )
  return rows.map((row) => ({
    tenant,
    seq: Number(row.seq),
    event_id: row.event_id,
    commitment: row['commitment'] ?? Buffer.alloc(0),
    hash: row['hash'] ?? Buffer.alloc(0),
    previous_hash: row['previous_hash'] ?? Buffer.alloc(0),
    previous_trace_hash: row['previous_trace_hash'] ?? Buffer.alloc(0),
    key_id: row.key_id,
    trace_hmac: row['trace_hmac'] ?? Buffer.alloc(0),
    received_hmac: row['received_hmac'] ?? Buffer.alloc(0),
    retentionClass: row.retention_class,
    month: row.month,
    appendedAt: milliseconds(row.appended_at),
    traceHead: row['trace_head'] ?? null,
  }))
}

/** The highest of `links` whose records, from the first on, fit a batch: never less than the first. */
export async function endOfBatch(client: Client, tenant: string, after: number, to: number): Promise<number> {
  const { rows } = await client.query<{ seq: string | null }>(
    `SELECT max(seq) AS seq
       FROM (SELECT seq, sum(length(bytes)) OVER (ORDER BY seq) - length(bytes) AS size_before
               FROM signet.records WHERE tenant = $1 AND seq > $2 AND seq <= $3) AS sized
      WHERE size_before < $4`,
    [tenant, after, to, MAX_BATCH_BYTES],
  )
  const seq = rows[0]?.seq
  return seq === null || seq === undefined ? to : Number(seq)
}

/** Records with one of the numbers, or with any number between two of them that follow each other, whatever partition they are in. */
export async function readRecords(
  client: Client,
  tenant: string,
  range: { after: number; to: number; of: readonly number[] | null },
): Promise<StoredRecord[]> {
  const { rows } = await client.query<Record<string, string | null> & { nonce: Buffer; bytes: Buffer }>(
    `SELECT seq, nonce, bytes, retention_class,
            to_char("timestamp" AT TIME ZONE 'UTC', ${RFC3339}) AS timestamp, to_char(received_at AT TIME ZONE 'UTC', ${RFC3339}) AS received_at,
            to_char(month, 'YYYY-MM-DD') AS month, event_id, event_type, actor, action, resource, resource_type, resource_id, stage, outcome,
            trace_id, request_id, session, spool_seq, producer_id, region, data_domain, stamp_hash
       FROM signet.records
      WHERE tenant = $1 AND seq > $2 AND seq <= $3 AND ($4::bigint[] IS NULL OR seq = ANY($4))
      ORDER BY seq`,
    [tenant, range.after, range.to, range.of],
  )
  return rows.map(({ seq, nonce, bytes, retention_class: retentionClass, spool_seq: spoolSeq, ...texts }) => ({
    seq: Number(seq),
    nonce,
    bytes,
    retentionClass: retentionClass ?? '',
    projection: {
      ...(texts as Omit<RecordProjection, 'spool_seq'>),
      timestamp: milliseconds(texts['timestamp']),
      received_at: milliseconds(texts['received_at']),
      spool_seq: spoolSeq === null || spoolSeq === undefined ? null : Number(spoolSeq),
    },
  }))
}

/** Stamps by hash, as bytes. */
export async function readStamps(
  client: Client,
  tenant: string,
  hashes: readonly string[],
): Promise<Map<string, Buffer>> {
  if (hashes.length === 0) return new Map()
  const { rows } = await client.query<{ stamp_hash: string; stamp: Buffer }>(
    'SELECT stamp_hash, stamp FROM signet.compliance_stamps WHERE tenant = $1 AND stamp_hash = ANY($2)',
    [tenant, hashes],
  )
  return new Map(rows.map((row) => [row.stamp_hash, row.stamp]))
}

/** `….123000Z` as `….123Z`; anything finer stays as it is, and differs. */
function milliseconds(text: string | null | undefined): string {
  return (text ?? '').replace(/000Z$/, 'Z')
}

/** The highest number that a record has; 0 where there is none. */
export async function highestRecord(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ seq: string }>(
    'SELECT seq FROM signet.records WHERE tenant = $1 ORDER BY seq DESC LIMIT 1',
    [tenant],
  )
  return Number(rows[0]?.seq ?? 0)
}
