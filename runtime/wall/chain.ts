import pg from 'pg'
import { DEFAULT_RETENTION_CLASS } from '#core/retention/period.ts'
import type { StoredLink, StoredRecord, StoredStamp } from '#core/chain/stored.ts'
import type { Client } from '../postgres/transaction.ts'
import { LINK_LIST, LINK_WIDTH, RECORD_LIST, RECORD_WIDTH } from './columns.ts'
import { CopyArena, copyOut, type CopyRows, type CopyTable } from './copy.ts'

/** What bounds a batch, besides the number of links: bytes of sealed records. */
const MAX_BATCH_BYTES = 16 * 1024 * 1024

/** Nothing that is kept says what it should be. */
const NOT_READ = Buffer.alloc(0)

type Links = { readonly after: number; readonly to: number; readonly limit: number; readonly traceHmac: Buffer | null }
/** Records with one of the numbers, or with any number between two of them that follow each other, whatever partition they are in. */
type Records = { readonly after: number; readonly to: number; readonly of: readonly number[] | null }

/** Links with `after < seq <= to`, in order, `limit` at most; of one trace only where `traceHmac` is given. */
export async function readLinks(client: Client, tenant: string, range: Links): Promise<StoredLink[]> {
  return linksOf(await readLinkTable(client, tenant, range), tenant)
}

/** As `readLinks`, as they come: rows of `LINK_LIST`. */
export async function readLinkTable(
  client: Client,
  tenant: string,
  range: Links,
  arena = new CopyArena(),
): Promise<CopyTable> {
  const ofTrace = range.traceHmac === null ? '' : `AND trace_hmac = '\\x${range.traceHmac.toString('hex')}'`
  const rows = await copyOut(
    client,
    `SELECT ${LINK_LIST} FROM signet.links WHERE tenant = ${pg.escapeLiteral(tenant)} AND seq > ${range.after} AND seq <= ${range.to} ${ofTrace}
      ORDER BY seq LIMIT ${range.limit}`,
    arena,
  )
  return rows.table(LINK_WIDTH, arena)
}

function linksOf(table: CopyTable, tenant: string): StoredLink[] {
  return Array.from({ length: table.count }, (_, row) => linkAt(table, row, tenant))
}

export function linkAt(table: CopyTable, row: number, tenant: string): StoredLink {
  const rows = table.at(row)
  rows.next()
  return readLink(rows, tenant)
}

function readLink(rows: CopyRows, tenant: string): StoredLink {
  return {
    tenant,
    seq: rows.bigint(),
    event_id: rows.uuid(),
    commitment: rows.bytes(),
    hash: rows.bytes(),
    previous_hash: rows.bytes(),
    previous_trace_hash: rows.bytes(),
    key_id: rows.text(),
    trace_hmac: rows.bytes(),
    received_hmac: NOT_READ,
    retentionClass: rows.text(),
    month: rows.date(),
    appendedAtUs: rows.timestamp(),
  }
}

/** The highest number after `after` so that the records up to it, from the first on, fit a batch: never less than the first. */
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

export async function readRecords(client: Client, tenant: string, range: Records): Promise<StoredRecord[]> {
  const table = await readRecordTable(client, tenant, range)
  return Array.from({ length: table.count }, (_, row) => recordAt(table, row))
}

/** As `readRecords`, as they come: rows of `RECORD_LIST`. */
export async function readRecordTable(
  client: Client,
  tenant: string,
  range: Records,
  arena = new CopyArena(),
): Promise<CopyTable> {
  const named = range.of === null ? '' : `AND seq = ANY('{${range.of.join(',')}}'::bigint[])`
  const rows = await copyOut(
    client,
    `SELECT ${RECORD_LIST} FROM signet.records WHERE tenant = ${pg.escapeLiteral(tenant)} AND seq > ${range.after} AND seq <= ${range.to} ${named}
      ORDER BY seq`,
    arena,
  )
  return rows.table(RECORD_WIDTH, arena)
}

export function recordAt(table: CopyTable, row: number): StoredRecord {
  const rows = table.at(row)
  rows.next()
  return readRecord(rows)
}

function readRecord(rows: CopyRows): StoredRecord {
  const seq = rows.bigint()
  const nonceLength = rows.integer()
  const both = rows.bytes()
  return {
    seq,
    nonce: both.subarray(0, nonceLength),
    bytes: both.subarray(nonceLength),
    retentionClass: rows.text(),
    timestampUs: rows.timestamp(),
    receivedAtUs: rows.timestamp(),
    month: rows.date(),
    event_id: rows.uuid(),
    event_type: rows.text(),
    actor: rows.text(),
    action: rows.text(),
    resource: rows.text(),
    resource_type: rows.nullableText(),
    resource_id: rows.nullableText(),
    stage: rows.text(),
    outcome: rows.text(),
    trace_id: rows.text(),
    request_id: rows.text(),
    session: rows.nullableUuid(),
    spool_seq: rows.nullableBigint(),
    producer_id: rows.text(),
    region: rows.nullableText(),
    data_domain: rows.nullableText(),
    stamp_hash: rows.nullableText(),
  }
}

/** Where a stamp is kept: those of a retention class with its month, those of `default` without. */
export function stampKey(hash: string, of: { readonly retentionClass: string; readonly month: string }): string {
  return of.retentionClass === DEFAULT_RETENTION_CLASS ? hash : `${hash} ${of.retentionClass} ${of.month}`
}

/** Stamps by hash, in every class that has them: by `stampKey`. */
export async function readStamps(
  client: Client,
  tenant: string,
  hashes: readonly string[],
): Promise<Map<string, StoredStamp>> {
  const wanted = [...new Set(hashes)]
  if (wanted.length === 0) return new Map()
  const rows = await copyOut(
    client,
    `SELECT stamp_hash, seq, trace_id, request_id, retention_class, month, stamp FROM signet.stamps
      WHERE tenant = ${pg.escapeLiteral(tenant)} AND stamp_hash = ANY(ARRAY[${wanted.map((hash) => pg.escapeLiteral(hash)).join(',')}])`,
  )
  const stamps = new Map<string, StoredStamp>()
  while (rows.next()) {
    const [hash, seq, traceId, requestId] = [rows.text(), rows.bigint(), rows.text(), rows.text()]
    const retentionClass = rows.text()
    const month = rows.nullableDate()
    const key = month === null ? hash : stampKey(hash, { retentionClass, month })
    stamps.set(key, { seq, traceId, requestId, retentionClass, bytes: rows.bytes() })
  }
  return stamps
}

/** The first stamp that the event which it names does not carry; null where there is none. For columns that were verified. */
export async function findStrayStamp(client: Client, tenant: string, to: number): Promise<number | null> {
  const { rows } = await client.query<{ seq: string }>(
    `SELECT s.seq FROM signet.stamps s
      WHERE s.tenant = $1 AND s.seq <= $2 AND NOT EXISTS (
        SELECT FROM signet.records r WHERE r.tenant = $1 AND r.seq = s.seq AND r.stamp_hash = s.stamp_hash
           AND (s.month IS NULL OR (r.retention_class = s.retention_class AND r.month = s.month)))
      ORDER BY s.seq LIMIT 1`,
    [tenant, to],
  )
  return rows[0] === undefined ? null : Number(rows[0].seq)
}

/** The hash of the link before each of these in its trace, as the index has it; null where there is none. */
export async function readTraceHeads(
  client: Client,
  tenant: string,
  links: readonly { readonly seq: number; readonly trace_hmac: Buffer }[],
): Promise<(Buffer | null)[]> {
  if (links.length === 0) return []
  const { rows } = await client.query<{ head: Buffer | null }>(
    `SELECT (SELECT t.hash FROM signet.links t WHERE t.tenant = $1 AND t.trace_hmac = l.trace AND t.seq < l.seq ORDER BY t.seq DESC LIMIT 1) AS head
       FROM unnest($2::bigint[], $3::bytea[]) WITH ORDINALITY AS l(seq, trace, place) ORDER BY l.place`,
    [tenant, links.map(({ seq }) => seq), links.map(({ trace_hmac }) => trace_hmac)],
  )
  return rows.map(({ head }) => head)
}

/** The highest number that a record has; 0 where there is none. */
export async function highestRecord(client: Client, tenant: string): Promise<number> {
  const { rows } = await client.query<{ seq: string }>(
    'SELECT seq FROM signet.records WHERE tenant = $1 ORDER BY seq DESC LIMIT 1',
    [tenant],
  )
  return Number(rows[0]?.seq ?? 0)
}

/** The last link of a chain, as stored. */
export async function readHead(client: Client, tenant: string): Promise<{ seq: number; hash: Buffer }> {
  const { rows } = await client.query<{ seq: string; hash: Buffer }>(
    'SELECT seq, hash FROM signet.links WHERE tenant = $1 ORDER BY seq DESC LIMIT 1',
    [tenant],
  )
  const [row] = rows
  return row === undefined ? { seq: 0, hash: Buffer.alloc(32) } : { seq: Number(row.seq), hash: row.hash }
}
