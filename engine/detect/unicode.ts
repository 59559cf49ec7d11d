import { DOT, HYPHEN, SPACE, isDigit } from './alphabet.ts'

/** What separates groups of digits, beside `SPACE`, `HYPHEN` and `DOT`: these say less, as paths, names and columns have them too. */
export const SLASH = 0x2f
export const UNDERSCORE = 0x5f
export const TWO_SPACES = 1

/** Lead bytes of `foreignDigit`'s characters. */
export function leadsForeign(byte: number): boolean {
  return byte === 0xd9 || byte === 0xdb || byte === 0xe0 || byte === 0xef || byte === 0xf0
}

/**
 * A decimal digit of another script at `at` (Unicode Nd: Arabic-Indic, the Indian scripts, Thai, Lao, Tibetan, full width,
 * mathematical): its value, and its width in bytes times 16; or -1.
 */
export function foreignDigit(bytes: Uint8Array, at: number, end: number): number {
  const second = at + 1 < end ? bytes[at + 1]! : 0
  switch (bytes[at]) {
    case 0xd9:
      return within(second, 0xa0, 2)
    case 0xdb:
      return within(second, 0xb0, 2)
    case 0xe0: {
      const third = at + 2 < end ? bytes[at + 2]! : 0
      if (second >= 0xa5 && second <= 0xb3 && (second & 1) === 1) return within(third, 0xa6, 3)
      if (second === 0xb9 || second === 0xbb) return within(third, 0x90, 3)
      return second === 0xbc ? within(third, 0xa0, 3) : -1
    }
    case 0xef:
      return second === 0xbc ? within(at + 2 < end ? bytes[at + 2]! : 0, 0x90, 3) : -1
    case 0xf0: {
      const fourth = at + 3 < end ? bytes[at + 3]! : 0
      if (second !== 0x9d || bytes[at + 2] !== 0x9f || fourth < 0x8e || fourth > 0xbf) return -1
      return ((fourth - 0x8e) % 10) | (4 << 4)
    }
    default:
      return -1
  }
}

function within(byte: number, zero: number, width: number): number {
  return byte >= zero && byte <= zero + 9 ? (byte - zero) | (width << 4) : -1
}

/** The width of a character at `at` that nobody sees (zero-width space and joiners, word joiner, soft hyphen, U+FEFF), or 0. */
export function invisibleWidth(bytes: Uint8Array, at: number, end: number): number {
  if (at + 1 >= end) return 0
  const byte = bytes[at]!
  if (byte === 0xc2) return bytes[at + 1] === 0xad ? 2 : 0
  if (at + 2 >= end) return 0
  const second = bytes[at + 1]!
  const third = bytes[at + 2]!
  if (byte === 0xef) return second === 0xbb && third === 0xbf ? 3 : 0
  if (byte !== 0xe2) return 0
  return (second === 0x80 && third >= 0x8b && third <= 0x8f) || (second === 0x81 && third === 0xa0) ? 3 : 0
}

/** A separator at `at` with its digit after it: which (spaces and dashes of all kinds are `SPACE` and `HYPHEN`), and its width times 256; or 0. */
export function separatorAt(bytes: Uint8Array, at: number, end: number): number {
  if (at + 1 >= end) return 0
  const byte = bytes[at]!
  const width = byte < 0x80 ? 1 : byte === 0xc2 ? 2 : 3
  let kind = 0
  if (byte === SPACE) {
    if (bytes[at + 1] === SPACE && at + 2 < end && beginsDigit(bytes, at + 2, end)) return TWO_SPACES | (2 << 8)
    kind = SPACE
  } else if (byte === HYPHEN || byte === DOT || byte === SLASH || byte === UNDERSCORE) kind = byte
  else if (byte < 0x80) return 0
  else if (byte === 0xc2) kind = bytes[at + 1] === 0xa0 ? SPACE : 0
  else if (at + 2 < end) kind = wideSeparator(byte, bytes[at + 1]!, bytes[at + 2]!)
  return kind !== 0 && beginsDigit(bytes, at + width, end) ? kind | (width << 8) : 0
}

function wideSeparator(first: number, second: number, third: number): number {
  if (first === 0xe2 && second === 0x80) {
    if (third <= 0x8a || third === 0xaf) return SPACE
    return third >= 0x90 && third <= 0x95 ? HYPHEN : 0
  }
  if (first === 0xe2 && ((second === 0x88 && third === 0x92) || (second === 0x81 && third === 0x9f)))
    return second === 0x88 ? HYPHEN : SPACE
  return first === 0xe3 && second === 0x80 && third === 0x80 ? SPACE : 0
}

export function beginsDigit(bytes: Uint8Array, at: number, end: number): boolean {
  return at < end && (isDigit(bytes[at]!) || (bytes[at]! >= 0x80 && foreignDigit(bytes, at, end) !== -1))
}
