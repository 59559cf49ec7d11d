import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { EXPORT_FORMATS, type ExportFormat } from '#core/export/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { FILTER_COLUMNS, readFilter, type RecordFilter } from '../query.ts'

/** What was asked for, as kept with the job: `query` as members of the request, defaults filled in. */
export type ExportRequest = {
  readonly format: ExportFormat
  readonly raw: boolean
  readonly query: Readonly<Record<string, string>>
  /** Whom to tell by e-mail when it is finished. */
  readonly notify?: string
}

/**
 * What a finished export consists of. The records are read from the wall again for each download; their file has to come out with
 * this size and digest.
 */
export type ExportPackage = {
  readonly manifest: string
  readonly readme: string
  readonly keys: string
  readonly checkpoint: string
  readonly checkpointSize: number
  /** RFC 3161 token over the manifest, base64; absent where no authority is configured. */
  readonly timestamp?: string
}

const DEFAULT_DAYS = 30
/** One mailbox of RFC 5321 without quotes, comments or anything that a header could be made of. */
const MAILBOX = '^[A-Za-z0-9.!#$%&*+/=?^_{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\\.[A-Za-z0-9-]{1,63})*$'
const Value = Type.String({ minLength: 1, maxLength: 4_096 })
const Body = Type.Object(
  {
    format: Type.Optional(Type.Enum(EXPORT_FORMATS)),
    raw: Type.Optional(Type.Boolean()),
    notify: Type.Optional(Type.String({ maxLength: 254, pattern: MAILBOX })),
    ...Object.fromEntries([...FILTER_COLUMNS, 'from', 'to', 'q'].map((name) => [name, Type.Optional(Value)])),
  },
  { additionalProperties: false },
)
const validator = Compile(Body)
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** @throws SignetError REQUEST_INVALID naming the member */
export function parseExportRequest(body: unknown, at: Date): ExportRequest {
  if (!validator.Check(body)) {
    const fault = validator.Errors(body)[0]
    throw new SignetError(
      'REQUEST_INVALID',
      `the body is not valid: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`,
    )
  }
  const {
    format = 'ndjson',
    raw = false,
    notify,
    ...filters
  } = body as { format?: ExportFormat; raw?: boolean; notify?: string } & Record<string, string>
  const to = filters['to'] ?? at.toISOString()
  filterOf({ ...filters, to })
  const from = filters['from'] ?? new Date(Date.parse(to) - DEFAULT_DAYS * 24 * 60 * 60 * 1_000).toISOString()
  if (from >= to) throw new SignetError('REQUEST_INVALID', '/from is not before /to')
  const query = { ...filters, from, to }
  filterOf(query)
  return { format, raw, query, ...(notify === undefined ? {} : { notify }) }
}

/** @throws SignetError REQUEST_INVALID naming the member */
export function filterOf(query: Readonly<Record<string, string>>): RecordFilter {
  for (const name of ['from', 'to'] as const)
    if (query[name] !== undefined && !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(query[name]))
      throw new SignetError('REQUEST_INVALID', `/${name} is no time of the form 2026-11-23T09:30:00.123Z`)
  if (query['session'] !== undefined && !UUID.test(query['session']))
    throw new SignetError('REQUEST_INVALID', '/session is no lowercase UUID')
  return readFilter(query)
}
