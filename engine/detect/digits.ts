import { DIGIT_0, DOT, isAlphanumeric, isDigit } from './alphabet.ts'
import { beginsDigit, foreignDigit, invisibleWidth, separatorAt } from './unicode.ts'

const MAX_DIGITS = 24
/** Only the French NIR, which begins with a group of one digit, has more than five. */
export const MOST_GROUPS = 8
export const MOST_CARD_GROUPS = 5

/**
 * Digits that belong together as written: groups with equal separators between them (`separatorAt`; what nobody sees
 * is none), at most 24 digits in `maxGroups` groups, of any script. One object is filled again and again, so that numbers cost no allocation.
 */
export class DigitGroups {
  /** Values 0–9. */
  readonly digits = new Uint8Array(MAX_DIGITS)
  total = 0
  groups = 0
  separator = 0
  runSize = 0
  /** Digits up to the end of each group, and where it ends in the bytes. */
  readonly #upTo = new Int32Array(MOST_GROUPS)
  readonly #ends = new Int32Array(MOST_GROUPS)
  #overflow = false

  /** Reads the groups that begin at `at`, a digit. */
  read(bytes: Uint8Array, at: number, end: number, maxGroups: number): void {
    this.total = 0
    this.groups = 0
    this.separator = 0
    this.#overflow = false
    let i = at
    while (this.groups < maxGroups) {
      let total = this.total
      for (;;) {
        let value: number
        if (i < end && isDigit(bytes[i]!)) value = bytes[i++]! - DIGIT_0
        else if (i >= end || bytes[i]! < 0x80) break
        else {
          const foreign = foreignDigit(bytes, i, end)
          if (foreign === -1) {
            const width = invisibleWidth(bytes, i, end)
            // More than one of them ends the number, so that no byte is looked at twice for long.
            if (width === 0 || !beginsDigit(bytes, i + width, end)) break
            i += width
            continue
          }
          value = foreign & 15
          i += foreign >> 4
        }
        if (total === MAX_DIGITS) {
          this.#overflow = true
          return
        }
        this.digits[total++] = value
      }
      this.total = total
      this.#upTo[this.groups] = total
      this.#ends[this.groups++] = i
      const found = separatorAt(bytes, i, end)
      if (found === 0) return
      const separator = found & 255
      if (this.separator === 0) this.separator = separator
      else if (this.separator !== separator) return
      i += found >> 8
    }
  }

  /** The end of the digits that begin at `at`, up to any separator; their number is in `runSize`. */
  readRun(bytes: Uint8Array, at: number, end: number): number {
    let i = at
    this.runSize = 0
    while (i < end) {
      const digit = isDigit(bytes[i]!) ? 16 : foreignDigit(bytes, i, end)
      if (digit !== -1) {
        this.runSize++
        i += digit >> 4
        continue
      }
      const width = invisibleWidth(bytes, i, end)
      if (width === 0 || !beginsDigit(bytes, i + width, end)) break
      i += width
    }
    return i
  }

  /** Only these digits, written together. */
  set(text: string): void {
    this.total = Math.min(text.length, MAX_DIGITS)
    this.groups = 1
    this.separator = 0
    this.#overflow = text.length > MAX_DIGITS
    for (let i = 0; i < this.total; i++) this.digits[i] = text.charCodeAt(i) - DIGIT_0
    this.#upTo[0] = this.total
    this.#ends[0] = this.total
  }

  size(group: number): number {
    return this.#upTo[group]! - (group === 0 ? 0 : this.#upTo[group - 1]!)
  }

  /** Digits in the first `count` groups. */
  upTo(count: number): number {
    return this.#upTo[count - 1]!
  }

  /** Where the first `count` groups end, whatever follows. */
  endsAt(count: number): number {
    return this.#ends[count - 1]!
  }

  /** Whether the digits go on after those that were read. */
  get isCut(): boolean {
    return this.#overflow
  }

  /** Where the first `count` groups end in the bytes, or -1 where they do not stand by themselves: a letter or a decimal follows. */
  endOf(bytes: Uint8Array, count: number, end: number): number {
    if (this.#overflow && count === this.groups) return -1
    const at = this.#ends[count - 1]!
    if (at < end && isAlphanumeric(bytes[at]!)) return -1
    const isDotted = this.separator === DOT && count > 1
    if (!isDotted && at + 1 < end && bytes[at] === DOT && isDigit(bytes[at + 1]!)) return -1
    return at
  }

  /** Whether the first groups have these sizes. */
  startsWith(sizes: readonly number[]): boolean {
    if (this.groups < sizes.length) return false
    for (let i = 0; i < sizes.length; i++) if (this.size(i) !== sizes[i]) return false
    return true
  }
}
