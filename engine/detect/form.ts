import { SPACE, holdsLetter } from './alphabet.ts'
import { LABEL, financialField, labelOf } from './label.ts'
import { decodePercent } from './percent.ts'
import type { TextScanner } from './text.ts'
import type { Tally } from './tally.ts'

const AMPERSAND = 0x26
const EQUALS = 0x3d

/** Scans `application/x-www-form-urlencoded` (WHATWG URL §5.1). What is not a percent-encoded byte stays as it is. */
export function scanForm(bytes: Buffer, tally: Tally, text: TextScanner): void {
  const name = Buffer.allocUnsafe(bytes.length)
  const value = Buffer.allocUnsafe(bytes.length)
  let plainNames = 0
  let isPerson = false
  for (let start = 0; start < bytes.length;) {
    let nameEnd = start
    while (nameEnd < bytes.length && bytes[nameEnd] !== AMPERSAND && bytes[nameEnd] !== EQUALS) nameEnd++
    let end = nameEnd
    while (end < bytes.length && bytes[end] !== AMPERSAND) end++
    const nameLength = decodePercent(bytes, start, nameEnd, name, SPACE)
    const label = labelOf(name, 0, nameLength)
    text.scan(name, 0, nameLength)
    if (nameEnd < end) {
      const length = decodePercent(bytes, nameEnd + 1, end, value, SPACE)
      text.scan(value, 0, length, label)
      const field = financialField(label)
      if (field > 0) tally.financialFields |= 1 << (field - 1)
      if ((label & LABEL.PERSON_DETAIL) !== 0) isPerson = true
      if (holdsLetter(value, 0, length)) {
        if ((label & LABEL.PERSON_NAME) !== 0) tally.person_name++
        else if ((label & LABEL.PLAIN_NAME) !== 0) plainNames++
      }
    }
    start = end + 1
  }
  if (isPerson) tally.person_name += plainNames
}
