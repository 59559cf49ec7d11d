import { DIGIT_0, DOT, HYPHEN, SPACE, isAlphanumeric, isDigit, isLetter } from './alphabet.ts'
import type { DigitGroups } from './digits.ts'

const SSN_GROUPS = [3, 2, 4]
const STEUER_ID_GROUPS = [2, 3, 3, 3]
const AHV_GROUPS = [3, 4, 4, 2]
const NIR_GROUPS = [1, 2, 2, 2, 3, 3, 2]

/** Numbers with a check digit strong enough to count without a label: how many of `groups` they take, or 0. */
export function checksummedGroups(groups: DigitGroups): number {
  const count = isTogether(groups, 13) ? 1 : groups.startsWith(AHV_GROUPS) ? 4 : 0
  if (count > 0 && isAhv(groups.digits)) return count
  if (isTogether(groups, 11) && isSteuerId(groups.digits)) return 1
  if (groups.separator === SPACE && groups.startsWith(STEUER_ID_GROUPS) && isSteuerId(groups.digits)) return 4
  if (isTogether(groups, 15) && isNir(groups.digits)) return 1
  if (groups.separator === SPACE && groups.startsWith(NIR_GROUPS) && isNir(groups.digits)) return 7
  return 0
}

function isTogether(groups: DigitGroups, size: number): boolean {
  return groups.size(0) === size
}

/** US social security number: how many groups it takes, or 0. It has no check digit: only where a label says so. */
export function ssnGroups(groups: DigitGroups): number {
  const count = isTogether(groups, 9) ? 1 : groups.separator !== DOT && groups.startsWith(SSN_GROUPS) ? 3 : 0
  return count > 0 && isSsn(groups.digits) ? count : 0
}

/** Never issued: area 000, 666 and 900–999, group 00, serial 0000 (SSA, POMS RM 10201.035). */
function isSsn(digits: Uint8Array): boolean {
  const area = number(digits, 0, 3)
  const group = number(digits, 3, 5)
  const serial = number(digits, 5, 9)
  return area !== 0 && area !== 666 && area < 900 && group !== 0 && serial !== 0
}

/** German tax identification number: ISO 7064 MOD 11,10; in the first ten digits one is twice or thrice, no other repeats. */
function isSteuerId(digits: Uint8Array): boolean {
  if (digits[0] === 0) return false
  let repeated = 0
  let product = 10
  for (let i = 0; i < 10; i++) {
    let times = 0
    for (let k = 0; k < 10; k++) if (digits[k] === i) times++
    if (times > 3) return false
    if (times > 1) repeated++
    const sum = (digits[i]! + product) % 10
    product = ((sum === 0 ? 10 : sum) * 2) % 11
  }
  return repeated === 1 && (11 - product) % 10 === digits[10]
}

/** Swiss AHV number: 756 and the EAN-13 check digit. */
function isAhv(digits: Uint8Array): boolean {
  if (number(digits, 0, 3) !== 756) return false
  let sum = 0
  for (let i = 0; i < 12; i++) sum += digits[i]! * (i % 2 === 0 ? 1 : 3)
  return (10 - (sum % 10)) % 10 === digits[12]
}

/** French NIR: sex, year, month, department, commune, order, and 97 minus the rest. Corsica's 2A and 2B are not read. */
function isNir(digits: Uint8Array): boolean {
  const sex = digits[0]!
  const month = number(digits, 3, 5)
  if ((sex !== 1 && sex !== 2) || month === 0 || (month > 12 && month < 20) || (month > 42 && month < 50)) return false
  // 13 digits are below 2^53.
  return 97 - (number(digits, 0, 13) % 97) === number(digits, 13, 15)
}

function number(digits: Uint8Array, start: number, end: number): number {
  let value = 0
  for (let i = start; i < end; i++) value = value * 10 + digits[i]!
  return value
}

const DNI_LETTERS = 'TRWAGMYFPDXBNJZSQVHLCKE'

/** The end of the Spanish DNI whose eight digits begin at `at` (or NIE: `prefix` X, Y, Z is 0, 1, 2 and seven follow); or -1. */
export function endOfDni(bytes: Uint8Array, at: number, end: number, prefix: number | null): number {
  const size = prefix === null ? 8 : 7
  let value = prefix ?? 0
  for (let i = at; i < at + size; i++) {
    if (i >= end || !isDigit(bytes[i]!)) return -1
    value = value * 10 + bytes[i]! - DIGIT_0
  }
  let i = at + size
  if (i < end && bytes[i] === HYPHEN) i++
  if (i >= end || (bytes[i]! & ~0x20) !== DNI_LETTERS.charCodeAt(value % 23)) return -1
  return i + 1 < end && isAlphanumeric(bytes[i + 1]!) ? -1 : i + 1
}

const NINO_NOT_FIRST = 'DFIQUV'
const NINO_NOT_SECOND = 'DFIOQUV'
const NINO_NOT_PREFIX: ReadonlySet<string> = new Set(['BG', 'GB', 'KN', 'NK', 'NT', 'TN', 'ZZ'])

/**
 * The end of the UK national insurance number whose two letters begin at `at` (HMRC manual NIM39110: prefixes that are
 * allotted, six digits, A to D); or -1. It has no check digit: only where a label says so.
 */
export function endOfNino(bytes: Buffer, at: number, end: number): number {
  if (at + 9 > end || !isLetter(bytes[at]!) || !isLetter(bytes[at + 1]!)) return -1
  const prefix = bytes.toString('latin1', at, at + 2).toUpperCase()
  if (NINO_NOT_FIRST.includes(prefix[0]!) || NINO_NOT_SECOND.includes(prefix[1]!) || NINO_NOT_PREFIX.has(prefix))
    return -1
  let i = at + 2
  for (let digits = 0; digits < 6; i++) {
    if (i >= end) return -1
    if (isDigit(bytes[i]!)) digits++
    else if (bytes[i] !== SPACE && bytes[i] !== HYPHEN) return -1
    else if (!isAlphanumeric(bytes[i - 1]!)) return -1
  }
  if (i < end && (bytes[i] === SPACE || bytes[i] === HYPHEN)) i++
  const suffix = i < end ? bytes[i]! | 0x20 : 0
  if (suffix < 0x61 || suffix > 0x64) return -1
  return i + 1 < end && isAlphanumeric(bytes[i + 1]!) ? -1 : i + 1
}
