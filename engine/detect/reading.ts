import { isUtf8 } from 'node:buffer'

/** How a body is read. `sniffed` is text whose form its first byte tells; `sheet` that, and a table even without known headers. */
export type Reading =
  | 'json'
  | 'json-lines'
  | 'delimited'
  | 'form'
  | 'markup'
  | 'page'
  | 'code'
  | 'style'
  | 'sniffed'
  | 'sheet'

const CODE = /^(?:text|application)\/(?:(?:x-)?(?:java|ecma)script|typescript)$/
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
/** Types outside of `text/` that are text. */
const TEXTUAL =
  /^(?:multipart|message)\/|json|csv|^application\/(?:(?:x-)?yaml|toml|sql|graphql|n-triples|n-quads|trig|rtf|jwt|xml-dtd)$|\+yaml$/
/** What servers call a CSV file, as Windows does. */
const SHEET = /^application\/(?:vnd\.ms-excel|(?:x-)?(?:ms)?excel|x-msexcel)$/
/** Types that hold no text that a detector reads, so that a stream of them need not be held. */
const BINARY =
  /^(?:image|audio|video|font|model)\/|^application\/(?:pdf|wasm|zip|gzip|zstd|(?:x-)?(?:zip-compressed|gzip|bzip2?|xz|7z-compressed|rar-compressed|tar|font-\w+|shockwave-flash)|vnd\.(?:rar|ms-fontobject|openxmlformats-officedocument\..+|oasis\.opendocument\..+)|epub\+zip|font-\w+|ogg|mp4|java-archive|vnd\.android\.package-archive|vnd\.debian\.binary-package)$/

/**
 * Whether a body of this media type (lower case, no parameters) is read. `always`: it is, whatever is in it. `by-content`: where
 * it turns out to be text. `never`: a binary type; its whole body is looked at by content all the same, but a stream of it is
 * not worth holding. What is not read of the first two is undecidable.
 */
export function isReadableType(mediaType: string): 'always' | 'by-content' | 'never' {
  if (readingOf(mediaType) !== null) return 'always'
  return BINARY.test(mediaType) ? 'never' : 'by-content'
}

/** How a media type is read, or null for one that its content must tell of. */
export function readingOf(mediaType: string): Reading | null {
  if (mediaType === 'application/json' || mediaType === 'text/json' || mediaType.endsWith('+json')) return 'json'
  if (JSON_LINES.has(mediaType) || mediaType.endsWith('+json-seq')) return 'json-lines'
  if (DELIMITED.has(mediaType)) return 'delimited'
  if (mediaType === 'application/x-www-form-urlencoded') return 'form'
  if (mediaType === 'text/html' || mediaType === 'application/xhtml+xml') return 'page'
  if (mediaType === 'application/xml' || mediaType === 'text/xml' || mediaType.endsWith('+xml')) return 'markup'
  if (mediaType === 'text/css') return 'style'
  if (CODE.test(mediaType)) return 'code'
  return mediaType === '' || mediaType.startsWith('text/') || TEXTUAL.test(mediaType) ? 'sniffed' : null
}

/** How a body is read whose media type says nothing, or that it is binary; null where it is binary. */
export function readingOfContent(payload: Buffer, mediaType: string): Reading | null {
  if (payload.length === 0 || isPdf(payload)) return null
  const isText =
    (isUtf8(payload) && !payload.includes(0)) ||
    beginsWithMark(payload) ||
    beginsWide(payload) ||
    beginsPrintable(payload)
  return isText ? (SHEET.test(mediaType) ? 'sheet' : 'sniffed') : null
}

/** UTF-8 without byte order mark. NUL stands in no text, but in every UTF-16 and UTF-32 text that holds ASCII. */
export function isReadable(payload: Buffer): boolean {
  if (payload[0] === 0xef && payload[1] === 0xbb && payload[2] === 0xbf) return false
  return isUtf8(payload) && !payload.includes(0)
}

/** The first byte that is not white space, or 0. */
export function firstByte(bytes: Uint8Array, start = 0, end = bytes.length): number {
  for (let i = start; i < end; i++) if (bytes[i]! > 0x20) return bytes[i]!
  return 0
}

/** The one common binary format that is printable at its beginning. */
function isPdf(payload: Buffer): boolean {
  return payload.length > 5 && payload.toString('latin1', 0, 5) === '%PDF-'
}

/** A byte order mark makes it text: text that cannot be read. */
function beginsWithMark(payload: Buffer): boolean {
  const [first, second, third] = payload
  return (
    (first === 0xff && second === 0xfe) ||
    (first === 0xfe && second === 0xff) ||
    (first === 0xef && second === 0xbb && third === 0xbf)
  )
}

/** UTF-16 without a mark: every other byte of the first eight is NUL, and the rest is printable ASCII. */
function beginsWide(payload: Buffer): boolean {
  if (payload.length < 8) return false
  const nul = payload[0] === 0 ? 0 : 1
  for (let i = 0; i < 8; i++) {
    const byte = payload[i]!
    if (i % 2 === nul ? byte !== 0 : byte < 0x20 || byte > 0x7e) return false
  }
  return true
}

const PROLOGUE = 1024

/** Text in another encoding, or with a NUL far within: no control characters, of which binary formats are full from the beginning. */
function beginsPrintable(payload: Buffer): boolean {
  const end = Math.min(payload.length, PROLOGUE)
  for (let i = 0; i < end; i++) {
    const byte = payload[i]!
    if (byte < 0x20 && (byte < 0x09 || byte > 0x0d)) return false
  }
  return true
}
