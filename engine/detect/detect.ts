import { isUtf8 } from 'node:buffer'
import type { Fact, FactName } from '#core/policy/decision.ts'
import { isTable, scanDelimited } from './delimited.ts'
import type { EmailContext } from './email.ts'
import { scanForm } from './form.ts'
import { decodeEscapes } from './json-escapes.ts'
import { JsonScanner, type JsonForm } from './json.ts'
import { decodeReferences, scanElements, scanLines } from './markup.ts'
import { Tally } from './tally.ts'
import { TextScanner } from './text.ts'

export interface Detection {
  /** Of the wanted facts, those that could be determined. Counts stop at 1000. */
  facts: Partial<Record<FactName, Fact>>
  /** Wanted facts of a body that cannot be read: not JSON to the letter, not UTF-8, with a byte order mark or NUL. */
  undecidable: FactName[]
}

type Reading = 'json' | 'json-lines' | 'delimited' | 'form' | 'markup' | 'page' | 'code' | 'text'

/**
 * Finds facts in a body (its Content-Encoding removed) of this media type (lower case, no parameters). Media types that hold
 * no text are not read: `applicable: false`. No media type is read as text, since clients look for themselves, and so is
 * `application/octet-stream` where it holds nothing but text. Linear in the length. `wanted` may be any set; all detectors share the pass.
 */
export function detectFacts(payload: Buffer, mediaType: string, wanted: ReadonlySet<FactName>): Detection {
  const facts: Partial<Record<FactName, Fact>> = {}
  if (wanted.size === 0) return { facts, undecidable: [] }
  const reading = UNKNOWN.has(mediaType) ? readingOfUnknown(payload) : readingOf(mediaType)
  if (reading === null) {
    for (const name of wanted) facts[name] = { applicable: false, count: 0 }
    return { facts, undecidable: [] }
  }
  const tally = new Tally()
  if (!isReadable(payload) || !scan(payload, reading, tally)) return { facts, undecidable: [...wanted] }
  for (const name of wanted) facts[name] = { applicable: true, count: tally.count(name) }
  return { facts, undecidable: [] }
}

const CODE = /^(?:text|application)\/(?:(?:x-)?(?:java|ecma)script|css|typescript)$/
const DELIMITED: ReadonlySet<string> = new Set([
  'text/csv',
  'application/csv',
  'text/tab-separated-values',
  'text/comma-separated-values',
])
const JSON_LINES: ReadonlySet<string> = new Set([
  'application/x-ndjson',
  'application/ndjson',
  'application/jsonl',
  'application/jsonlines',
  'application/x-jsonlines',
  'application/json-seq',
  'application/json-lines',
])
/** Application types that are text. */
const TEXTUAL: ReadonlySet<string> = new Set([
  'application/yaml',
  'application/x-yaml',
  'application/toml',
  'application/sql',
  'application/graphql',
  'application/n-triples',
  'application/n-quads',
  'application/trig',
])

/** What servers call a file whose type they do not know: nginx and Apache a CSV file, S3 anything. */
const UNKNOWN: ReadonlySet<string> = new Set(['application/octet-stream', 'binary/octet-stream', 'application/unknown'])

/** A byte order mark makes it text, too: text that cannot be read. */
function readingOfUnknown(payload: Buffer): Reading | null {
  return payload.length > 0 && isUtf8(payload) && !payload.includes(0) ? 'text' : null
}

/** How a media type is read, or null for one that is not. */
function readingOf(mediaType: string): Reading | null {
  if (mediaType === 'application/json' || mediaType === 'text/json' || mediaType.endsWith('+json')) return 'json'
  if (JSON_LINES.has(mediaType) || mediaType.endsWith('+json-seq')) return 'json-lines'
  if (DELIMITED.has(mediaType)) return 'delimited'
  if (mediaType === 'application/x-www-form-urlencoded') return 'form'
  if (mediaType === 'text/html' || mediaType === 'application/xhtml+xml') return 'page'
  if (mediaType === 'application/xml' || mediaType === 'text/xml' || mediaType.endsWith('+xml')) return 'markup'
  if (CODE.test(mediaType)) return 'code'
  if (mediaType === '' || mediaType.startsWith('text/') || TEXTUAL.has(mediaType) || mediaType.endsWith('+yaml'))
    return 'text'
  return null
}

/** UTF-8 without byte order mark. NUL stands in no text, but in every UTF-16 and UTF-32 text that holds ASCII. */
function isReadable(payload: Buffer): boolean {
  if (payload[0] === 0xef && payload[1] === 0xbb && payload[2] === 0xbf) return false
  return isUtf8(payload) && !payload.includes(0)
}

function scan(payload: Buffer, reading: Reading, tally: Tally): boolean {
  const context: EmailContext = reading === 'page' || reading === 'code' ? reading : 'data'
  const text = new TextScanner(tally, context)
  switch (reading) {
    case 'json':
    case 'json-lines': {
      const form: JsonForm = reading === 'json' ? 'value' : 'lines'
      return new JsonScanner(payload, tally, text).scan(form)
    }
    case 'delimited':
      scanDelimited(payload, tally, text)
      return true
    case 'form':
      scanForm(payload, tally, text)
      return true
    default:
      scanText(payload, reading, tally, text)
      return true
  }
}

function scanText(
  payload: Buffer,
  reading: 'markup' | 'page' | 'code' | 'text',
  tally: Tally,
  text: TextScanner,
): void {
  let bytes = payload
  if (reading === 'markup' || reading === 'page') bytes = decodeReferences(bytes)
  // JSON under another name must not hide what it holds either.
  if (bytes.includes('\\u')) {
    const decoded = Buffer.allocUnsafe(bytes.length)
    bytes = decoded.subarray(0, decodeEscapes(bytes, 0, bytes.length, decoded))
  }
  text.scan(bytes, 0, bytes.length)
  if (reading === 'markup' || reading === 'page') scanElements(bytes, tally)
  else if (reading === 'text') {
    scanLines(bytes, tally)
    // A table under another name must not hide who is in it.
    if (isTable(bytes)) {
      const table = new Tally()
      scanDelimited(bytes, table, new TextScanner(table, 'data'))
      tally.join(table)
    }
  }
}
