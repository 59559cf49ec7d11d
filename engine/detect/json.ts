import { holdsLetter, isDigit } from './alphabet.ts'
import { HASH_SEED, LABEL, NUMBERED, financialField, hashByte, labelOf, labelOfHashed } from './label.ts'
import { ESCAPED, decodeEscapes, hexAt } from './json-escapes.ts'
import { isBracket, isTime, literalEnd, skipDigits, skipSpace, type JsonForm } from './json-syntax.ts'
import { scanLines } from './markup.ts'
import { decodePercent } from './percent.ts'
import { MIN_DIGITS, type TextScanner } from './text.ts'
import { Tally } from './tally.ts'
import { leadsForeign } from './unicode.ts'

/** As deep as `parseStrict` goes; deeper is not read. */
const MAX_DEPTH = 64
/** JSON in a string of JSON in a string …: deeper is read as text. */
const MAX_NESTING = 3

const DIGIT = 1
const AT = 2
const QUOTE = 3
const BACKSLASH = 4
const CONTROL = 5
const PERCENT = 6
/** Of a byte inside a string. */
const CLASS = new Uint8Array(256)
for (let byte = 0; byte < 0x20; byte++) CLASS[byte] = CONTROL
for (let byte = 0x30; byte <= 0x39; byte++) CLASS[byte] = DIGIT
CLASS[0x40] = AT
CLASS[0x22] = QUOTE
CLASS[0x5c] = BACKSLASH
CLASS[0x25] = PERCENT
// What may be a digit of another script counts as one.
for (let byte = 0x80; byte < 256; byte++) if (leadsForeign(byte)) CLASS[byte] = DIGIT

const AT_SIGN = 1 << 24
const HOLDS_PLAIN_NAME = 1
const IS_PERSON = 2

/**
 * Reads JSON (RFC 8259, to the letter) from its bytes, and finds in one pass over them what strings, numbers and names hold,
 * without building values. The bytes must be valid UTF-8.
 */
export class JsonScanner {
  #bytes: Buffer
  readonly #tally: Tally
  readonly #text: TextScanner
  readonly #isObject = new Uint8Array(MAX_DEPTH + 1)
  /** Label of the value to come, by depth; the elements of an array share it. */
  readonly #labels = new Int32Array(MAX_DEPTH + 1)
  readonly #people = new Uint8Array(MAX_DEPTH + 1)
  readonly #nesting: number
  /** Reads what stands in strings, into a tally of its own until it is known to be JSON. */
  #inner: { scanner: JsonScanner; tally: Tally } | null = null
  /** Of the string read last: digits in it, and whether it has an escape. An `@` counts as more digits than any string has. */
  #digits = 0
  #escaped = false
  #percent = false
  #scratch: Buffer | null = null

  constructor(bytes: Buffer, tally: Tally, text: TextScanner, nesting = 0) {
    this.#bytes = bytes
    this.#tally = tally
    this.#text = text
    this.#nesting = nesting
  }

  /** `ofAll` is the label of the whole. False where the bytes are not JSON of this form; what was found until then counts for nothing. */
  scan(form: JsonForm, ofAll = 0): boolean {
    const bytes = this.#bytes
    const end = bytes.length
    const isObject = this.#isObject
    const labels = this.#labels
    const people = this.#people
    labels[0] = ofAll
    people[0] = 0
    let depth = 0
    let i = skipSpace(bytes, 0, end, form)
    if (i === end) return form === 'lines'
    for (;;) {
      // A value begins at i.
      const byte = bytes[i]
      const label = labels[depth]!
      if (byte === 0x22) {
        const close = this.#stringEnd(i + 1)
        if (close === -1) return false
        if (this.#digits >= MIN_DIGITS || this.#escaped || label !== 0 || this.#percent || isBracket(bytes[i + 1]!)) {
          if (this.#string(i + 1, close, label)) people[depth]! |= HOLDS_PLAIN_NAME
        }
        i = close + 1
      } else if (byte === 0x7b || byte === 0x5b) {
        if (depth === MAX_DEPTH) return false
        depth++
        isObject[depth] = byte === 0x7b ? 1 : 0
        labels[depth] = byte === 0x7b ? 0 : label
        people[depth] = byte === 0x7b && (label & LABEL.PERSON) !== 0 ? IS_PERSON : 0
        i = skipSpace(bytes, i + 1, end, form)
        if (bytes[i] !== (byte === 0x7b ? 0x7d : 0x5d)) {
          if (byte === 0x7b) {
            i = this.#name(i, labels, people, depth)
            if (i === -1) return false
          }
          continue
        }
        depth--
        i++
      } else {
        const after = isDigit(byte ?? 0) || byte === 0x2d ? this.#number(i, label) : literalEnd(bytes, i)
        if (after === -1) return false
        i = after
      }
      // After a value: the ends of what it was in, or a comma.
      for (;;) {
        i = skipSpace(bytes, i, end, form)
        if (depth === 0) {
          if (i === end) return true
          if (form === 'value') return false
          // Values on lines of their own: what separates them was skipped as space.
          if (bytes[i - 1]! > 0x20) return false
          break
        }
        const next = bytes[i]
        if (next === 0x2c) {
          i = skipSpace(bytes, i + 1, end, form)
          if (isObject[depth] === 1) {
            i = this.#name(i, labels, people, depth)
            if (i === -1) return false
          }
          break
        }
        if (next !== (isObject[depth] === 1 ? 0x7d : 0x5d)) return false
        if (people[depth] === (HOLDS_PLAIN_NAME | IS_PERSON)) this.#tally.person_name++
        depth--
        i++
      }
    }
  }

  /** Reads a member's name and colon at `i`; where its value begins, or -1. */
  #name(i: number, labels: Int32Array, people: Uint8Array, depth: number): number {
    const bytes = this.#bytes
    if (bytes[i] !== 0x22) return -1
    const end = bytes.length
    const start = i + 1
    let close = start
    let digits = 0
    let hash = HASH_SEED
    for (; close < end; close++) {
      const byte = bytes[close]!
      const kind = CLASS[byte]!
      if (kind > DIGIT) break
      digits += kind
      hash = hashByte(hash, byte)
    }
    let label: number
    if (bytes[close] === 0x22) {
      label = labelOfHashed(hash, bytes, start, close)
      if (digits >= MIN_DIGITS) this.#text.scan(bytes, start, close)
    } else {
      close = this.#stringEnd(start)
      if (close === -1) return -1
      const name = this.#space(close - start)
      let length = decodeEscapes(bytes, start, close, name)
      if (this.#percent) length = decodePercent(name, 0, length, name)
      label = labelOf(name, 0, length)
      this.#text.scan(name, 0, length)
    }
    if (label !== 0) {
      if ((label & LABEL.PERSON_DETAIL) !== 0) people[depth]! |= IS_PERSON
      const field = financialField(label)
      if (field > 0) this.#tally.financialFields |= 1 << (field - 1)
    }
    labels[depth] = label
    const colon = skipSpace(bytes, close + 1, end, 'value')
    return bytes[colon] === 0x3a ? skipSpace(bytes, colon + 1, end, 'value') : -1
  }

  /** A string value to look at. True when it is a plain name. */
  #string(start: number, close: number, label: number): boolean {
    let bytes = this.#bytes
    let at = start
    let end = close
    if (this.#escaped) {
      const target = this.#space(close - start)
      end = decodeEscapes(bytes, start, close, target)
      bytes = target
      at = 0
    }
    if (this.#percent) {
      // A value in a URL. What is decoded already is decoded where it is.
      const target = this.#escaped ? bytes : this.#space(close - start)
      end = decodePercent(bytes, at, end, target)
      bytes = target
      at = 0
    }
    const isWorthIt =
      this.#escaped || this.#percent || (this.#digits >= MIN_DIGITS && !isTime(bytes, at, end, this.#digits))
    if (!(isBracket(bytes[at]!) && at < end && this.#document(bytes, at, end, label))) {
      if (isWorthIt || (label & NUMBERED) !== 0) this.#text.scan(bytes, at, end, label)
    }
    if ((label & (LABEL.PERSON_NAME | LABEL.PLAIN_NAME)) === 0 || !holdsLetter(bytes, at, end)) return false
    if ((label & LABEL.PERSON_NAME) === 0) return true
    this.#tally.person_name++
    return false
  }

  /** A string that may be JSON, or nearly. True where it is, and all is counted. */
  #document(bytes: Buffer, at: number, end: number, label: number): boolean {
    const text = bytes.subarray(at, end)
    if (!text.includes(0x3a)) return false
    if (this.#nesting < MAX_NESTING) {
      if (this.#inner === null) {
        const tally = new Tally()
        this.#inner = { scanner: new JsonScanner(text, tally, this.#text.into(tally), this.#nesting + 1), tally }
      }
      const { scanner, tally } = this.#inner
      scanner.#bytes = text
      tally.clear()
      if (scanner.scan('lines', label)) {
        this.#tally.add(tally)
        return true
      }
    }
    scanLines(text, this.#tally, 'members')
    return false
  }

  /** The closing quote of the string whose content begins at `start`, or -1. Leaves what it holds in #digits and #escaped. */
  #stringEnd(start: number): number {
    const bytes = this.#bytes
    const end = bytes.length
    let digits = 0
    this.#escaped = false
    this.#percent = false
    for (let i = start; i < end; i++) {
      const kind = CLASS[bytes[i]!]!
      if (kind <= DIGIT) digits += kind
      else if (kind === QUOTE) {
        this.#digits = digits
        return i
      } else if (kind === AT) digits += AT_SIGN
      else if (kind === PERCENT) this.#percent = true
      else if (kind === CONTROL) return -1
      else {
        this.#escaped = true
        const written = bytes[++i] ?? 0
        if (written === 0x75) {
          if (hexAt(bytes, i + 1) === -1) return -1
          i += 4
        } else if (ESCAPED[written] === 0) return -1
      }
    }
    return -1
  }

  /** At least so long; what is in it holds until the next call. Lone surrogates become U+FFFD. */
  #space(length: number): Buffer {
    if (this.#scratch === null || this.#scratch.length < length) {
      this.#scratch = Buffer.allocUnsafe(Math.max(length, 1024))
    }
    return this.#scratch
  }

  /** The end of the number at `start`, or -1 (RFC 8259 §6). */
  #number(start: number, label: number): number {
    const bytes = this.#bytes
    let i = bytes[start] === 0x2d ? start + 1 : start
    const digits = i
    i = skipDigits(bytes, i)
    if (i === digits || (bytes[digits] === 0x30 && i > digits + 1)) return -1
    const integerEnd = i
    let isInteger = true
    if (bytes[i] === 0x2e) {
      const fraction = i + 1
      i = skipDigits(bytes, fraction)
      if (i === fraction) return -1
      for (let k = fraction; k < i; k++) if (bytes[k] !== 0x30) isInteger = false
    }
    if (bytes[i] === 0x65 || bytes[i] === 0x45) {
      i++
      if (bytes[i] === 0x2b || bytes[i] === 0x2d) i++
      const exponent = i
      i = skipDigits(bytes, exponent)
      if (i === exponent) return -1
      const value = Math.abs(i - start <= 40 ? Number(bytes.toString('latin1', start, i)) : 0)
      if (Number.isSafeInteger(value)) this.#text.scanInteger(String(value), label)
    } else if (
      isInteger &&
      integerEnd - digits >= MIN_DIGITS &&
      (label !== 0 || integerEnd - digits >= 13) &&
      integerEnd - digits <= 24
    ) {
      this.#text.scanInteger(bytes.toString('latin1', digits, integerEnd), label)
    }
    return i
  }
}
