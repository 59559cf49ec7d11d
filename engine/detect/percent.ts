/**
 * Writes `bytes[start, end)` into `target` with `%XX` decoded (RFC 3986 §2.1); what begins none stays. Never longer than what was
 * read. `plus` is what `+` stands for. Returns the length.
 */
export function decodePercent(bytes: Uint8Array, start: number, end: number, target: Uint8Array, plus = 0x2b): number {
  let to = 0
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!
    if (byte === 0x25 && i + 2 < end) {
      const high = hexDigit(bytes[i + 1]!)
      const low = hexDigit(bytes[i + 2]!)
      if (high !== -1 && low !== -1) {
        target[to++] = high * 16 + low
        i += 2
        continue
      }
    }
    target[to++] = byte === 0x2b ? plus : byte
  }
  return to
}

/** 0–15, or -1. */
export function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
