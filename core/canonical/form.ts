const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_ARRAY = 0x5b
const BACKSLASH = 0x5c
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d

/** Deeper values go the long way. */
const MAX_DEPTH = 32
/** An integer of so many characters, with its sign, is a safe one and prints as it is written. */
const MAX_INTEGER_LENGTH = 15

/** What a byte inside of a string is: 0 stands for itself, 1 ends the string or escapes, 2 has to be looked at in another way. */
const KIND = new Uint8Array(256)
KIND.fill(2, 0, 0x20)
KIND.fill(2, 0x80)
KIND[QUOTE] = 1
KIND[BACKSLASH] = 1
/** Whether the byte behind a backslash makes an escape that is the shortest for its character, whatever that is. */
const SHORTEST = new Uint8Array(256)
for (const escaped of '"\\bfnrt') SHORTEST[escaped.charCodeAt(0)] = 1

/**
 * Where the canonical JSON (RFC 8785) of a value ends that begins at `at`, found in the bytes alone, at a fifth of what reading and
 * writing it again costs. -1 where it does not end before `end`, is not canonical, **or is of a kind that is not judged here**: text that
 * is not ASCII, `\u` escapes, names with an escape, nesting deeper than 32. A place that is given is one that `canonicalize` would end at.
 */
export function endOfCanonical(bytes: Uint8Array, at: number, end: number): number {
  return endOfValue(bytes, at, end, 0)
}

/** Where a string without an escape ends that begins behind its opening quote at `at`: at its closing quote; -1 as `endOfCanonical`. */
function endOfName(bytes: Uint8Array, at: number, end: number): number {
  while (at < end && KIND[bytes[at] as number] === 0) at++
  return at < end && bytes[at] === QUOTE ? at : -1
}

function endOfValue(bytes: Uint8Array, at: number, end: number, depth: number): number {
  if (at >= end) return -1
  switch (bytes[at]) {
    case QUOTE:
      return endOfString(bytes, at + 1, end)
    case OPEN_OBJECT:
      return depth < MAX_DEPTH ? endOfObject(bytes, at + 1, end, depth + 1) : -1
    case OPEN_ARRAY:
      return depth < MAX_DEPTH ? endOfArray(bytes, at + 1, end, depth + 1) : -1
    case 0x6e:
      return endOfWord(bytes, at, end, NULL)
    case 0x74:
      return endOfWord(bytes, at, end, TRUE)
    case 0x66:
      return endOfWord(bytes, at, end, FALSE)
    default:
      return endOfNumber(bytes, at, end)
  }
}

function endOfString(bytes: Uint8Array, at: number, end: number): number {
  for (;;) {
    while (at < end && KIND[bytes[at] as number] === 0) at++
    if (at >= end) return -1
    if (bytes[at] === QUOTE) return at + 1
    if (bytes[at] !== BACKSLASH || at + 1 >= end || SHORTEST[bytes[at + 1] as number] === 0) return -1
    at += 2
  }
}

function endOfObject(bytes: Uint8Array, at: number, end: number, depth: number): number {
  if (at < end && bytes[at] === CLOSE_OBJECT) return at + 1
  let nameBefore = -1
  let nameBeforeEnd = -1
  for (;;) {
    if (at >= end || bytes[at] !== QUOTE) return -1
    const name = at + 1
    const nameEnd = endOfName(bytes, name, end)
    if (nameEnd === -1 || nameEnd + 1 >= end || bytes[nameEnd + 1] !== COLON) return -1
    // Of ASCII, bytes are in the order of UTF-16 code units; none comes twice.
    if (nameBefore !== -1 && !isBefore(bytes, nameBefore, nameBeforeEnd, name, nameEnd)) return -1
    nameBefore = name
    nameBeforeEnd = nameEnd
    at = endOfValue(bytes, nameEnd + 2, end, depth)
    if (at === -1 || at >= end) return -1
    if (bytes[at] === CLOSE_OBJECT) return at + 1
    if (bytes[at] !== COMMA) return -1
    at++
  }
}

function isBefore(bytes: Uint8Array, a: number, aEnd: number, b: number, bEnd: number): boolean {
  for (; a < aEnd && b < bEnd; a++, b++) {
    const difference = (bytes[a] as number) - (bytes[b] as number)
    if (difference !== 0) return difference < 0
  }
  return a === aEnd && b < bEnd
}

function endOfArray(bytes: Uint8Array, at: number, end: number, depth: number): number {
  if (at < end && bytes[at] === CLOSE_ARRAY) return at + 1
  for (;;) {
    at = endOfValue(bytes, at, end, depth)
    if (at === -1 || at >= end) return -1
    if (bytes[at] === CLOSE_ARRAY) return at + 1
    if (bytes[at] !== COMMA) return -1
    at++
  }
}

const NULL = Buffer.from('null')
const TRUE = Buffer.from('true')
const FALSE = Buffer.from('false')

function endOfWord(bytes: Uint8Array, at: number, end: number, word: Uint8Array): number {
  if (at + word.length > end) return -1
  for (let index = 0; index < word.length; index++) if (bytes[at + index] !== word[index]) return -1
  return at + word.length
}

function endOfNumber(bytes: Uint8Array, start: number, end: number): number {
  let at = start
  if (at < end && bytes[at] === MINUS) at++
  const first = at
  while (at < end && isDigit(bytes[at] as number)) at++
  if (at === first) return -1
  const isPlain = at >= end || !isNumberByte(bytes[at] as number)
  const isZero = bytes[first] === ZERO
  if (isPlain && at - start <= MAX_INTEGER_LENGTH) return isZero && at - start > 1 ? -1 : at
  while (at < end && isNumberByte(bytes[at] as number)) at++
  const text = Buffer.from(bytes.buffer, bytes.byteOffset + start, at - start).toString('latin1')
  return String(Number(text)) === text ? at : -1
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE
}

function isNumberByte(byte: number): boolean {
  return isDigit(byte) || byte === 0x2e || byte === 0x65 || byte === 0x45 || byte === 0x2b || byte === MINUS
}
