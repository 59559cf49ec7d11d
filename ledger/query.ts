import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { columnText } from '#core/audit/record.ts'
import { OUTCOMES, STAGES } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { Digest, TimestampUtc, TraceId } from '#core/stamp/schema.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'

const Text = Type.String({ minLength: 1, maxLength: 4_096 })
const Uuid = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' })
/** Whole numbers of at most 15 digits: safe integers. */
const WholeNumber = Type.String({ pattern: '^[0-9]{1,15}$' })

/** Query parameters of `GET /api/audit/logs`; all of them narrow. `from` is included, `to` is not. */
const LogsQuery = Type.Object(
  {
    from: Type.Optional(TimestampUtc),
    to: Type.Optional(TimestampUtc),
    actor: Type.Optional(Text),
    action: Type.Optional(Text),
    resource: Type.Optional(Text),
    stage: Type.Optional(Type.Enum(STAGES)),
    outcome: Type.Optional(Type.Enum(OUTCOMES)),
    trace_id: Type.Optional(TraceId),
    request_id: Type.Optional(Text),
    event_type: Type.Optional(Text),
    stamp_hash: Type.Optional(Digest),
    session: Type.Optional(Uuid),
    producer_id: Type.Optional(Text),
    resource_type: Type.Optional(Text),
    resource_id: Type.Optional(Text),
    region: Type.Optional(Text),
    data_domain: Type.Optional(Text),
    q: Type.Optional(Type.String({ minLength: 1, maxLength: 1_000 })),
    order: Type.Optional(Type.Enum(['asc', 'desc'])),
    count: Type.Optional(Type.Enum(['true', 'false'])),
    limit: Type.Optional(Type.String({ pattern: '^[0-9]{1,4}$' })),
    cursor: Type.Optional(Type.String({ maxLength: 100 })),
  },
  { additionalProperties: false },
)
const VerifyQuery = Type.Object(
  {
    from_seq: Type.Optional(WholeNumber),
    to_seq: Type.Optional(WholeNumber),
    trace_id: Type.Optional(TraceId),
    checkpoint_seq: Type.Optional(WholeNumber),
    checkpoint_hash: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })),
  },
  { additionalProperties: false },
)
const SubjectQuery = Type.Pick(LogsQuery, ['order', 'limit', 'cursor'], { additionalProperties: false })
const StampQuery = Type.Object({ producer_id: Type.Optional(Text) }, { additionalProperties: false })
const logsValidator = Compile(LogsQuery)
const verifyValidator = Compile(VerifyQuery)
const subjectValidator = Compile(SubjectQuery)
const stampValidator = Compile(StampQuery)

const MAX_PAGE = 1_000
const DEFAULT_PAGE = 100

/** Which records of a tenant: what is asked of each, without order and page. */
export type RecordFilter = {
  /** Of `timestamp_utc`: included, and excluded. */
  readonly from: string | null
  readonly to: string | null
  /** Columns that must equal a text. */
  readonly equals: readonly (readonly [column: FilterColumn, value: string])[]
  /** Other texts that stand on the wall for the value of a column: the reference of a person whose name it is. */
  readonly aliases?: ReadonlyMap<FilterColumn, readonly string[]>
  /** Words that the context must hold, all of them; null for any. */
  readonly words: string | null
}
/** A page of them, by number. `bound`: only what comes after this number in that order; null for the first page. */
export type Page = {
  readonly limit: number
  readonly order: 'asc' | 'desc'
  readonly bound: number | null
}
export type LogsFilter = RecordFilter & Page & { readonly count: boolean }

export const FILTER_COLUMNS = [
  'actor',
  'action',
  'resource',
  'stage',
  'outcome',
  'trace_id',
  'request_id',
  'event_type',
  'stamp_hash',
  'session',
  'producer_id',
  'resource_type',
  'resource_id',
  'region',
  'data_domain',
] as const
export type FilterColumn = (typeof FILTER_COLUMNS)[number]

/** @throws SignetError REQUEST_INVALID naming the parameter */
export function parseLogsQuery(query: unknown): LogsFilter {
  if (!logsValidator.Check(query)) throw invalid(logsValidator.Errors(query)[0])
  return { ...readFilter(query), ...readPage(query), count: query.count === 'true' }
}

/**
 * Query parameters of `GET /api/audit/subjects/{id}/records`.
 * @throws SignetError REQUEST_INVALID naming the parameter
 */
export function parseSubjectQuery(query: unknown): Page {
  if (!subjectValidator.Check(query)) throw invalid(subjectValidator.Errors(query)[0])
  return readPage(query)
}

function readPage(query: Type.Static<typeof SubjectQuery>): Page {
  const limit = query.limit === undefined ? DEFAULT_PAGE : Number(query.limit)
  if (limit < 1 || limit > MAX_PAGE)
    throw new SignetError('REQUEST_INVALID', `the parameter limit must be from 1 to ${MAX_PAGE}`)
  const order = query.order ?? 'desc'
  const bound = query.cursor === undefined ? null : decodeCursor(query.cursor, order)
  return { limit, order, bound }
}

/**
 * The filters among the members of `values`, whose forms were checked before.
 * @throws SignetError REQUEST_INVALID naming the parameter
 */
export function readFilter(
  values: Readonly<Partial<Record<FilterColumn | 'from' | 'to' | 'q', string>>>,
): RecordFilter {
  for (const name of ['from', 'to'] as const) {
    const at = values[name]
    if (at !== undefined && !isRealTimestamp(at))
      throw new SignetError('REQUEST_INVALID', `the parameter ${name} is no moment of the calendar`)
  }
  if (values.q !== undefined && !/[\p{L}\p{N}]/u.test(values.q))
    throw new SignetError('REQUEST_INVALID', 'the parameter q has no word; a word has letters or digits')
  return {
    from: values.from ?? null,
    to: values.to ?? null,
    equals: FILTER_COLUMNS.flatMap((column) => {
      const value = values[column]
      return value === undefined ? [] : [[column, columnText(value)] as const]
    }),
    words: values.q === undefined ? null : columnText(values.q),
  }
}

/** What to verify: a range of the tenant's chain (`toSeq` null: to its head), or one trace; and a checkpoint that it must contain. */
export type VerifyScope = {
  readonly fromSeq: number
  readonly toSeq: number | null
  readonly traceId: string | null
  readonly checkpoint: { readonly seq: number; readonly hash: string } | null
}

/** @throws SignetError REQUEST_INVALID naming the parameter */
export function parseVerifyQuery(query: unknown): VerifyScope {
  if (!verifyValidator.Check(query)) throw invalid(verifyValidator.Errors(query)[0])
  const fromSeq = query.from_seq === undefined ? 1 : Math.max(1, Number(query.from_seq))
  const toSeq = query.to_seq === undefined ? null : Number(query.to_seq)
  if (toSeq !== null && toSeq < fromSeq)
    throw new SignetError('REQUEST_INVALID', 'the parameter to_seq is below from_seq')
  if (query.trace_id !== undefined && (query.from_seq !== undefined || toSeq !== null)) {
    throw new SignetError(
      'REQUEST_INVALID',
      'a trace is verified as a whole: the parameter trace_id goes without from_seq and to_seq',
    )
  }
  if ((query.checkpoint_seq === undefined) !== (query.checkpoint_hash === undefined)) {
    throw new SignetError('REQUEST_INVALID', 'the parameters checkpoint_seq and checkpoint_hash go together')
  }
  if (query.checkpoint_seq !== undefined) {
    const seq = Number(query.checkpoint_seq)
    if (query.trace_id !== undefined || seq < fromSeq - 1 || (toSeq !== null && seq > toSeq)) {
      throw new SignetError('REQUEST_INVALID', 'the parameter checkpoint_seq lies outside of what is to be verified')
    }
  }
  return {
    fromSeq,
    toSeq,
    traceId: query.trace_id ?? null,
    checkpoint:
      query.checkpoint_seq === undefined || query.checkpoint_hash === undefined
        ? null
        : { seq: Number(query.checkpoint_seq), hash: query.checkpoint_hash },
  }
}

/**
 * Query parameters of `GET /api/audit/requests/{request_id}/stamp`: whose stamp it has to be, or null.
 * @throws SignetError REQUEST_INVALID naming the parameter
 */
export function parseStampQuery(query: unknown): { readonly producerId: string | null } {
  if (!stampValidator.Check(query)) throw invalid(stampValidator.Errors(query)[0])
  return { producerId: query.producer_id === undefined ? null : columnText(query.producer_id) }
}

/** A position in the list, opaque to callers; it goes on in the order that it was given out in. */
export function encodeCursor(seq: number, order: Page['order'] = 'desc'): string {
  return Buffer.from(`${CURSOR_FORM[order]}:${seq}`).toString('base64url')
}

const CURSOR_FORM = { desc: 'v1', asc: 'v1a' } as const

function decodeCursor(cursor: string, order: Page['order']): number {
  const [, form, seq] = /^(v1a?):([1-9][0-9]{0,14})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1')) ?? []
  if (seq === undefined)
    throw new SignetError('REQUEST_INVALID', 'the parameter cursor is not one that this ledger gave out')
  if (form !== CURSOR_FORM[order])
    throw new SignetError('REQUEST_INVALID', 'the parameter cursor belongs to a list in the other order')
  return Number(seq)
}

function invalid(fault: { instancePath: string; message: string } | undefined): SignetError {
  const name = fault?.instancePath.replace(/^\//, '') ?? ''
  return new SignetError(
    'REQUEST_INVALID',
    name === '' || fault?.message === 'schema is false'
      ? 'the query has a parameter that is not known here; see docs/reference/audit.md'
      : `the parameter ${name} ${fault?.message ?? 'is not valid'} (given once)`,
  )
}
