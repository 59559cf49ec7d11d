import { isAlphanumeric, isLetter, hashLower } from './alphabet.ts'

const LESS_THAN = 0x3c
const GREATER_THAN = 0x3e
const LINE_FEED = 0x0a
const COMMENT_END = Buffer.from('-->')
const SECTION = Buffer.from('<![CDATA[')
const SECTION_END = Buffer.from(']]>')

/** Elements that do not begin a line, box or widget of their own (HTML §15.3): what they stand between is read as one. */
const INLINE: ReadonlySet<number> = new Set(
  (
    'a abbr acronym b bdi bdo big blink cite code data del dfn em font i ins kbd mark nobr q rb rp rt ruby s samp small span strike ' +
    'strong sub sup time tt u var wbr'
  )
    .split(' ')
    .map((name) => hashLower(Buffer.from(name), 0, name.length)),
)

/**
 * The text of a page as it is read, so that `alice<b>@</b>example.com` is an address: without comments, markers of CDATA
 * sections and inline tags; all other tags are line ends. In XML (`markup`) every tag is. Linear; what no `>` closes ends the text.
 */
export function visibleText(bytes: Buffer, reading: 'page' | 'markup'): Buffer {
  const visible = Buffer.allocUnsafe(bytes.length)
  let to = 0
  let i = 0
  while (i < bytes.length) {
    const byte = bytes[i]!
    if (byte !== LESS_THAN) {
      visible[to++] = byte
      i++
      continue
    }
    const next = bytes[i + 1] ?? 0
    if (next === 0x21 && bytes[i + 2] === 0x2d && bytes[i + 3] === 0x2d) {
      const end = bytes.indexOf(COMMENT_END, i + 4)
      if (end === -1) break
      i = end + 3
    } else if (next === 0x21 && bytes[i + 2] === 0x5b && SECTION.equals(bytes.subarray(i, i + 9))) {
      let end = bytes.indexOf(SECTION_END, i + 9)
      if (end === -1) end = bytes.length
      to += bytes.copy(visible, to, i + 9, end)
      i = end + 3
    } else if (isLetter(next) || next === 0x2f || next === 0x21 || next === 0x3f) {
      const name = next === 0x2f ? i + 2 : i + 1
      let nameEnd = name
      while (nameEnd < bytes.length && isAlphanumeric(bytes[nameEnd]!)) nameEnd++
      // A custom element (`x-y`) is inline, too.
      const isInline = reading === 'page' && (bytes[nameEnd] === 0x2d || INLINE.has(hashLower(bytes, name, nameEnd)))
      if (!isInline) visible[to++] = LINE_FEED
      i = endOfTag(bytes, nameEnd)
    } else {
      visible[to++] = byte
      i++
    }
  }
  return visible.subarray(0, to)
}

/** After the `>` that is in no quotes. */
function endOfTag(bytes: Uint8Array, start: number): number {
  let quote = 0
  for (let i = start; i < bytes.length; i++) {
    const byte = bytes[i]!
    if (quote !== 0) {
      if (byte === quote) quote = 0
    } else if (byte === GREATER_THAN) return i + 1
    else if ((byte === 0x22 || byte === 0x27) && bytes[i - 1] === 0x3d) quote = byte
  }
  return bytes.length
}
