import { holdsLetter } from './alphabet.ts'
import { LABEL, NUMBERED, financialField, labelOf } from './label.ts'
import { MIN_DIGITS, type TextScanner } from './text.ts'
import type { Tally } from './tally.ts'

const MAX_COLUMNS = 4096
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
  for (let i = 0; i < end;) {
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

function delimiterOf(bytes: Buffer): number {
  let lineEnd = bytes.indexOf(LINE_FEED)
  if (lineEnd === -1) lineEnd = Math.min(bytes.length, 65_536)
  let best = DELIMITERS[0]!
  let most = 0
  for (const delimiter of DELIMITERS) {
    let count = 0
    for (let i = 0; i < lineEnd; i++) if (bytes[i] === delimiter) count++
    if (count > most) [best, most] = [delimiter, count]
  }
  return best
}
