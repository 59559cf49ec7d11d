import { hexDigit } from './percent.ts'

/** What `\x` stands for; 0 for none. `\u` is apart. */
export const ESCAPED = new Uint8Array(256)
for (const [written, meant] of ['""', '\\\\', '//', 'b\b', 'f\f', 'n\n', 'r\r', 't\t']) {
  ESCAPED[written!.charCodeAt(0)] = meant!.charCodeAt(0)
}

/**
 * Writes `bytes[start, end)` into `target` with JSON's escapes decoded, `\uXXXX` as UTF-8; a backslash that begins none stays.
 * Never longer than what was read. Returns the length.
 */
export function decodeEscapes(bytes: Uint8Array, start: number, end: number, target: Buffer): number {
  let to = 0
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!
    const written = i + 1 < end ? bytes[i + 1]! : 0
    if (byte !== 0x5c) target[to++] = byte
    else if (written === 0x75 && i + 6 <= end && hexAt(bytes, i + 2) !== -1) {
      let code = hexAt(bytes, i + 2)
      i += 5
      if (code >= 0xd800 && code <= 0xdbff && i + 7 <= end && bytes[i + 1] === 0x5c && bytes[i + 2] === 0x75) {
        const low = hexAt(bytes, i + 3)
        if (low >= 0xdc00 && low <= 0xdfff) {
          code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
          i += 6
        }
      }
      if (code < 0x80) target[to++] = code
      else to += target.write(String.fromCodePoint(code), to, 'utf8')
    } else if (written === 0x78 && i + 4 <= end && hexPair(bytes, i + 2) > 0) {
      // Not JSON's, but of the programs whose escapes are the same otherwise.
      const code = hexPair(bytes, i + 2)
      if (code < 0x80) target[to++] = code
      else to += target.write(String.fromCodePoint(code), to, 'utf8')
      i += 3
    } else if (written !== 0 && ESCAPED[written] !== 0) {
      target[to++] = ESCAPED[written]!
      i++
    } else target[to++] = byte
  }
  return to
}

/**
 * As `decodeEscapes`, for CSS Syntax §4.3.7: one to six hex digits and a white space after them; of other characters the
 * backslash goes away.
 */
export function decodeCssEscapes(bytes: Uint8Array, start: number, end: number, target: Buffer): number {
  let to = 0
  for (let i = start; i < end; i++) {
    if (bytes[i] !== 0x5c) {
      target[to++] = bytes[i]!
      continue
    }
    let code = 0
    let at = i + 1
    for (; at < end && at < i + 7 && hexDigit(bytes[at]!) !== -1; at++) code = code * 16 + hexDigit(bytes[at]!)
    if (at === i + 1 || code < 0x20 || code >= 0x80) continue
    target[to++] = code
    i = at < end && bytes[at]! <= 0x20 ? at : at - 1
  }
  return to
}

function hexPair(bytes: Uint8Array, at: number): number {
  const high = hexDigit(bytes[at]!)
  const low = hexDigit(bytes[at + 1]!)
  return high === -1 || low === -1 ? -1 : high * 16 + low
}

/** The value of four hex digits at `at`, or -1. */
export function hexAt(bytes: Uint8Array, at: number): number {
  let value = 0
  for (let i = at; i < at + 4; i++) {
    const byte = i < bytes.length ? bytes[i]! : 0
    const lower = byte | 0x20
    if (byte >= 0x30 && byte <= 0x39) value = value * 16 + byte - 0x30
    else if (lower >= 0x61 && lower <= 0x66) value = value * 16 + lower - 0x57
    else return -1
  }
  return value
}
