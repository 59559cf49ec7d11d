import pg from 'pg'
import { columnText } from '#core/audit/record.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import type { FilterColumn, Page, RecordFilter } from '../query.ts'

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
// The columns whose index is over their digest; see the migration.
const DIGEST_INDEXED: ReadonlySet<FilterColumn> = new Set([
  'actor',
  'resource',
  'resource_id',
  'request_id',
  'producer_id',
  'event_type',
])
/** Records that are counted one by one; past them the count is a lower bound. */
export const MAX_COUNTED = 10_000
const COUNT_TIMEOUT_MS = 500
/** A search must not take much longer for it: where nearly all is sealed and few records are asked for, looking on would read all of them. */
const SEALED_TIMEOUT_MS = 50

/** One page in the order of the chain or against it: `limit` rows at most, and whether there are more. */
export async function searchRecords(
  client: Client,
  tenant: string,
  filter: RecordFilter & Page,
): Promise<{ rows: FoundRow[]; more: boolean }> {
  const values: unknown[] = [tenant, filter.limit + 1, MAX_PAGE_BYTES]
  return readPage(client, filter.order, values, conditionsOf(filter, filter, values, '$2'))
}

/**
 * The same for all records whose actor or resource_id is one of `names`, and all whose context has one of the `words`: ids of a data subject
 * that something is sealed for.
 */
export async function searchSubject(
  client: Client,
  tenant: string,
  { names, words }: { readonly names: readonly string[]; readonly words: readonly string[] },
  page: Page,
): Promise<{ rows: FoundRow[]; more: boolean }> {
  const values: unknown[] = [tenant, page.limit + 1, MAX_PAGE_BYTES]
  const anywhere = { from: null, to: null, words: null, equals: [] }
  const found = [
    ...names.flatMap((name) =>
      (['actor', 'resource_id'] as const).map((column) => ({
        ...anywhere,
        equals: [[column, columnText(name)] as const],
      })),
    ),
    ...words.map((word) => ({ ...anywhere, words: word })),
  ]
  return readPage(client, page.order, values, firstOf(found, page, values, '$2'))
}

/** `values`: tenant, one row more than wanted, bytes of a page, and the parameters of `where`. */
async function readPage(
  client: Client,
  direction: Page['order'],
  values: readonly unknown[],
  where: string,
): Promise<{ rows: FoundRow[]; more: boolean }> {
  const order = direction === 'asc' ? 'ASC' : 'DESC'
  const found = `SELECT seq, nonce, bytes FROM signet.records WHERE ${where} ORDER BY seq ${order} LIMIT $2`
  const { rows } = await client.query<Omit<FoundRow, 'seq'> & { seq: string; found: string }>(
    `WITH page AS (
       SELECT seq, nonce, bytes, count(*) OVER (ORDER BY seq ${order}) AS row_number,
              sum(length(bytes)) OVER (ORDER BY seq ${order}) AS size_so_far, count(*) OVER () AS found
         FROM (${found}) AS first)
     SELECT p.seq, p.nonce, p.bytes, p.found, l.commitment, l.hash, l.previous_hash, l.previous_trace_hash, l.key_id
       FROM page p LEFT JOIN signet.links l ON l.tenant = $1 AND l.seq = p.seq
      WHERE p.row_number < $2 AND (p.row_number = 1 OR p.size_so_far <= $3)
      ORDER BY p.seq ${order}`,
    [...values],
  )
  const total = Number(rows[0]?.found ?? 0)
  return { rows: rows.map((row) => ({ ...row, seq: Number(row.seq) })), more: total > rows.length }
}

/**
 * The first and the last number that the filter finds; null for none. For who goes through all of them: page by page in the order of the
 * chain, the first page would else read all that came before them, and the last one all that came after.
 */
export async function findBounds(
  client: Client,
  tenant: string,
  filter: RecordFilter,
): Promise<{ first: number; last: number } | null> {
  const values: unknown[] = [tenant]
  const where = conditionsOf({ ...filter, words: null }, null, values, '')
  // OFFSET 0: else PostgreSQL looks for the least number by going through all numbers from the first on.
  const { rows } = await client.query<{ first: string | null; last: string | null }>(
    `SELECT min(seq) AS first, max(seq) AS last FROM (SELECT seq FROM signet.records WHERE ${where} OFFSET 0) AS found`,
    values,
  )
  const { first = null, last = null } = rows[0] ?? {}
  return first === null || last === null ? null : { first: Number(first), last: Number(last) }
}

export type Count = { readonly value: number; readonly exact: boolean }

/**
 * How many records the filter finds: all of them up to `MAX_COUNTED`, else a number that there are at least; `atLeast` where counting
 * takes longer than half a second. To be the last statement of its transaction but for other reads.
 */
export async function countRecords(
  client: Client,
  tenant: string,
  filter: RecordFilter,
  atLeast: number,
): Promise<Count> {
  const values: unknown[] = [tenant, MAX_COUNTED + 1]
  const where = conditionsOf(filter, null, values, '$2')
  return inTime(
    client,
    async () => {
      const { rows } = await client.query<{ n: number }>(
        `SELECT count(*)::int AS n FROM (SELECT FROM signet.records WHERE ${where} LIMIT $2) AS found`,
        values,
      )
      const n = rows[0]?.n ?? 0
      return n > MAX_COUNTED ? { value: MAX_COUNTED, exact: false } : { value: n, exact: true }
    },
    { value: atLeast, exact: false },
    COUNT_TIMEOUT_MS,
  )
}

/**
 * One of these stands in the words of every context with a sealed value, or with a person's name as a reference (`core/seal/event.ts`). A producer's
 * own words may be these too.
 */
const SEALED_WORDS = ['sealed v1', 'subject']

/**
 * Whether a search for words may have passed something over because it is sealed: whether of the records that the rest of the filter finds one has
 * something sealed in its context. True as well where that takes longer than 50 ms. To be called like `countRecords`.
 */
export async function mayHideSealed(client: Client, tenant: string, filter: RecordFilter): Promise<boolean> {
  const values: unknown[] = [tenant, 1]
  const anySealed = SEALED_WORDS.map(
    (words) => `EXISTS (SELECT FROM signet.records WHERE ${conditionsOf({ ...filter, words }, null, values, '$2')})`,
  )
  return inTime(
    client,
    async () => {
      const { rows } = await client.query<{ hidden: boolean }>(`SELECT ${anySealed.join(' OR ')} AS hidden`, values)
      return rows[0]?.hidden !== false
    },
    true,
    SEALED_TIMEOUT_MS,
  )
}

/** What `work` reads, or `otherwise` where that takes longer. */
async function inTime<T>(client: Client, work: () => Promise<T>, otherwise: T, timeoutMs: number): Promise<T> {
  await client.query(`SAVEPOINT in_time; SET LOCAL statement_timeout = ${timeoutMs}`)
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof pg.DatabaseError) || error.code !== QUERY_CANCELED) throw error
    return otherwise
  } finally {
    await client.query('ROLLBACK TO in_time')
  }
}

const QUERY_CANCELED = '57014'

/** The condition that picks the records; adds its parameters to `values`, whose first is the tenant. `limit`: of the rows that are wanted. */
function conditionsOf(filter: RecordFilter, page: Page | null, values: unknown[], limit: string): string {
  const forms = formsOf(filter)
  if (forms.length === 1) return conditionsOfOne(filter, page, values, limit)
  if (page !== null) return firstOf(forms, page, values, limit)
  return `(${forms.map((form) => conditionsOfOne(form, page, values, limit)).join(' OR ')})`
}

/** The first rows of each, so that every one of them can be read in the order of its index. */
function firstOf(filters: readonly RecordFilter[], page: Page, values: unknown[], limit: string): string {
  const order = page.order === 'asc' ? 'ASC' : 'DESC'
  const parts = filters.map(
    (filter) =>
      `(SELECT seq FROM signet.records WHERE ${conditionsOfOne(filter, page, values, limit)} ORDER BY seq ${order} LIMIT ${limit})`,
  )
  return `tenant = $1 AND seq IN (${parts.join(' UNION ')})`
}

/** A filter for each of the forms that its values may have on the wall. */
function formsOf(filter: RecordFilter): readonly RecordFilter[] {
  const { aliases, equals } = filter
  if (aliases === undefined) return [filter]
  let forms: (readonly (readonly [FilterColumn, string])[])[] = [[]]
  for (const [column, value] of equals) {
    const alternatives = [value, ...(aliases.get(column) ?? [])]
    forms = forms.flatMap((form) => alternatives.map((one) => [...form, [column, one] as const]))
  }
  return forms.map((form) => ({ ...filter, equals: form }))
}

function conditionsOfOne(filter: RecordFilter, page: Page | null, values: unknown[], limit: string): string {
  const next = (value: unknown): string => `$${values.push(value)}`
  if (filter.words !== null) {
    const columns = filter.equals.map(([column]) => column)
    const texts = filter.equals.map(([, value]) => value)
    // Only the function may use the index of words; it looks at all the conditions, so that its first rows are the page.
    return `tenant = $1 AND seq IN (SELECT signet.search_words(${next(filter.words)}, ${next(columns)}::text[], ${next(texts)}::text[],
      ${next(filter.from)}::timestamptz, ${next(filter.to)}::timestamptz, ${next(page?.bound ?? null)}::bigint, ${next(page?.order === 'asc')}::boolean, ${limit}::int))`
  }
  const conditions = ['tenant = $1']
  const bound = page?.bound ?? null
  if (page !== null && bound !== null) conditions.push(`seq ${page.order === 'asc' ? '>' : '<'} ${next(bound)}::bigint`)
  if (filter.from !== null) conditions.push(`"timestamp" >= ${next(filter.from)}::timestamptz`)
  if (filter.to !== null) conditions.push(`"timestamp" < ${next(filter.to)}::timestamptz`)
  for (const [column, value] of filter.equals) {
    const parameter = next(value)
    conditions.push(`${column} = ${parameter}::${column === 'session' ? 'uuid' : 'text'}`)
    if (DIGEST_INDEXED.has(column)) conditions.push(`md5(${column}) = md5(${parameter}::text)`)
  }
  return conditions.join(' AND ')
}

/** The exact JCS bytes of a stamp of this tenant. */
export async function findStamp(client: Client, tenant: string, stampHash: string): Promise<Buffer | null> {
  const { rows } = await client.query<{ stamp: Buffer }>(
    'SELECT stamp FROM signet.stamps WHERE tenant = $1 AND stamp_hash = $2 LIMIT 1',
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
    `SELECT s.stamp_hash, s.stamp FROM signet.stamps s
      WHERE s.tenant = $1 AND md5(s.request_id) = md5($2::text) AND s.request_id = $2
        AND ($3::text IS NULL OR EXISTS (
              SELECT FROM signet.records r WHERE r.tenant = $1 AND r.seq = s.seq AND r.producer_id = $3))
      ORDER BY s.seq LIMIT 1`,
    [tenant, requestId, producerId],
  )
  const [row] = rows
  return row === undefined ? null : { hash: row.stamp_hash, stamp: row.stamp }
}

/** Which leaves of the tree links of a tenant are, by number; those that are none yet are left out. */
export async function findLeafIndexes(
  client: Client,
  tenant: string,
  seqs: readonly number[],
): Promise<Map<number, number>> {
  if (seqs.length === 0) return new Map()
  const { rows } = await client.query<{ seq: string; leaf: string }>(
    `SELECT s.seq, r.first_leaf + s.seq - r.first_seq AS leaf
       FROM unnest($2::bigint[]) AS s(seq)
       JOIN LATERAL (SELECT first_leaf, first_seq, count FROM signet.tree_runs
                      WHERE tenant = $1 AND first_seq <= s.seq ORDER BY first_seq DESC LIMIT 1) AS r
         ON s.seq < r.first_seq + r.count`,
    [tenant, seqs],
  )
  return new Map(rows.map((row) => [Number(row.seq), Number(row.leaf)]))
}
