import { isDigit } from './alphabet.ts'

/** A body is one value, or values one after another (NDJSON, JSON text sequences). */
export type JsonForm = 'value' | 'lines'

export function isBracket(byte: number): boolean {
  return byte === 0x7b || byte === 0x5b
}

/** Whether a string is a time (`2026-01-15T09:30:00.123+02:00`): common, full of digits, and never a finding. */
export function isTime(bytes: Uint8Array, start: number, end: number, digits: number): boolean {
  const length = end - start
  return (
    length >= 19 &&
    length <= 32 &&
    digits <= 23 &&
    bytes[start + 4] === 0x2d &&
    bytes[start + 7] === 0x2d &&
    (bytes[start + 10] === 0x54 || bytes[start + 10] === 0x20) &&
    bytes[start + 13] === 0x3a &&
    bytes[start + 16] === 0x3a
  )
}

export function skipDigits(bytes: Uint8Array, start: number): number {
  let i = start
  while (i < bytes.length && isDigit(bytes[i]!)) i++
  return i
}

/** RS begins each text of a JSON text sequence (RFC 7464). */
export function skipSpace(bytes: Uint8Array, start: number, end: number, form: JsonForm): number {
  let i = start
  for (; i < end; i++) {
    const byte = bytes[i]!
    if (byte > 0x20) break
    if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09 && !(byte === 0x1e && form === 'lines')) break
  }
  return i
}

/** The end of `true`, `false` or `null` at `at`, or -1. */
export function literalEnd(bytes: Uint8Array, at: number): number {
  for (const literal of LITERALS) {
    if (bytes[at] !== literal[0]) continue
    for (let i = 1; i < literal.length; i++) if (bytes[at + i] !== literal[i]) return -1
    return at + literal.length
  }
  return -1
}
const LITERALS = ['true', 'false', 'null'].map((literal) => Buffer.from(literal))
