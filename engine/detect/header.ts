import type { FactName } from '#core/policy/decision.ts'
import { decodePercent } from './percent.ts'
import { Tally } from './tally.ts'
import { TextScanner } from './text.ts'

/** Of the facts, those that are sought in header fields. */
const SOUGHT = ['email', 'iban', 'payment_card', 'national_id'] as const satisfies readonly FactName[]
/** So many digits are worth a look, with single characters between them: a social security number has nine. */
const MIN_DIGITS = 9

const DIGIT = 1
const SEPARATOR = 2
const LETTER = 3
const MARK = 4
/** Of a character code below 256; 0 is what ends a number. Letters are apart, as national ids end in one. */
const CLASS = new Uint8Array(256).fill(DIGIT, 0x80)
for (const byte of Buffer.from(' -./_%')) CLASS[byte] = SEPARATOR
for (let byte = 0x30; byte <= 0x39; byte++) CLASS[byte] = DIGIT
for (let byte = 0x41; byte <= 0x5a; byte++) CLASS[byte] = CLASS[byte | 0x20] = LETTER
CLASS[0x40] = MARK

/**
 * Findings in header field values, percent-decoded within; only facts that are wanted and found. Stricter than in bodies, as
 * headers are full of tokens, ids and times: cards of the common issuers' lengths that stand alone, national ids only after a
 * label (`?ssn=…`), no phone numbers or names, and no address that says who calls (`https://key@host`). Values that hold neither
 * an `@` nor nine digits together cost a look at each character.
 */
export function detectInText(
  texts: readonly string[],
  wanted: ReadonlySet<FactName>,
): Partial<Record<FactName, number>> {
  let tally: Tally | null = null
  let scanner: TextScanner | null = null
  for (const text of texts) {
    if (!isWorthIt(text)) continue
    tally ??= new Tally()
    scanner ??= new TextScanner(tally, 'header')
    // Node gives the bytes of a header as characters.
    const bytes = Buffer.from(text, IS_WIDE.test(text) ? 'utf8' : 'latin1')
    const end = bytes.includes(0x25) ? decodePercent(bytes, 0, bytes.length, bytes) : bytes.length
    scanner.scan(bytes, 0, end)
  }
  const found: Partial<Record<FactName, number>> = {}
  if (tally !== null)
    for (const name of SOUGHT) if (wanted.has(name) && tally.count(name) > 0) found[name] = tally.count(name)
  return found
}

const IS_WIDE = /[\u0100-\uffff]/

function isWorthIt(text: string): boolean {
  let digits = 0
  let wasSeparator = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    const kind = code < 256 ? CLASS[code]! : DIGIT
    if (kind === DIGIT) {
      if (++digits === MIN_DIGITS && !isTime(text)) return true
      wasSeparator = false
    } else if (kind === LETTER) {
      // `AB123456C`, `X1234567L`, `12345678Z`.
      if (digits >= 6 && (digits > 6 || (code | 0x20) <= 0x64)) return true
      digits = 0
    } else if (kind === SEPARATOR) {
      if (code === 0x25 && isEncodedMark(text, i)) return true
      // A percent-encoded byte may be a digit, or what separates digits.
      if (code !== 0x25 && wasSeparator) digits = 0
      wasSeparator = true
    } else if (kind === MARK) return true
    else digits = 0
  }
  return false
}

function isEncodedMark(text: string, at: number): boolean {
  return text.charCodeAt(at + 1) === 0x34 && text.charCodeAt(at + 2) === 0x30
}

/** `Wed, 25 Nov 2026 01:54:23 GMT` (RFC 9110 §5.6.7). */
function isTime(text: string): boolean {
  return text.length === 29 && text.endsWith(' GMT')
}
