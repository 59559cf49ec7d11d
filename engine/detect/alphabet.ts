/** Byte classes of ASCII: the detectors work on UTF-8 bytes and never decode characters. */

export const DIGIT_0 = 0x30
export const SPACE = 0x20
export const HYPHEN = 0x2d
export const DOT = 0x2e

export function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39
}

export function isLetter(byte: number): boolean {
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x7a
}

/** What a number must not touch to stand by itself. Not so other scripts: in Chinese text numbers touch words. */
export function isAlphanumeric(byte: number): boolean {
  return isDigit(byte) || isLetter(byte)
}

/** Whether a letter of any script is in `bytes[start, end)`. */
export function holdsLetter(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (isLetter(bytes[i]!) || bytes[i]! >= 0x80) return true
  return false
}

/** FNV-1a, without case: of letters, digits and the like. */
export function hashLower(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5 | 0
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (bytes[i]! | 0x20), 0x01000193)
  return hash
}
