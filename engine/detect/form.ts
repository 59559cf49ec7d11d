import { holdsLetter } from './alphabet.ts'
import { LABEL, financialField, labelOf } from './label.ts'
import type { TextScanner } from './text.ts'
import type { Tally } from './tally.ts'

/** Scans `application/x-www-form-urlencoded` (WHATWG URL §5.1). What is not a percent-encoded byte stays as it is. */
export function scanForm(bytes: Buffer, tally: Tally, text: TextScanner): void {
  const decoded = Buffer.allocUnsafe(bytes.length)
  let plainNames = 0
  let isPerson = false
  let start = 0
  while (start < bytes.length) {
    let end = bytes.indexOf(0x26, start)
    if (end === -1) end = bytes.length
    const equals = bytes.subarray(start, end).indexOf(0x3d)
    const nameEnd = equals === -1 ? end : start + equals
    const name = decoded.subarray(0, decode(bytes, start, nameEnd, decoded))
    const label = labelOf(name, 0, name.length)
    text.scan(name, 0, name.length)
    if (equals !== -1) {
      const value = decoded.subarray(0, decode(bytes, nameEnd + 1, end, decoded))
      text.scan(value, 0, value.length, label)
      const field = financialField(label)
      if (field > 0) tally.financialFields |= 1 << (field - 1)
      if ((label & LABEL.PERSON_DETAIL) !== 0) isPerson = true
      if (holdsLetter(value, 0, value.length)) {
        if ((label & LABEL.PERSON_NAME) !== 0) tally.person_name++
        else if ((label & LABEL.PLAIN_NAME) !== 0) plainNames++
      }
    }
    start = end + 1
  }
  if (isPerson) tally.person_name += plainNames
}

function decode(bytes: Uint8Array, start: number, end: number, target: Uint8Array): number {
  let to = 0
  for (let i = start; i < end; i++) {
    const byte = bytes[i]!
    if (byte === 0x2b) target[to++] = 0x20
    else if (byte === 0x25 && i + 2 < end && hex(bytes[i + 1]!) !== -1 && hex(bytes[i + 2]!) !== -1) {
      target[to++] = hex(bytes[i + 1]!) * 16 + hex(bytes[i + 2]!)
      i += 2
    } else target[to++] = byte
  }
  return to
}

function hex(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const lower = byte | 0x20
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1
}
