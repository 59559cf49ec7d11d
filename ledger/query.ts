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
const StampQuery = Type.Object({ producer_id: Type.Optional(Text) }, { additionalProperties: false })
const logsValidator = Compile(LogsQuery)
const verifyValidator = Compile(VerifyQuery)
const stampValidator = Compile(StampQuery)

const MAX_PAGE = 1_000
const DEFAULT_PAGE = 100

/** `beforeSeq`: only what is older than this number; null for the newest page. */
export type LogsFilter = {
  readonly limit: number
  readonly beforeSeq: number | null
  readonly from: string | null
  readonly to: string | null
  /** Columns that must equal a text. */
  readonly equals: readonly (readonly [column: FilterColumn, value: string])[]
}
const FILTER_COLUMNS = [
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
] as const
type FilterColumn = (typeof FILTER_COLUMNS)[number]

/** @throws SignetError REQUEST_INVALID naming the parameter */
export function parseLogsQuery(query: unknown): LogsFilter {
  if (!logsValidator.Check(query)) throw invalid(logsValidator.Errors(query)[0])
  for (const name of ['from', 'to'] as const) {
    const at = query[name]
    if (at !== undefined && !isRealTimestamp(at))
      throw new SignetError('REQUEST_INVALID', `the parameter ${name} is no moment of the calendar`)
  }
  const limit = query.limit === undefined ? DEFAULT_PAGE : Number(query.limit)
  if (limit < 1 || limit > MAX_PAGE)
    throw new SignetError('REQUEST_INVALID', `the parameter limit must be from 1 to ${MAX_PAGE}`)
  return {
    limit,
    beforeSeq: query.cursor === undefined ? null : decodeCursor(query.cursor),
    from: query.from ?? null,
    to: query.to ?? null,
    equals: FILTER_COLUMNS.flatMap((column) => {
      const value = query[column]
      return value === undefined ? [] : [[column, columnText(value)] as const]
    }),
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

/** A position in the list, opaque to callers. */
export function encodeCursor(seq: number): string {
  return Buffer.from(`v1:${seq}`).toString('base64url')
}

function decodeCursor(cursor: string): number {
  const seq = /^v1:([1-9][0-9]{0,14})$/.exec(Buffer.from(cursor, 'base64url').toString('latin1'))?.[1]
  if (seq === undefined)
    throw new SignetError('REQUEST_INVALID', 'the parameter cursor is not one that this ledger gave out')
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
