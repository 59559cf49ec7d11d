import { holdsLetter, isAlphanumeric, isLetter } from './alphabet.ts'
import { LABEL, financialField, labelOf } from './label.ts'
import { labelBefore } from './text.ts'
import type { Tally } from './tally.ts'

const MAX_NAME = 64
const LESS_THAN = 0x3c
const GREATER_THAN = 0x3e
const COLON = 0x3a

/** Labelled fields of XML and HTML: the text directly in an element whose name is a label (namespace prefix aside). */
export function scanElements(bytes: Buffer, tally: Tally): void {
  for (let tag = bytes.indexOf(LESS_THAN); tag !== -1; tag = bytes.indexOf(LESS_THAN, tag + 1)) {
    if (tag + 1 >= bytes.length || !isLetter(bytes[tag + 1]!)) continue
    let name = tag + 1
    let i = name
    const limit = Math.min(bytes.length, name + MAX_NAME)
    for (; i < limit; i++) {
      const byte = bytes[i]!
      if (byte === COLON) name = i + 1
      else if (!isAlphanumeric(byte) && byte !== 0x5f && byte !== 0x2d && byte !== 0x2e) break
    }
    const label = labelOf(bytes, name, i)
    if (label === 0) continue
    const field = financialField(label)
    if (field > 0) tally.financialFields |= 1 << (field - 1)
    if ((label & LABEL.PERSON_NAME) === 0) continue
    const open = bytes.indexOf(GREATER_THAN, i)
    if (open === -1) return
    const close = bytes.indexOf(LESS_THAN, open)
    if (holdsLetter(bytes, open + 1, close === -1 ? bytes.length : close)) tally.person_name++
    if (close === -1) return
    tag = close - 1
  }
}

/**
 * Labelled fields of plain text: `First name: Ada`, `"lastName":"Lovelace"`, `Total assets: 12`. A name begins with a capital,
 * a quote or another script, so that the types of a program text are none. `members`: only where both the name and its value are
 * in quotes, as in the object literals of pages and programs.
 */
export function scanLines(bytes: Buffer, tally: Tally, form: 'lines' | 'members'): void {
  for (let colon = bytes.indexOf(COLON); colon !== -1; colon = bytes.indexOf(COLON, colon + 1)) {
    if (form === 'members' && !isQuoteBefore(bytes, colon)) continue
    const label = labelBefore(bytes, 0, colon + 1)
    if (label === 0) continue
    const field = financialField(label)
    if (field > 0) tally.financialFields |= 1 << (field - 1)
    if ((label & LABEL.PERSON_NAME) !== 0 && beginsName(bytes, colon + 1, form)) tally.person_name++
  }
}

function isQuoteBefore(bytes: Uint8Array, colon: number): boolean {
  const byte = bytes[colon - 1] === 0x20 ? bytes[colon - 2] : bytes[colon - 1]
  return byte === 0x22 || byte === 0x27
}

function beginsName(bytes: Uint8Array, at: number, form: 'lines' | 'members'): boolean {
  let i = at
  let isQuoted = false
  for (; i < at + 4 && i < bytes.length; i++) {
    const byte = bytes[i]!
    if (byte === 0x22 || byte === 0x27) isQuoted = true
    else if (byte !== 0x20 && byte !== 0x09 && byte !== 0x5c) break
  }
  const byte = bytes[i] ?? 0
  if (form === 'members' && !isQuoted) return false
  return byte >= 0x80 || (byte >= 0x41 && byte <= 0x5a) || (isQuoted && isLetter(byte))
}
