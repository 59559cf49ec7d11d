import { SignetError } from '../error/signet-error.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39

/** A decimal of so many characters without an exponent has 15 significant digits at most, and a double keeps those. */
const ALWAYS_KEPT_LENGTH = 15

/**
 * Checks that no number in a JSON text loses anything on its way through a double: its decimal value must be exactly the decimal
 * value of what ECMAScript prints for the nearest double. `1.50`, `1e2` and `-0` pass (1.5, 100, 0); `1e400`, `1e-400`,
 * `9007199254740993` and `0.1000000000000000055511151231257827` do not. `bytes` must be valid JSON (`parseStrict`).
 * @throws SignetError CANONICAL_VALUE_INVALID with the offset of the first number that does not round-trip
 */
export function assertNumbersRoundTrip(bytes: Uint8Array): void {
  const end = bytes.length
  let at = 0
  while (at < end) {
    const byte = bytes[at] as number
    if (byte === QUOTE) {
      for (at++; at < end && bytes[at] !== QUOTE; at++) if (bytes[at] === BACKSLASH) at++
      at++
    } else if (byte === MINUS || (byte >= ZERO && byte <= NINE)) {
      const start = at
      do at++
      while (at < end && isNumberByte(bytes[at] as number))
      const token = Buffer.from(bytes.buffer, bytes.byteOffset + start, at - start).toString('latin1')
      if (!roundTrips(token)) {
        throw new SignetError(
          'CANONICAL_VALUE_INVALID',
          `a number (byte ${start}) does not survive IEEE 754 double precision; canonical JSON needs one that does`,
          {
            details: { offset: start },
          },
        )
      }
    } else {
      at++
    }
  }
}

function isNumberByte(byte: number): boolean {
  return (
    (byte >= ZERO && byte <= NINE) || byte === 0x2e || byte === 0x65 || byte === 0x45 || byte === 0x2b || byte === MINUS
  )
}

/** `token`: a number of the JSON grammar. */
export function roundTrips(token: string): boolean {
  if (token.length <= ALWAYS_KEPT_LENGTH && !/[eE]/.test(token)) return true
  const value = Number(token)
  if (!Number.isFinite(value)) return false
  return decimalForm(token) === decimalForm(String(value))
}

/** Sign, significant digits and the power of ten of the last of them: equal for equal decimal values only. */
function decimalForm(token: string): string {
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(token)
  if (parts === null) throw new TypeError('not a number of the JSON grammar')
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = parts
  const digits = trimStart(whole + fraction)
  if (digits === '') return '0'
  const significant = trimEnd(digits)
  return `${sign}${significant}e${Number(exponent) - fraction.length + (digits.length - significant.length)}`
}

function trimStart(digits: string): string {
  let start = 0
  while (digits.charCodeAt(start) === ZERO) start++
  return digits.slice(start)
}

/** By hand: `/0+$/` takes quadratic time on digits that an attacker chose. */
function trimEnd(digits: string): string {
  let end = digits.length
  while (end > 0 && digits.charCodeAt(end - 1) === ZERO) end--
  return digits.slice(0, end)
}
