import { holdsLetter } from './alphabet.ts'
import { LABEL, NUMBERED, financialField, labelOf } from './label.ts'
import { MIN_DIGITS, type TextScanner } from './text.ts'
import type { Tally } from './tally.ts'

const MAX_COLUMNS = 4096
const MAX_HEADER_BYTES = 65_536
/** Of a table that does not say that it is one. */
const MAX_HEADER_FIELD = 64
/** Ends a field. */
const END = 255
const QUOTE = 0x22
const LINE_FEED = 0x0a
const CARRIAGE_RETURN = 0x0d
const DELIMITERS = Buffer.from(',;\t|')

/**
 * Scans delimited text (RFC 4180; comma, semicolon, tab or bar, whichever the first line has most). The first line's fields
 * label their columns. A first column may label rows instead, as financial statements do. Nothing here is ill-formed: a quote
 * without its end makes one long field, which is scanned all the same.
 */
export function scanDelimited(bytes: Buffer, tally: Tally, text: TextScanner): void {
  const end = bytes.length
  const delimiter = delimiterOf(bytes)
  const weights = new Uint8Array(256)
  for (let byte = 0x30; byte <= 0x39; byte++) weights[byte] = 1
  weights[0x40] = MIN_DIGITS
  weights[delimiter] = END
  weights[LINE_FEED] = END
  weights[CARRIAGE_RETURN] = END
  const labels: number[] = []
  let isHeader = true
  let column = 0
  let plainName = -1
  let isPerson = false
  for (let i = startOf(bytes); i < end;) {
    const field = i
    // Of the field: how many digits, an `@` counting as enough of them to look.
    let digits = 0
    if (bytes[i] === QUOTE) {
      i = endOfQuoted(bytes, i + 1, end)
      digits = MIN_DIGITS
    }
    for (; i < end; i++) {
      const weight = weights[bytes[i]!]!
      if (weight === END) break
      digits += weight
    }
    if (isHeader) {
      const label = labelOf(bytes, field, i)
      noteField(tally, label)
      if (column < MAX_COLUMNS) labels[column] = label
      if ((label & LABEL.PLAIN_NAME) !== 0) plainName = column
      if ((label & LABEL.PERSON_DETAIL) !== 0) isPerson = true
      text.scan(bytes, field, i)
    } else {
      const label = labels[column] ?? 0
      const isName = (label & LABEL.PERSON_NAME) !== 0 || (column === plainName && isPerson)
      if (isName && holdsLetter(bytes, field, i)) tally.person_name++
      if (column === 0) noteField(tally, labelOf(bytes, field, i))
      if (digits >= MIN_DIGITS || (label & NUMBERED) !== 0) text.scan(bytes, field, i, label)
    }
    if (i < end && bytes[i] === delimiter) column++
    else {
      // An empty line is not a header, and CR LF is one end of a line.
      if (i > field || column > 0) isHeader = false
      column = 0
    }
    i++
  }
}

/**
 * Whether text under no name of its own begins as a table does: a first line of short fields, one of which is a label that
 * detectors know, and the same delimiter in the second.
 */
export function isTable(bytes: Buffer): boolean {
  const start = startOf(bytes)
  const lineEnd = bytes.indexOf(LINE_FEED, start)
  if (lineEnd === -1 || lineEnd - start > MAX_HEADER_BYTES) return false
  const delimiter = delimiterOf(bytes)
  const next = bytes.indexOf(delimiter, lineEnd)
  const nextEnd = bytes.indexOf(LINE_FEED, lineEnd + 1)
  if (next === -1 || (nextEnd !== -1 && next > nextEnd)) return false
  // A line of prose may end with a comma, a header does not.
  if (delimiter === DELIMITERS[0] && bytes[lineEnd - 1] === delimiter) return false
  let isLabelled = false
  let fields = 0
  for (let field = start; field <= lineEnd; fields++) {
    let end = bytes.indexOf(delimiter, field)
    if (end === -1 || end > lineEnd) end = lineEnd
    if (end - field > MAX_HEADER_FIELD) return false
    if (labelOf(bytes, field, bytes[end - 1] === CARRIAGE_RETURN ? end - 1 : end) !== 0) isLabelled = true
    field = end + 1
  }
  return isLabelled && fields > 1
}

function noteField(tally: Tally, label: number): void {
  const field = financialField(label)
  if (field > 0) tally.financialFields |= 1 << (field - 1)
}

/** After the closing quote; a doubled quote is part of the field. */
function endOfQuoted(bytes: Buffer, start: number, end: number): number {
  let i = start
  for (;;) {
    const quote = bytes.indexOf(QUOTE, i)
    if (quote === -1) return end
    if (bytes[quote + 1] !== QUOTE) return quote + 1
    i = quote + 2
  }
}

/** What the first line that is not empty has most of. */
function delimiterOf(bytes: Buffer): number {
  const start = startOf(bytes)
  let lineEnd = bytes.indexOf(LINE_FEED, start)
  if (lineEnd === -1) lineEnd = Math.min(bytes.length, start + MAX_HEADER_BYTES)
  let best = DELIMITERS[0]!
  let most = 0
  for (const delimiter of DELIMITERS) {
    let count = 0
    for (let i = start; i < lineEnd; i++) if (bytes[i] === delimiter) count++
    if (count > most) [best, most] = [delimiter, count]
  }
  return best
}

/** After empty lines, and Excel's line `sep=;`. */
function startOf(bytes: Buffer): number {
  let start = afterLineEnds(bytes, 0)
  if (/^sep=[,;\t|]\r?\n/i.test(bytes.toString('latin1', start, start + 7))) start = afterLineEnds(bytes, start + 5)
  return start
}

function afterLineEnds(bytes: Buffer, start: number): number {
  let i = start
  while (bytes[i] === LINE_FEED || bytes[i] === CARRIAGE_RETURN) i++
  return i
}
