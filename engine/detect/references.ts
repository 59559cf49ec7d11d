import { isAlphanumeric, isDigit } from './alphabet.ts'
import { hexDigit } from './percent.ts'

const AMPERSAND = 0x26
const SEMICOLON = 0x3b
const MAX_NAME = 20

/** The named references that could stand in a finding, or hide one (HTML §13.5), by the hash of their names. */
const NAMED: ReadonlyMap<number, Buffer> = new Map(
  Object.entries({
    commat: '@',
    period: '.',
    plus: '+',
    hyphen: '-',
    dash: '-',
    lpar: '(',
    rpar: ')',
    num: '#',
    colon: ':',
    sol: '/',
    lowbar: '_',
    UnderBar: '_',
    percnt: '%',
    equals: '=',
    quot: '"',
    apos: "'",
    lt: '<',
    gt: '>',
    nbsp: ' ',
    NonBreakingSpace: ' ',
    ensp: ' ',
    emsp: ' ',
    thinsp: ' ',
    ThinSpace: ' ',
    numsp: ' ',
    Tab: '\t',
    NewLine: '\n',
    ndash: '-',
    mdash: '-',
    minus: '-',
    shy: '',
    zwj: '',
    zwnj: '',
    ZeroWidthSpace: '',
    NoBreak: '',
  }).map(([name, text]) => [hashName(Buffer.from(name), 0, name.length), Buffer.from(text)]),
)

/** Text with those character references decoded, and all numeric ones (HTML §13.2.5.72 ff.); the same buffer where there are none. */
export function decodeReferences(bytes: Buffer): Buffer {
  let next = bytes.indexOf(AMPERSAND)
  if (next === -1) return bytes
  const decoded = Buffer.allocUnsafe(bytes.length)
  let to = 0
  let from = 0
  while (next !== -1) {
    to += copy(bytes, from, next, decoded, to)
    from = next
    if (bytes[next + 1] === 0x23) {
      const isHex = (bytes[next + 2] ?? 0) === 0x78 || bytes[next + 2] === 0x58
      let i = next + (isHex ? 3 : 2)
      const digits = i
      let code = 0
      for (; i < bytes.length; i++) {
        const value = isHex ? hexDigit(bytes[i]!) : isDigit(bytes[i]!) ? bytes[i]! - 0x30 : -1
        if (value === -1) break
        code = Math.min(code * (isHex ? 16 : 10) + value, 0x110000)
      }
      if (i > digits && code > 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff)) {
        // Never longer than what is written: `&#1` is three bytes, `&#65536` seven.
        if (code < 0x80) decoded[to++] = code
        else to += decoded.write(String.fromCodePoint(code), to, 'utf8')
        from = bytes[i] === SEMICOLON ? i + 1 : i
      }
    } else {
      let i = next + 1
      while (i < next + MAX_NAME && i < bytes.length && isAlphanumeric(bytes[i]!)) i++
      const text = i === next + 1 ? undefined : NAMED.get(hashName(bytes, next + 1, i))
      if (text !== undefined) {
        decoded.set(text, to)
        to += text.length
        from = bytes[i] === SEMICOLON ? i + 1 : i
      }
    }
    if (from === next) {
      decoded[to++] = AMPERSAND
      from++
    }
    next = bytes.indexOf(AMPERSAND, from)
  }
  to += copy(bytes, from, bytes.length, decoded, to)
  return decoded.subarray(0, to)
}

/** FNV-1a: names differ by case, too. */
function hashName(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5 | 0
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193)
  return hash
}

/** Most stretches are shorter than what a call to copy them costs. */
function copy(source: Buffer, from: number, end: number, target: Buffer, to: number): number {
  if (end - from > 48) return source.copy(target, to, from, end)
  for (let i = from; i < end; i++) target[to + i - from] = source[i]!
  return end - from
}
