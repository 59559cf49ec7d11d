import { isAscii } from 'node:buffer'
import type { Fact, FactName } from '#core/policy/decision.ts'
import { isTable, scanDelimited } from './delimited.ts'
import type { EmailContext } from './email.ts'
import { scanForm } from './form.ts'
import { decodeCssEscapes, decodeEscapes } from './json-escapes.ts'
import type { JsonForm } from './json-syntax.ts'
import { JsonScanner } from './json.ts'
import { scanElements, scanLines } from './markup.ts'
import { decodePercent } from './percent.ts'
import { firstByte, isReadable, readingOf, readingOfContent, type Reading } from './reading.ts'
import { decodeReferences } from './references.ts'
import { Tally } from './tally.ts'
import { TextScanner } from './text.ts'
import { visibleText } from './visible.ts'

export interface Detection {
  /** Of the wanted facts, those that could be determined. Counts stop at 1000. */
  facts: Partial<Record<FactName, Fact>>
  /** Wanted facts of a body that cannot be read: not JSON to the letter, not UTF-8 (or said not to be), with a byte order mark or NUL. */
  undecidable: FactName[]
}

/**
 * Finds facts in a body (its Content-Encoding removed) of this media type (lower case, no parameters; `charset` is that parameter,
 * lower case). Where the type does not say that it is text the body's content does (`isReadableType`): what is binary is not
 * read, `applicable: false`. Linear in the length. `wanted` may be any set; all detectors share the pass.
 */
export function detectFacts(
  payload: Buffer,
  mediaType: string,
  wanted: ReadonlySet<FactName>,
  charset?: string,
): Detection {
  const facts: Partial<Record<FactName, Fact>> = {}
  if (wanted.size === 0) return { facts, undecidable: [] }
  const reading = readingOf(mediaType) ?? readingOfContent(payload, mediaType)
  if (reading === null) {
    for (const name of wanted) facts[name] = { applicable: false, count: 0 }
    return { facts, undecidable: [] }
  }
  const tally = new Tally()
  if (!isReadable(payload) || !isReadableCharset(charset, payload) || !scan(payload, reading, tally))
    return { facts, undecidable: [...wanted] }
  for (const name of wanted) facts[name] = { applicable: true, count: tally.count(name) }
  return { facts, undecidable: [] }
}

const UTF_8 = /^(?:utf-?8|(?:us-)?ascii)$/
/** Those whose bytes below 0x80 are ASCII, so that a text of nothing else is the same text (WHATWG Encoding). */
const LATIN = /^(?:iso-8859-\d{1,2}|latin\d|windows-125\d|cp125\d)$/

function isReadableCharset(charset: string | undefined, payload: Buffer): boolean {
  return charset === undefined || UTF_8.test(charset) || (LATIN.test(charset) && isAscii(payload))
}

function scan(payload: Buffer, reading: Reading, tally: Tally): boolean {
  switch (reading) {
    case 'json':
    case 'json-lines': {
      const form: JsonForm = reading === 'json' ? 'value' : 'lines'
      return new JsonScanner(payload, tally, new TextScanner(tally, 'data')).scan(form)
    }
    case 'delimited':
      scanDelimited(payload, tally, new TextScanner(tally, 'data'))
      joinPercentDecoded(payload, tally)
      return true
    case 'form':
      scanForm(payload, tally, new TextScanner(tally, 'data'))
      return true
    case 'sniffed':
    case 'sheet': {
      const first = firstByte(payload)
      if ((first === 0x7b || first === 0x5b) && joinJson(payload, tally)) return true
      scanText(payload, first === 0x3c ? markupOf(payload) : reading, tally)
      return true
    }
    default:
      scanText(payload, reading, tally)
      return true
  }
}

type TextReading = 'markup' | 'page' | 'code' | 'style' | 'sniffed' | 'sheet'

function scanText(payload: Buffer, reading: TextReading, tally: Tally): void {
  const isMarkup = reading === 'markup' || reading === 'page'
  const bytes = withoutEscapes(isMarkup ? decodeReferences(payload) : payload, reading)
  const context: EmailContext =
    reading === 'style' ? 'code' : reading === 'page' || reading === 'code' ? reading : 'data'
  // The fields of a sheet are looked at one by one.
  if (reading !== 'sheet') new TextScanner(tally, context).scan(bytes, 0, bytes.length)
  if (isMarkup) {
    scanElements(bytes, tally)
    if (bytes.includes(reading === 'page' ? '<' : '<!')) join(visibleText(bytes, reading), tally, context)
  }
  if (reading === 'page' || reading === 'code') scanLines(bytes, tally, 'members')
  if (reading === 'code') joinCall(bytes, tally)
  if (reading === 'sniffed' || reading === 'sheet') {
    scanLines(bytes, tally, 'lines')
    // A table under another name must not hide who is in it.
    if (reading === 'sheet' || isTable(bytes)) {
      const table = new Tally()
      scanDelimited(bytes, table, new TextScanner(table, 'data'))
      tally.join(table)
    }
  }
  joinPercentDecoded(bytes, tally, context)
}

/** JSON under another name must not hide what it holds either, nor a string of a program. */
function withoutEscapes(bytes: Buffer, reading: TextReading): Buffer {
  if (reading === 'style' ? !bytes.includes('\\') : !bytes.includes('\\u') && !bytes.includes('\\x')) return bytes
  const decoded = Buffer.allocUnsafe(bytes.length)
  const decode = reading === 'style' ? decodeCssEscapes : decodeEscapes
  return decoded.subarray(0, decode(bytes, 0, bytes.length, decoded))
}

/** Another view of the same body: counts what it shows more of. */
function join(view: Buffer, tally: Tally, context: EmailContext): void {
  const found = new Tally()
  new TextScanner(found, context).scan(view, 0, view.length)
  tally.join(found)
}

function joinJson(bytes: Buffer, tally: Tally): boolean {
  const found = new Tally()
  if (!new JsonScanner(bytes, found, new TextScanner(found, 'data')).scan('lines')) return false
  tally.join(found)
  return true
}

/** `callback({…})`, `window.state = {…};`, `export default […]`: JSON in a program that does little else. */
const CALL = /^[^{["'`]{0,200}[(=\s](?=[{[])/

function joinCall(bytes: Buffer, tally: Tally): void {
  const open = CALL.exec(bytes.toString('latin1', 0, 256))?.[0].length
  if (open === undefined) return
  const end = bytes.lastIndexOf(bytes[open] === 0x7b ? 0x7d : 0x5d)
  if (end > open) joinJson(bytes.subarray(open, end + 1), tally)
}

/** Addresses and numbers in URLs (`mailto:alice%40example.com`). A `%` alone is no reason to look. */
function joinPercentDecoded(bytes: Buffer, tally: Tally, context: EmailContext = 'data'): void {
  if (!bytes.includes('%2') && !bytes.includes('%3') && !bytes.includes('%4')) return
  const decoded = Buffer.allocUnsafe(bytes.length)
  join(decoded.subarray(0, decodePercent(bytes, 0, bytes.length, decoded)), tally, context)
}

function markupOf(bytes: Buffer): 'page' | 'markup' {
  return /^\s*<(?:!doctype html|html|head|body|table|div|p)\b/i.test(bytes.toString('latin1', 0, 256))
    ? 'page'
    : 'markup'
}
