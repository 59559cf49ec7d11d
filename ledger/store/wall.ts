import { NO_PREDECESSOR } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { DEFAULT_RETENTION_CLASS } from '#core/retention/period.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { KnownEvent, KnownSession } from '../plan.ts'
import type { ChainRow } from '../chain.ts'

export type Head = { readonly seq: number; readonly hash: Buffer }
export const EMPTY_HEAD: Head = { seq: 0, hash: NO_PREDECESSOR }

/**
 * How long a transaction that holds a chain may leave the server without a word. Between two statements there are milliseconds of work;
 * a process whose node died or was cut off says nothing more, and all others that write to this chain wait for it.
 */
const HOLDS_CHAIN_IDLE_MS = 5_000

/**
 * Waits for the tenant's chain and holds it to the end of the transaction: numbers and predecessors read after this are the last. For
 * `withTenant` to begin with. Takes a key of its own per chain; two chains that share one by chance wait for each other, nothing more.
 */
export const HOLD_CHAIN = `set_config('idle_in_transaction_session_timeout', '${HOLDS_CHAIN_IDLE_MS}', true),
  pg_advisory_xact_lock(hashtextextended('signet.chain:' || $1, 0))`

/**
 * Makes the COMMIT of a transaction that only read wait as that of one that wrote: for the disk, and for synchronous standbys. What it read may
 * be there without having got to them: a primary that was killed while a commit waited for its standby shows the rows when it is back.
 */
export async function awaitDurability(client: Client): Promise<void> {
  await client.query("SELECT pg_logical_emit_message(true, 'signet', '')")
}

export async function readHead(client: Client, tenant: string): Promise<Head> {
  const { rows } = await client.query<{ seq: string; hash: Buffer }>(
    'SELECT seq, hash FROM signet.links WHERE tenant = $1 ORDER BY seq DESC LIMIT 1',
    [tenant],
  )
  const [row] = rows
  return row === undefined ? EMPTY_HEAD : { seq: Number(row.seq), hash: row.hash }
}

export async function findEvents(
  client: Client,
  tenant: string,
  eventIds: Iterable<string>,
): Promise<Map<string, KnownEvent>> {
  const { rows } = await client.query<{ event_id: string; seq: string; commitment: Buffer; received_hmac: Buffer }>(
    'SELECT event_id, seq, commitment, received_hmac FROM signet.links WHERE tenant = $1 AND event_id = ANY($2::uuid[])',
    [tenant, [...eventIds]],
  )
  return new Map(
    rows.map((row) => [
      row.event_id,
      { seq: Number(row.seq), commitment: row.commitment, receivedHmac: row.received_hmac },
    ]),
  )
}

const HEADS_OF_SESSIONS = (sessions: string): string => `SELECT s.session, r.spool_seq, r.producer_id
       FROM unnest(${sessions}::uuid[]) AS s(session)
       JOIN LATERAL (SELECT spool_seq, producer_id FROM (
                      (SELECT spool_seq, producer_id FROM signet.records
                        WHERE tenant = $1 AND session = s.session AND spool_seq IS NOT NULL ORDER BY spool_seq DESC LIMIT 1)
                      UNION ALL
                      (SELECT spool_seq, producer_id FROM signet.purged_sessions
                        WHERE tenant = $1 AND session = s.session ORDER BY spool_seq DESC LIMIT 1)) AS heads
                      ORDER BY spool_seq DESC LIMIT 1) AS r ON true`

export async function findSessions(
  client: Client,
  tenant: string,
  sessions: Iterable<string>,
): Promise<Map<string, KnownSession>> {
  const { rows } = await client.query<{ session: string; spool_seq: string; producer_id: string }>(
    HEADS_OF_SESSIONS('$2'),
    [tenant, [...sessions]],
  )
  return new Map(rows.map((row) => [row.session, { producerId: row.producer_id, spoolHead: Number(row.spool_seq) }]))
}

/** What an append has to know of a chain that it holds. `traceHeads`: by the hex of its mark, the last link of each trace asked for. */
export type ChainState = {
  readonly head: Head
  readonly known: Map<string, KnownEvent>
  readonly sessions: Map<string, KnownSession>
  readonly traceHeads: Map<string, Buffer>
}

// One statement: four of them are four turns of both processes. Not prepared: a plan that is kept was made for another size of the chain, and a tenant
// alone appended half as fast by it at 100,000 records.
const CHAIN_STATE = `SELECT 'head' AS kind, NULL AS name, seq, hash, NULL::bytea AS mark
    FROM (SELECT seq, hash FROM signet.links WHERE tenant = $1 ORDER BY seq DESC LIMIT 1) AS last
  UNION ALL SELECT 'event', event_id::text, seq, commitment, received_hmac FROM signet.links WHERE tenant = $1 AND event_id = ANY($2::uuid[])
  UNION ALL SELECT 'session ' || producer_id, session::text, spool_seq, NULL, NULL FROM (${HEADS_OF_SESSIONS('$3')}) AS sessions
  UNION ALL SELECT 'trace', NULL, NULL, l.hash, t.mark FROM unnest($4::bytea[]) AS t(mark)
    JOIN LATERAL (SELECT hash FROM signet.links WHERE tenant = $1 AND trace_hmac = t.mark ORDER BY seq DESC LIMIT 1) AS l ON true`

export async function readChainState(
  client: Client,
  tenant: string,
  of: { eventIds: Iterable<string>; sessions: Iterable<string>; traceHmacs: Iterable<Buffer> },
): Promise<ChainState> {
  const { rows } = await client.query<{ kind: string; name: string; seq: string; hash: Buffer; mark: Buffer }>({
    text: CHAIN_STATE,
    values: [tenant, [...of.eventIds], [...of.sessions], [...of.traceHmacs]],
  })
  const state = { head: EMPTY_HEAD, known: new Map<string, KnownEvent>(), sessions: new Map<string, KnownSession>() }
  const traceHeads = new Map<string, Buffer>()
  for (const { kind, name, seq, hash, mark } of rows) {
    if (kind === 'trace') traceHeads.set(mark.toString('hex'), hash)
    else if (kind === 'head') state.head = { seq: Number(seq), hash }
    else if (kind === 'event') state.known.set(name, { seq: Number(seq), commitment: hash, receivedHmac: mark })
    else state.sessions.set(name, { producerId: kind.slice('session '.length), spoolHead: Number(seq) })
  }
  return { ...state, traceHeads }
}

export async function findPositions(
  client: Client,
  tenant: string,
  positions: ReadonlyMap<string, { session: string; spoolSeq: number }>,
): Promise<Set<string>> {
  const places = [...positions.values()]
  const { rows } = await client.query<{ session: string; spool_seq: string }>(
    `SELECT r.session, r.spool_seq
       FROM unnest($2::uuid[], $3::bigint[]) AS p(session, spool_seq)
       JOIN signet.records r ON r.tenant = $1 AND r.session = p.session AND r.spool_seq = p.spool_seq`,
    [tenant, places.map((place) => place.session), places.map((place) => place.spoolSeq)],
  )
  return new Set(rows.map((row) => `${row.session}/${row.spool_seq}`))
}

/** The last link of each trace, by the hex of its mark. */
export async function findTraceHeads(
  client: Client,
  tenant: string,
  traceHmacs: Iterable<Buffer>,
): Promise<Map<string, Buffer>> {
  const { rows } = await client.query<{ trace_hmac: Buffer; hash: Buffer }>(
    `SELECT t.trace_hmac, l.hash
       FROM unnest($2::bytea[]) AS t(trace_hmac)
       JOIN LATERAL (SELECT hash FROM signet.links WHERE tenant = $1 AND trace_hmac = t.trace_hmac ORDER BY seq DESC LIMIT 1) AS l ON true`,
    [tenant, [...traceHmacs]],
  )
  return new Map(rows.map((row) => [row.trace_hmac.toString('hex'), row.hash]))
}

/**
 * How the values of a column are sent. As an array, unless `same`: all rows of a transaction have one value in common. Bytes go end
 * to end in one binary parameter and are cut apart there: an array of them would be text, twice as long, to write and to read again.
 * `hash`: 32 bytes each.
 */
type Sending = 'array' | 'same' | 'bytes' | 'hash'
type Column = readonly [name: string, type: string, value: (row: ChainRow) => unknown, sending?: Sending]

const HASH_BYTES = 32

const LINK_COLUMNS: readonly Column[] = [
  ['seq', 'bigint', (row) => row.seq],
  ['event_id', 'uuid', (row) => row.projection.event_id],
  ['commitment', 'bytea', (row) => row.commitment, 'hash'],
  ['hash', 'bytea', (row) => row.hash, 'hash'],
  ['previous_hash', 'bytea', (row) => row.previousHash, 'hash'],
  ['previous_trace_hash', 'bytea', (row) => row.previousTraceHash, 'hash'],
  ['key_id', 'text', (row) => row.keyId],
  ['trace_hmac', 'bytea', (row) => row.traceHmac, 'hash'],
  ['received_hmac', 'bytea', (row) => row.receivedHmac, 'hash'],
  ['retention_class', 'text', (row) => row.retentionClass],
  ['month', 'date', (row) => row.projection.month, 'same'],
  ['appended_at', 'timestamptz', (row) => row.projection.received_at, 'same'],
]
const RECORD_COLUMNS: readonly Column[] = [
  ['seq', 'bigint', (row) => row.seq],
  ['retention_class', 'text', (row) => row.retentionClass],
  ['month', 'date', (row) => row.projection.month, 'same'],
  ['nonce', 'bytea', (row) => row.nonce, 'hash'],
  ['bytes', 'bytea', (row) => row.bytes, 'bytes'],
  ['"timestamp"', 'timestamptz', (row) => row.projection.timestamp],
  ['received_at', 'timestamptz', (row) => row.projection.received_at, 'same'],
  ['event_id', 'uuid', (row) => row.projection.event_id],
  ['event_type', 'text', (row) => row.projection.event_type],
  ['actor', 'text', (row) => row.projection.actor],
  ['action', 'text', (row) => row.projection.action],
  ['resource', 'text', (row) => row.projection.resource],
  ['resource_type', 'text', (row) => row.projection.resource_type],
  ['resource_id', 'text', (row) => row.projection.resource_id],
  ['stage', 'text', (row) => row.projection.stage],
  ['outcome', 'text', (row) => row.projection.outcome],
  ['trace_id', 'text', (row) => row.projection.trace_id],
  ['request_id', 'text', (row) => row.projection.request_id],
  ['session', 'uuid', (row) => row.projection.session],
  ['spool_seq', 'bigint', (row) => row.projection.spool_seq],
  ['producer_id', 'text', (row) => row.projection.producer_id],
  ['region', 'text', (row) => row.projection.region],
  ['data_domain', 'text', (row) => row.projection.data_domain],
  ['stamp_hash', 'text', (row) => row.projection.stamp_hash],
]
const STAMP_COLUMNS: readonly Column[] = [
  ['seq', 'bigint', (row) => row.seq],
  ['stamp_hash', 'text', (row) => row.stamp?.hash],
  ['trace_id', 'text', (row) => row.projection.trace_id],
  ['request_id', 'text', (row) => row.projection.request_id],
  ['retention_class', 'text', (row) => row.retentionClass],
  ['stamp', 'bytea', (row) => row.stamp?.bytes, 'bytes'],
]

/** `before`: parameters of the statement besides the tenant that are others'. */
function insertSql(table: string, columns: readonly Column[], before = 0): string {
  const values: string[] = []
  const arrays: string[] = []
  const aliases: string[] = []
  let parameters = 1 + before
  const next = (type: string): string => `$${++parameters}::${type}`
  const unnested = (alias: string, type: string): string => {
    arrays.push(next(`${type}[]`))
    aliases.push(alias)
    return `r.${alias}`
  }
  for (const [name, type, , sending = 'array'] of columns) {
    if (sending === 'same') values.push(next(type))
    else if (sending === 'array') values.push(unnested(name, type))
    else if (sending === 'hash')
      values.push(`substring(${next('bytea')} FROM (r.place::int - 1) * ${HASH_BYTES} + 1 FOR ${HASH_BYTES})`)
    else {
      const blob = next('bytea')
      values.push(`substring(${blob} FROM ${unnested(`${name}_at`, 'int')} FOR ${unnested(`${name}_length`, 'int')})`)
    }
  }
  return `INSERT INTO signet.${table} (tenant, ${columns.map(([name]) => name).join(', ')})
    SELECT $1, ${values.join(', ')} FROM unnest(${arrays.join(', ')}) WITH ORDINALITY AS r(${aliases.join(', ')}, place)`
}

/** The parameters of a column, in the order of `insertSql`. */
function parametersOf([name, , value, sending = 'array']: Column, rows: readonly ChainRow[]): unknown[] {
  if (sending === 'same') return rows.slice(0, 1).map((row) => value(row))
  if (sending === 'array') return [rows.map((row) => value(row))]
  const parts = rows.map((row) => value(row) as Buffer)
  if (sending === 'bytes') {
    let at = 1
    const starts = parts.map(({ length }) => (at += length) - length)
    return [Buffer.concat(parts), starts, parts.map(({ length }) => length)]
  }
  // One of another length would move all that follow.
  if (parts.some(({ length }) => length !== HASH_BYTES))
    throw new SignetError('INTERNAL', `a value of the column ${name} has not ${HASH_BYTES} bytes`)
  return [Buffer.concat(parts)]
}
// Links have one parameter a column. Both tables in one statement: it is a turn less of both processes.
const INSERT_CHAIN = `WITH links AS (${insertSql('links', LINK_COLUMNS)})
  ${insertSql('records', RECORD_COLUMNS, LINK_COLUMNS.length)}`
// The same stamp again (its event was decided, then completed) is the same bytes: the first one stays.
const INSERT_STAMPS = `${insertSql('compliance_stamps', STAMP_COLUMNS)} ON CONFLICT (tenant, stamp_hash) DO NOTHING`
const CLASS_STAMP_COLUMNS: readonly Column[] = [
  ...STAMP_COLUMNS,
  ['month', 'date', (row) => row.projection.month, 'same'],
]
const INSERT_CLASS_STAMPS = `${insertSql('class_stamps', CLASS_STAMP_COLUMNS)}
  ON CONFLICT (tenant, stamp_hash, retention_class, month) DO NOTHING`

/** One statement for links and records, and one for stamps, whatever the number of rows. */
export async function insertRows(client: Client, tenant: string, rows: readonly ChainRow[]): Promise<void> {
  const values = (columns: readonly Column[], of: readonly ChainRow[]): unknown[] => [
    tenant,
    ...columns.flatMap((column) => parametersOf(column, of)),
  ]
  await client.query({
    name: 'insert-chain',
    text: INSERT_CHAIN,
    values: [...values(LINK_COLUMNS, rows), ...values(RECORD_COLUMNS, rows).slice(1)],
  })
  // A stamp goes when its event goes: each class has its own.
  const { kept = [], classed = [] } = Object.groupBy(
    rows.filter((row) => row.stamp !== undefined),
    (row) => (row.retentionClass === DEFAULT_RETENTION_CLASS ? 'kept' : 'classed'),
  )
  if (kept.length > 0)
    await client.query({ name: 'insert-stamps', text: INSERT_STAMPS, values: values(STAMP_COLUMNS, kept) })
  if (classed.length > 0) {
    const text = INSERT_CLASS_STAMPS
    await client.query({ name: 'insert-class-stamps', text, values: values(CLASS_STAMP_COLUMNS, classed) })
  }
}
