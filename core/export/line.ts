import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import type { JsonValue } from '../json/value.ts'
import { csvLine, csvValue } from './csv.ts'

/**
 * A record of an export. `record`: the JSON text of the sealed record, exactly as committed to unless something in it was scrubbed;
 * `scrubbed` says what. `nonce` (64 hex digits) comes with exact bytes only, and then commitment = SHA-256(nonce ‖ record): beside
 * scrubbed bytes it would let anybody try out guesses of what was scrubbed.
 */
export type ExportedRecord = {
  readonly seq: number
  readonly event_id: string
  readonly commitment: string
  readonly link_hash: string
  readonly nonce: string | null
  readonly record: string
  readonly scrubbed: readonly { readonly kind: string; readonly path: string }[]
}
/** The proof that a record's link is a leaf of the tree of the package's checkpoint (RFC 6962). */
export type ExportedProof = {
  readonly seq: number
  readonly commitment: string
  readonly link_hash: string
  readonly leaf_index: number
  readonly inclusion_path: readonly string[]
}

/** The longest line of a package: a record of 1 MiB with all its quotes doubled, and what stands around it. */
export const MAX_LINE_BYTES = 8 * 1024 * 1024

const Hash = Type.String({ pattern: '^[0-9a-f]{64}$' })
const Seq = Type.Integer({ minimum: 1, maximum: Number.MAX_SAFE_INTEGER })
const RecordLine = Type.Object(
  {
    seq: Seq,
    event_id: Type.String({ pattern: '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' }),
    commitment: Hash,
    link_hash: Hash,
    nonce: Type.Union([Hash, Type.Null()]),
    record: Type.Object({ event: Type.Object({ event_id: Type.String(), tenant: Type.String() }) }),
    scrubbed: Type.Array(Type.Object({ kind: Type.String(), path: Type.String() }, { additionalProperties: false })),
  },
  { additionalProperties: false },
)
const ProofLine = Type.Object(
  {
    seq: Seq,
    commitment: Hash,
    link_hash: Hash,
    leaf_index: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    inclusion_path: Type.Array(Hash, { maxItems: 64 }),
  },
  { additionalProperties: false },
)
const recordValidator = Compile(RecordLine)
const proofValidator = Compile(ProofLine)
/** Deeper by what a line puts around a record, whose event may be 64 deep. */
const MAX_DEPTH = 72

/** RFC 8785 of the whole, so that the exact text of the record stands in it: between `"record":` and the last `,"scrubbed":`. */
export function formatRecordLine({ record, scrubbed, seq, ...ids }: ExportedRecord): string {
  const { commitment, event_id, link_hash, nonce } = ids
  const head = canonicalize({ commitment, event_id, link_hash, nonce })
  return `${head.slice(0, -1)},"record":${record},"scrubbed":${canonicalize(scrubbed)},"seq":${seq}}`
}

/** @throws SignetError EXPORT_INVALID for a text that `formatRecordLine` would not write */
export function readRecordLine(text: string): ExportedRecord & { readonly value: JsonValue } {
  const value = parse(text)
  if (!recordValidator.Check(value)) throw invalid('a line is no record', recordValidator.Errors(value)[0])
  const record = canonicalize(value.record)
  const { seq, event_id, commitment, link_hash, nonce, scrubbed } = value
  const read = { seq, event_id, commitment, link_hash, nonce, scrubbed, record }
  if (formatRecordLine(read) !== text) throw invalid('a record is not in canonical form')
  if (value.record.event.event_id !== event_id) throw invalid('a record has another event_id than its line')
  return { ...read, value: value.record }
}

export function formatProofLine(proof: ExportedProof): string {
  const { commitment, inclusion_path, leaf_index, link_hash, seq } = proof
  return canonicalize({ commitment, inclusion_path, leaf_index, link_hash, seq })
}

/** @throws SignetError EXPORT_INVALID */
export function readProofLine(text: string): ExportedProof {
  const value = parse(text)
  if (!proofValidator.Check(value)) throw invalid('a line is no proof', proofValidator.Errors(value)[0])
  return value
}

const EVENT_COLUMNS = [
  'timestamp_utc',
  'event_type',
  'actor',
  'action',
  'resource',
  'resource_type',
  'resource_id',
  'stage',
  'outcome',
  'trace_id',
  'request_id',
  'latency_ms',
  'region',
  'data_domain',
] as const
const RECORD_COLUMNS = ['producer_id', 'received_at', 'session', 'spool_seq', 'stamp_hash'] as const
/** Columns of `records.csv`: those of the event and its record to read and sort by, then what it takes to check the row. */
export const CSV_COLUMNS = [
  'seq',
  'event_id',
  ...EVENT_COLUMNS,
  ...RECORD_COLUMNS,
  'scrubbed',
  'commitment',
  'link_hash',
  'nonce',
  'record',
] as const

type Readable = Readonly<Record<string, string | number | null | undefined>>

/** `value`: the record, parsed. */
export function formatCsvRow(exported: ExportedRecord, value: JsonValue): string {
  return csvLine(csvFields(exported, value))
}

function csvFields(exported: ExportedRecord, value: JsonValue): (string | number | null)[] {
  const { event, ...record } = value as unknown as { event: Readable } & Readable
  const { seq, event_id, commitment, link_hash, nonce, scrubbed } = exported
  return [
    seq,
    event_id,
    ...EVENT_COLUMNS.map((name) => event[name] ?? null),
    ...RECORD_COLUMNS.map((name) => record[name] ?? null),
    scrubbed.length === 0 ? '' : canonicalize(scrubbed),
    commitment,
    link_hash,
    nonce,
    exported.record,
  ]
}

/** Reads a row; the columns for reading have to say what the record says. @throws SignetError EXPORT_INVALID */
export function readCsvRow(row: readonly string[]): ExportedRecord {
  if (row.length !== CSV_COLUMNS.length) throw invalid(`a row has ${row.length} cells instead of ${CSV_COLUMNS.length}`)
  const cells = row.map(csvValue)
  const cell = (name: (typeof CSV_COLUMNS)[number]): string => cells[CSV_COLUMNS.indexOf(name)] ?? ''
  const record = parse(cell('record'))
  const scrubbed = cell('scrubbed') === '' ? [] : parse(cell('scrubbed'))
  const { commitment, event_id, link_hash } = {
    commitment: cell('commitment'),
    event_id: cell('event_id'),
    link_hash: cell('link_hash'),
  }
  const nonce = cell('nonce') === '' ? null : cell('nonce')
  const read = readRecordLine(
    formatRecordLine({
      commitment,
      event_id,
      link_hash,
      nonce,
      record: cell('record'),
      scrubbed: scrubbed as unknown as ExportedRecord['scrubbed'],
      seq: Number(cell('seq')),
    }),
  )
  const want = csvFields(read, record)
  const differs = want.findIndex((value, index) => String(value ?? '') !== cells[index])
  if (differs !== -1)
    throw invalid(`the column ${CSV_COLUMNS[differs]} of record ${read.seq} is not what the record says`)
  return read
}

function parse(text: string): JsonValue {
  try {
    return parseStrict(Buffer.from(text), { maxDepth: MAX_DEPTH })
  } catch (cause) {
    throw new SignetError('EXPORT_INVALID', 'a line is not strict JSON', { cause })
  }
}

function invalid(what: string, fault?: { instancePath: string; message: string }): SignetError {
  const where = fault === undefined ? '' : `: ${fault.instancePath || '/'} ${fault.message}`
  return new SignetError('EXPORT_INVALID', `${what}${where}`)
}
