import { DOT, HYPHEN, SPACE, isAlphanumeric, isDigit, isLetter } from './alphabet.ts'
import type { DigitGroups } from './digits.ts'
import { TWO_SPACES } from './unicode.ts'

const GROUPINGS = [
  [4, 4, 4, 4],
  [4, 6, 5],
  [4, 6, 4],
  [4, 4, 4, 4, 3],
]
/** Longer words than that touch no number. */
const MAX_WORD = 24

/**
 * Whether groups with a separator that says little (`/`, `_`, two spaces) are as cards are printed, with nothing of the same row
 * before or after; true with any other separator.
 */
export function isStandardGrouping(
  groups: DigitGroups,
  count: number,
  bytes: Uint8Array,
  start: number,
  at: number,
): boolean {
  const separator = groups.separator
  if (count === 1 || separator === SPACE || separator === HYPHEN || separator === DOT) return true
  if (count !== groups.groups || !GROUPINGS.some((sizes) => sizes.length === count && groups.startsWith(sizes)))
    return false
  const isWide = separator === TWO_SPACES
  const before = at - (isWide ? 3 : 2)
  return before < start || bytes[at - 1] !== (isWide ? SPACE : separator) || !isDigit(bytes[before]!)
}

/**
 * Whether what touches `bytes[at, after)` is words (`id4111…`, `4111…exp`) and not the rest of a digest or another identifier:
 * letters only, up to whatever is neither letter nor digit, and one of them no hex digit.
 */
export function touchesWords(bytes: Uint8Array, start: number, at: number, after: number, end: number): boolean {
  let isHex = true
  let i = at
  for (; i > start && isLetter(bytes[i - 1]!); i--) if ((bytes[i - 1]! | 0x20) > 0x66) isHex = false
  if (at - i > MAX_WORD || (i > start && isAlphanumeric(bytes[i - 1]!))) return false
  let k = after
  for (; k < end && k <= after + MAX_WORD && isLetter(bytes[k]!); k++) if ((bytes[k]! | 0x20) > 0x66) isHex = false
  if (k > after && k < end && isAlphanumeric(bytes[k]!)) return false
  return !isHex
}
