import { DOT, HYPHEN, SPACE, isAlphanumeric, isDigit } from './alphabet.ts'

/** ITU-T E.164 §6.1: at most 15 digits with the country code. */
const MAX_DIGITS = 15
const MIN_DIGITS = 7
/** A bare `+12345678` is more often a difference than a number. */
const MIN_INTERNATIONAL_DIGITS = 9

/** The end of the E.164 number whose country code begins at `at`, after a `+`; or -1. */
export function endOfInternational(bytes: Uint8Array, start: number, at: number, end: number): number {
  const before = at - 2 >= start ? bytes[at - 2]! : 0
  if (isAlphanumeric(before) || before === 0x2b || bytes[at] === 0x30) return -1
  return endOfNumber(bytes, at, end, MIN_INTERNATIONAL_DIGITS)
}

/** The end of a number of 7 to 15 digits in what is labelled as a phone number, whatever its national form; or -1. */
export function endOfLabelled(bytes: Uint8Array, at: number, end: number): number {
  return endOfNumber(bytes, at, end, MIN_DIGITS)
}

function endOfNumber(bytes: Uint8Array, at: number, end: number, minDigits: number): number {
  let digits = 0
  let last = at
  let between = 0
  for (let i = at; i < end; i++) {
    const byte = bytes[i]!
    if (isDigit(byte)) {
      if (digits === MAX_DIGITS) {
        // Longer than a phone number may be: what follows a separator may be something else.
        if (between === 0) return -1
        break
      }
      digits++
      last = i + 1
      between = 0
    } else if (byte === SPACE || byte === HYPHEN || byte === DOT || byte === 0x28 || byte === 0x29 || byte === 0x2f) {
      if (++between > 3) break
    } else break
  }
  if (digits < minDigits) return -1
  // An extension (`x123`) may follow; another letter says that this is an identifier.
  return last < end && isAlphanumeric(bytes[last]!) && (bytes[last]! | 0x20) !== 0x78 ? -1 : last
}

/**
 * Whether a whole value labelled as a phone number is one: 7 to 15 digits, with what people write between them and an
 * extension. Values are not judged by country: labels are better evidence than number plans.
 */
export function isPhoneValue(bytes: Uint8Array, start: number, end: number): boolean {
  let digits = 0
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!
    if (isDigit(byte)) digits++
    else if (
      digits >= MIN_DIGITS &&
      ((byte | 0x20) === 0x78 || (byte | 0x20) === 0x65 || byte === 0x23 || byte === 0x2c || byte === 0x3b)
    )
      break
    else if (
      byte === SPACE ||
      byte === HYPHEN ||
      byte === DOT ||
      byte === 0x28 ||
      byte === 0x29 ||
      byte === 0x2f ||
      byte === 0x2b
    )
      continue
    // `tel:` and no-break spaces.
    else if (digits === 0 && (isAlphanumeric(byte) || byte === 0x3a)) continue
    else if (byte === 0xc2 || byte === 0xa0) continue
    else return false
  }
  return digits >= MIN_DIGITS && digits <= MAX_DIGITS
}
