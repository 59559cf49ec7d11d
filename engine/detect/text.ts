import { DOT, isAlphanumeric, isDigit, isLetter } from './alphabet.ts'
import { DigitGroups } from './digits.ts'
import { isEmail, type EmailContext } from './email.ts'
import { endOfIban } from './iban.ts'
import { LABEL, NUMBERED, labelOf } from './label.ts'
import { checksummedGroups, endOfDni, endOfNino, ssnGroups } from './national-id.ts'
import { isPaymentCard } from './payment-card.ts'
import { endOfInternational, endOfLabelled, isPhoneValue } from './phone.ts'
import type { Tally } from './tally.ts'

/** No finding but an e-mail address has fewer digits. */
export const MIN_DIGITS = 7

const PLAIN = 0
const DIGIT = 1
const AT = 2
const TRIGGER = new Uint8Array(256)
for (let byte = 0x30; byte <= 0x39; byte++) TRIGGER[byte] = DIGIT
TRIGGER[0x40] = AT

/** What stands between a label and its value in text: space, tab, `:`, `=`, `#`, `.`, `>`, quotes, `(`. */
const AFTER_LABEL = new Uint8Array(256)
for (const byte of Buffer.from(' \t:=#.>"\'(')) AFTER_LABEL[byte] = 1
const MAX_LABEL_DISTANCE = 8
const MAX_LABEL_WORDS = 3
const MAX_LABEL_LENGTH = 32

/**
 * Finds what needs no structure to be found, in one pass over the bytes: only `@` and digits make it look closer, and what it
 * then reads around them is bounded, so that time is linear in the length, whatever the bytes are.
 */
export class TextScanner {
  readonly #tally: Tally
  readonly #emails: EmailContext
  readonly #groups = new DigitGroups()

  constructor(tally: Tally, emails: EmailContext) {
    this.#tally = tally
    this.#emails = emails
  }

  /** Scans `bytes[start, end)`; nothing outside of it is looked at. `label` is that of the whole span, or 0. */
  scan(bytes: Buffer, start: number, end: number, label = 0): void {
    let known = label
    if ((label & NUMBERED) !== 0 && this.#countLabelled(bytes, start, end, label)) known |= LABEL.PHONE
    // A phone number in a field of its own is counted once.
    const phones = (known & LABEL.PHONE) === 0
    let i = start
    while (i < end) {
      const trigger = TRIGGER[bytes[i]!]!
      if (trigger === PLAIN) i++
      else if (trigger === DIGIT) i = this.#number(bytes, start, i, end, phones, label)
      else {
        if (isEmail(bytes, start, i, end, this.#emails)) this.#tally.email++
        i++
      }
    }
  }

  /** An integer of a JSON document: a card number, or what its label says. */
  scanInteger(digits: string, label: number): void {
    const groups = this.#groups
    groups.set(digits)
    if (isPaymentCard(groups.digits, digits.length)) this.#tally.payment_card++
    else if ((label & NUMBERED) === 0) return
    else if ((label & LABEL.PHONE) !== 0 && digits.length >= MIN_DIGITS && digits.length <= 15) this.#tally.phone++
    else if ((label & (LABEL.SSN | LABEL.NATIONAL_ID)) !== 0) {
      // A number loses the zeros that it began with.
      if (digits.length < 9) groups.set(digits.padStart(9, '0'))
      if (ssnGroups(groups) > 0 || ((label & LABEL.NATIONAL_ID) !== 0 && checksummedGroups(groups) > 0))
        this.#tally.national_id++
    }
  }

  /** Counts what only its label makes a finding. True when the whole span is a phone number. */
  #countLabelled(bytes: Buffer, start: number, end: number, label: number): boolean {
    if ((label & LABEL.PHONE) !== 0 && isPhoneValue(bytes, start, end)) {
      this.#tally.phone++
      return true
    }
    if ((label & (LABEL.NINO | LABEL.NATIONAL_ID)) !== 0) {
      let at = start
      while (at < end && !isLetter(bytes[at]!) && !isDigit(bytes[at]!)) at++
      if (endOfNino(bytes, at, end) !== -1) this.#tally.national_id++
    }
    return false
  }

  /** A run of digits begins at `at`. Counts what it belongs to; returns where to go on. */
  #number(bytes: Buffer, start: number, at: number, end: number, phones: boolean, label: number): number {
    const before = at > start ? bytes[at - 1]! : 0
    if (isLetter(before)) return this.#afterLetter(bytes, start, at, end, label)
    if (before === DOT && at - 2 >= start && isDigit(bytes[at - 2]!)) return endOfRun(bytes, at, end)
    if (phones && before === 0x2b) {
      const after = endOfInternational(bytes, start, at, end)
      if (after !== -1) return this.#found('phone', after)
    }
    const run = endOfRun(bytes, at, end)
    if (phones && isBracketed(bytes, run, end) && (labelBefore(bytes, start, at) & LABEL.PHONE) !== 0) {
      const after = endOfLabelled(bytes, at, end)
      if (after !== -1) return this.#found('phone', after)
    }
    if (run - at < 6 && before !== 0x28 && !isGrouped(bytes, run, end)) return run
    const groups = this.#groups
    groups.read(bytes, at, end)
    if (groups.total >= MIN_DIGITS) {
      const after = this.#grouped(bytes, start, at, end, phones, label)
      if (after !== -1) return after
    } else if (phones && before === 0x28 && groups.total === 3) {
      const after = endOfParenthesised(bytes, at, end)
      if (after !== -1) return this.#found('phone', after)
    } else if (label === 0 && groups.total === 6 && before === 0x20 && at - 3 >= start) {
      const after = this.#endOfLabelledNino(bytes, start, at - 3, end)
      if (after !== -1) return this.#found('national_id', after)
    }
    return run
  }

  #grouped(bytes: Buffer, start: number, at: number, end: number, phones: boolean, label: number): number {
    const groups = this.#groups
    const card = this.#endOfCard(bytes, end)
    if (card !== -1) return this.#found('payment_card', card)
    const national = endOfGroups(groups, bytes, checksummedGroups(groups), end)
    if (national !== -1) return this.#found('national_id', national)
    if (groups.size(0) === 8) {
      const dni = endOfDni(bytes, at, end, null)
      if (dni !== -1) return this.#found('national_id', dni)
    }
    const said = label | labelBefore(bytes, start, at)
    if ((said & (LABEL.SSN | LABEL.NATIONAL_ID)) !== 0) {
      const ssn = endOfGroups(groups, bytes, ssnGroups(groups), end)
      if (ssn !== -1) return this.#found('national_id', ssn)
    }
    if (!phones) return -1
    if ((said & LABEL.PHONE) !== 0) {
      const phone = endOfLabelled(bytes, at, end)
      if (phone !== -1) return this.#found('phone', phone)
    }
    const northAmerican = endOfGroups(groups, bytes, northAmericanGroups(groups), end)
    return northAmerican === -1 ? -1 : this.#found('phone', northAmerican)
  }

  /** The longest card number that begins with the first group. */
  #endOfCard(bytes: Uint8Array, end: number): number {
    const groups = this.#groups
    // Cards are written in groups of four, or four and six, or all together.
    const first = groups.size(0)
    if (first < 13 && first !== 4 && first !== 6) return -1
    for (let count = groups.groups; count > 0; count--) {
      const length = groups.upTo(count)
      if (length > 19) continue
      if (length < 13) return -1
      // Shorter groups than three in the middle are a row of numbers.
      if (count > 2 && groups.size(count - 2) < 3) continue
      const after = groups.endOf(bytes, count, end)
      if (after !== -1 && isPaymentCard(groups.digits, length)) return after
    }
    return -1
  }

  /** Letters touch the digits: an IBAN, a NIE or a labelled national insurance number, else an identifier. */
  #afterLetter(bytes: Buffer, start: number, at: number, end: number, label: number): number {
    const iban = endOfIban(bytes, start, at, end)
    if (iban !== -1) return this.#found('iban', iban)
    const standsAlone = at - 2 < start || !isAlphanumeric(bytes[at - 2]!)
    const letter = bytes[at - 1]! | 0x20
    if (standsAlone && letter >= 0x78 && letter <= 0x7a) {
      const nie = endOfDni(bytes, at, end, letter - 0x78)
      if (nie !== -1) return this.#found('national_id', nie)
    }
    if (label === 0 && at - 2 >= start) {
      const nino = this.#endOfLabelledNino(bytes, start, at - 2, end)
      if (nino !== -1) return this.#found('national_id', nino)
    }
    return endOfRun(bytes, at, end)
  }

  #endOfLabelledNino(bytes: Buffer, start: number, at: number, end: number): number {
    if (at > start && isAlphanumeric(bytes[at - 1]!)) return -1
    const after = endOfNino(bytes, at, end)
    return after !== -1 && (labelBefore(bytes, start, at) & (LABEL.NINO | LABEL.NATIONAL_ID)) !== 0 ? after : -1
  }

  #found(name: 'iban' | 'payment_card' | 'phone' | 'national_id', after: number): number {
    this.#tally[name]++
    return after
  }
}

/** Whether more digits may follow the run that ended at `at`. */
function isGrouped(bytes: Uint8Array, at: number, end: number): boolean {
  if (at + 1 >= end || isLetter(bytes[at]!)) return false
  return isDigit(bytes[at + 1]!) || (bytes[at] === 0xc2 && bytes[at + 1] === 0xa0)
}

/** Whether `)`, `/` or ` (` follows: area codes are written so (`(030) 12…`, `030/12…`, `1 (415) …`), other numbers seldom. */
function isBracketed(bytes: Uint8Array, at: number, end: number): boolean {
  if (at + 1 >= end) return false
  const byte = bytes[at]!
  return byte === 0x29 || byte === 0x2f || (byte === 0x20 && (bytes[at + 1] === 0x28 || bytes[at + 1] === 0x2f))
}

function endOfRun(bytes: Uint8Array, at: number, end: number): number {
  let i = at + 1
  while (i < end && isDigit(bytes[i]!)) i++
  return i
}

function endOfGroups(groups: DigitGroups, bytes: Uint8Array, count: number, end: number): number {
  return count === 0 ? -1 : groups.endOf(bytes, count, end)
}

/** `415-555-0123`, `1.415.555.0123`: how many groups, or 0. Area and exchange begin with 2 to 9 (NANP). Spaces say too little. */
function northAmericanGroups(groups: DigitGroups): number {
  if (groups.separator !== 0x2d && groups.separator !== DOT) return 0
  const country = groups.size(0) === 1 && groups.digits[0] === 1 ? 1 : 0
  if (!groups.startsWith(country === 1 ? [1, 3, 3, 4] : [3, 3, 4])) return 0
  return groups.digits[country]! >= 2 && groups.digits[country + 3]! >= 2 ? country + 3 : 0
}

/** The end of `(415) 555-0123` whose first digit is at `at`, or -1. */
function endOfParenthesised(bytes: Uint8Array, at: number, end: number): number {
  if (bytes[at]! < 0x32 || at + 4 > end || bytes[at + 3] !== 0x29) return -1
  let i = bytes[at + 4] === 0x20 ? at + 5 : at + 4
  const exchange = i
  for (; i < exchange + 3; i++) if (i >= end || !isDigit(bytes[i]!)) return -1
  if (i < end && !isDigit(bytes[i]!)) i++
  const line = i
  for (; i < line + 4; i++) if (i >= end || !isDigit(bytes[i]!)) return -1
  return i < end && isDigit(bytes[i]!) ? -1 : i
}

/** The label that stands in the text before `at`: `Tel: `, `<ssn>`, `social security number `; or 0. */
export function labelBefore(bytes: Uint8Array, start: number, at: number): number {
  const nearest = Math.max(start, at - MAX_LABEL_DISTANCE)
  let end = at
  while (end > nearest && AFTER_LABEL[bytes[end - 1]!] === 1) end--
  if (end === at || end === start || !isLetter(bytes[end - 1]!)) return 0
  const farthest = Math.max(start, end - MAX_LABEL_LENGTH)
  let label = 0
  let i = end
  for (let words = 0; words < MAX_LABEL_WORDS && i > farthest; words++) {
    while (i > farthest && isAlphanumeric(bytes[i - 1]!)) i--
    label |= labelOf(bytes, i, end)
    // Words of one label are a space, `_` or `-` apart.
    const gap = i > farthest ? bytes[i - 1]! : 0
    if (gap !== 0x20 && gap !== 0x5f && gap !== 0x2d) break
    i--
  }
  return label
}
