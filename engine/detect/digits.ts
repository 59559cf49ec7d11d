import { DIGIT_0, DOT, HYPHEN, SPACE, isAlphanumeric, isDigit } from './alphabet.ts'

const MAX_DIGITS = 24
const MAX_GROUPS = 10

/**
 * Digits that belong together as written: groups with single, equal separators between them (space, no-break space, `-`, `.`),
 * at most 24 digits in 10 groups. One object is filled again and again, so that numbers cost no allocation.
 */
export class DigitGroups {
  /** Values 0–9. */
  readonly digits = new Uint8Array(MAX_DIGITS)
  total = 0
  groups = 0
  separator = 0
  /** Digits up to the end of each group, and where it ends in the bytes. */
  readonly #upTo = new Int32Array(MAX_GROUPS)
  readonly #ends = new Int32Array(MAX_GROUPS)
  #overflow = false

  /** Reads the groups that begin at `at`, a digit. */
  read(bytes: Uint8Array, at: number, end: number): void {
    this.total = 0
    this.groups = 0
    this.separator = 0
    this.#overflow = false
    let i = at
    while (this.groups < MAX_GROUPS) {
      let total = this.total
      for (; i < end && isDigit(bytes[i]!); i++) {
        if (total === MAX_DIGITS) {
          this.#overflow = true
          return
        }
        this.digits[total++] = bytes[i]! - DIGIT_0
      }
      this.total = total
      this.#upTo[this.groups] = total
      this.#ends[this.groups++] = i
      const width = separatorWidth(bytes, i, end)
      if (width === 0 || i + width >= end || !isDigit(bytes[i + width]!)) return
      const separator = width === 2 ? SPACE : bytes[i]!
      if (this.separator === 0) this.separator = separator
      else if (this.separator !== separator) return
      i += width
    }
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

function separatorWidth(bytes: Uint8Array, at: number, end: number): number {
  if (at >= end) return 0
  const byte = bytes[at]!
  if (byte === SPACE || byte === HYPHEN || byte === DOT) return 1
  return byte === 0xc2 && at + 1 < end && bytes[at + 1] === 0xa0 ? 2 : 0
}
