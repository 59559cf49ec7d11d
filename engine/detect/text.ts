import { DOT, isAlphanumeric, isDigit, isLetter } from './alphabet.ts'
import { isStandardGrouping, touchesWords } from './card-shape.ts'
import { DigitGroups, MOST_CARD_GROUPS, MOST_GROUPS } from './digits.ts'
import { endOfRun, endOfSingles, isBracketed, isGrouped, isRow } from './digit-run.ts'
import { isEmail, type EmailContext } from './email.ts'
import { endOfIban } from './iban.ts'
import { LABEL, NUMBERED, labelOf } from './label.ts'
import { checksummedGroups, endOfDni, endOfNino, ssnGroups } from './national-id.ts'
import { isCommonCard, isPaymentCard } from './payment-card.ts'
import { endOfInternational, endOfLabelled, isPhoneValue } from './phone.ts'
import type { Tally } from './tally.ts'
import { foreignDigit, leadsForeign } from './unicode.ts'

/** No finding but an e-mail address has fewer digits. */
export const MIN_DIGITS = 7

const PLAIN = 0
const DIGIT = 1
const AT = 2
const FOREIGN = 3
const TRIGGER = new Uint8Array(256)
for (let byte = 0x80; byte < 256; byte++) if (leadsForeign(byte)) TRIGGER[byte] = FOREIGN
for (let byte = 0x30; byte <= 0x39; byte++) TRIGGER[byte] = DIGIT
TRIGGER[0x40] = AT

/** What stands between a label and its value in text: space, tab, `:`, `=`, `#`, `.`, `>`, quotes (with a backslash, too), `(`. */
const AFTER_LABEL = new Uint8Array(256)
for (const byte of Buffer.from(' \t:=#.>"\'(\\')) AFTER_LABEL[byte] = 1
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
  readonly #isHeader: boolean
  readonly #groups = new DigitGroups()

  constructor(tally: Tally, emails: EmailContext) {
    this.#tally = tally
    this.#emails = emails
    this.#isHeader = emails === 'header'
  }

  /** One that counts elsewhere. */
  into(tally: Tally): TextScanner {
    return new TextScanner(tally, this.#emails)
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
      else if (trigger === FOREIGN) i = foreignDigit(bytes, i, end) === -1 ? i + 1 : this.#foreign(bytes, start, i, end)
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
    if (run < end && bytes[run]! >= 0x80 && this.#groups.readRun(bytes, at, end) > run) {
      return this.#foreign(bytes, start, at, end)
    }
    // After a letter a national insurance number may go on in twos.
    const isWordBefore = before === 0x20 && at - 2 >= start && isLetter(bytes[at - 2]!)
    if (run - at < 4 && before !== 0x28 && label === 0 && !isWordBefore && isRow(bytes, at, run, end)) {
      if (labelBefore(bytes, start, at) === 0) return run - at === 1 ? endOfSingles(bytes, at, end) : run
    }
    const groups = this.#groups
    groups.read(bytes, at, end, run - at === 1 ? MOST_GROUPS : MOST_CARD_GROUPS)
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
    const card = this.#endOfCard(bytes, start, at, end)
    if (card !== -1) return this.#found('payment_card', card)
    const said = label | labelBefore(bytes, start, at)
    if (!this.#isHeader || (said & LABEL.NATIONAL_ID) !== 0) {
      const national = endOfGroups(groups, bytes, checksummedGroups(groups), end)
      if (national !== -1) return this.#found('national_id', national)
      const dni = groups.size(0) === 8 ? endOfDni(bytes, at, end, null) : -1
      if (dni !== -1) return this.#found('national_id', dni)
    }
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

  /** Digits of another script, or with something invisible between them: only cards are sought among these. */
  #foreign(bytes: Buffer, start: number, at: number, end: number): number {
    const groups = this.#groups
    const run = groups.readRun(bytes, at, end)
    const size = groups.runSize
    if (size > 19 || (size < 13 && size !== 4 && size !== 6)) return run
    groups.read(bytes, at, end, MOST_CARD_GROUPS)
    const card = groups.total < 13 ? -1 : this.#endOfCard(bytes, start, at, end)
    return card === -1 ? run : this.#found('payment_card', card)
  }

  /** The longest card number that begins with the first group. */
  #endOfCard(bytes: Uint8Array, start: number, at: number, end: number): number {
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
      if (!isStandardGrouping(groups, count, bytes, start, at)) continue
      const isCard = this.#isHeader ? isCommonCard : isPaymentCard
      const after = groups.endOf(bytes, count, end)
      if (after !== -1) {
        if (isCard(groups.digits, length)) return after
      } else if (!this.#isHeader && !(groups.isCut && count === groups.groups) && isCommonCard(groups.digits, length)) {
        if (touchesWords(bytes, start, at, groups.endsAt(count), end)) return groups.endsAt(count)
      }
    }
    return -1
  }

  /** Letters touch the digits: an IBAN, a NIE or a labelled national insurance number, else an identifier. */
  #afterLetter(bytes: Buffer, start: number, at: number, end: number, label: number): number {
    const iban = endOfIban(bytes, start, at, end)
    if (iban !== -1) return this.#found('iban', iban)
    const standsAlone = !this.#isHeader && (at - 2 < start || !isAlphanumeric(bytes[at - 2]!))
    const letter = bytes[at - 1]! | 0x20
    if (standsAlone && letter >= 0x78 && letter <= 0x7a) {
      const nie = endOfDni(bytes, at, end, letter - 0x78)
      if (nie !== -1) return this.#found('national_id', nie)
    }
    if (label === 0 && at - 2 >= start) {
      const nino = this.#endOfLabelledNino(bytes, start, at - 2, end)
      if (nino !== -1) return this.#found('national_id', nino)
    }
    const run = endOfRun(bytes, at, end)
    if (this.#isHeader || run - at < 4) return run
    if (run - at < 13 && !((run - at === 4 || run - at === 6) && isGrouped(bytes, run, end))) return run
    const groups = this.#groups
    groups.read(bytes, at, end, MOST_CARD_GROUPS)
    if (groups.total < 14 || !touchesWords(bytes, start, at, at, end)) return run
    const card = this.#endOfCard(bytes, start, at, end)
    return card === -1 || !isCommonCard(groups.digits, groups.total) ? run : this.#found('payment_card', card)
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
