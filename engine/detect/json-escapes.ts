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
      to += target.write(String.fromCodePoint(code), to, 'utf8')
    } else if (written !== 0 && ESCAPED[written] !== 0) {
      target[to++] = ESCAPED[written]!
      i++
    } else target[to++] = byte
  }
  return to
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
