import { isDigit, isLetter } from './alphabet.ts'
import { SLASH, TWO_SPACES, UNDERSCORE, beginsDigit, leadsForeign, separatorAt } from './unicode.ts'

/** Whether more digits may follow the run that ended at `at`. */
export function isGrouped(bytes: Uint8Array, at: number, end: number): boolean {
  if (at + 1 >= end || isLetter(bytes[at]!)) return false
  const next = bytes[at + 1]!
  return (
    bytes[at]! >= 0x80 || isDigit(next) || (next >= 0x80 && leadsForeign(next)) || (next === 0x20 && bytes[at] === 0x20)
  )
}

/**
 * Whether the run of digits at `at`, shorter than four, begins nothing but a row of numbers: with the sizes of its first two
 * groups begins no number that is found without a label before it.
 */
export function isRow(bytes: Uint8Array, at: number, run: number, end: number): boolean {
  const separator = separatorAt(bytes, run, end)
  if (separator === 0) return false
  const from = run + (separator >> 8)
  let next = from
  while (next < end && next < from + 5 && isDigit(bytes[next]!)) next++
  if (next === from || (next < end && bytes[next]! >= 0x80 && beginsDigit(bytes, next, end))) return false
  // Only cards have these between their groups.
  const kind = separator & 255
  if (kind === SLASH || kind === UNDERSCORE || kind === TWO_SPACES) return true
  const first = run - at
  const second = next - from
  // NIR 1-2, NANP 1-3 and 3-3, Steuer-ID 2-3, SSN 3-2, AHV 3-4.
  if (first === 1) return second !== 2 && second !== 3
  return first === 2 ? second !== 3 : second < 2 || second > 4
}

/** Whether `)`, `/` or ` (` follows: area codes are written so (`(030) 12…`, `030/12…`, `1 (415) …`), other numbers seldom. */
export function isBracketed(bytes: Uint8Array, at: number, end: number): boolean {
  if (at + 1 >= end) return false
  const byte = bytes[at]!
  return byte === 0x29 || byte === 0x2f || (byte === 0x20 && (bytes[at + 1] === 0x28 || bytes[at + 1] === 0x2f))
}

export function endOfRun(bytes: Uint8Array, at: number, end: number): number {
  let i = at + 1
  while (i < end && isDigit(bytes[i]!)) i++
  return i
}

/** From a digit that stands alone to the last digit of its row (`1 2 3 4`) that another such follows; the first's end at least. */
export function endOfSingles(bytes: Uint8Array, at: number, end: number): number {
  const separator = bytes[at + 1]!
  let i = at
  while (i + 3 < end && bytes[i + 1] === separator && isDigit(bytes[i + 2]!) && bytes[i + 3] === separator) i += 2
  return i === at ? at + 1 : i - 1
}
