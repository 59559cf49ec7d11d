import { isUtf8 } from 'node:buffer'
import { SignetError } from '../error/signet-error.ts'

export const DEFAULT_MAX_DEPTH = 64
/** The most that `maxDepth` may be. */
const MAX_MAX_DEPTH = 512

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const BACKSLASH = 0x5c
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
/** An opening bracket and its closing one differ by this. */
const TO_CLOSE = 2

const COMPLIANCE = '_compliance'
/** `_compliance` with every character written as `\u00xx`; a longer name is another one. */
const MAX_COMPLIANCE_BYTES = COMPLIANCE.length * 6
/** `complianceSpans` has no more than this; nobody but an attacker writes a second one. */
export const MAX_COMPLIANCE_SPANS = 16

/**
 * The closing bracket of each open container, from index 1. Shared by all scans: each is over before another begins, and
 * allocating it would cost more than a small scan.
 */
const CLOSERS = new Uint8Array(MAX_MAX_DEPTH + 1)

/** Where a top-level member whose name decodes to `_compliance` is. Ends are exclusive. */
export type MemberSpan = {
  /** Its place among the top-level members, from 0. */
  readonly position: number
  /** Of the comma before it; -1 for the first member. */
  readonly commaBefore: number
  /** From quote to quote, both included. */
  readonly nameStart: number
  readonly nameEnd: number
  readonly valueStart: number
  readonly valueEnd: number
}

export type StructureScan = {
  readonly kind: 'object' | 'array' | 'scalar'
  /** Index of the final `}`; -1 unless `kind` is `object`. */
  readonly closeBrace: number
  /** Whether it is an object without members. */
  readonly isEmpty: boolean
  /** Top-level members of an object. */
  readonly members: number
  /** Of them, those whose name decodes to `_compliance`. */
  readonly complianceMembers: number
  /** Where the first `MAX_COMPLIANCE_SPANS` of these are. */
  readonly complianceSpans: readonly MemberSpan[]
  /** Colons outside of strings, at all depths: the members of all objects, if the text is JSON. */
  readonly colons: number
  /** Deepest nesting: 0 for a scalar. */
  readonly maxDepth: number
}

/**
 * One pass over JSON bytes that finds their structure: what they are, where they end, what the top-level names are. It checks that
 * the bytes are UTF-8 without BOM, that strings end and brackets match, that nesting stays within `maxDepth` (1 to 512, 64 unless
 * given), that the members of a top-level object have the form name, colon, value with one comma between, and that nothing
 * follows. It is no grammar check: below the top level commas and colons are not looked at, and neither are the forms of numbers,
 * literals and escapes. `parseStrict` is the grammar check. Never recursive; time and memory are linear in the bytes.
 * @throws SignetError JSON_INVALID with the offset of what is wrong
 */
export function scanStructure(bytes: Uint8Array, options: { readonly maxDepth?: number } = {}): StructureScan {
  const maxDepth = options.maxDepth ?? DEFAULT_MAX_DEPTH
  if (!(maxDepth >= 1 && maxDepth <= MAX_MAX_DEPTH))
    throw new RangeError(`maxDepth is from 1 to ${MAX_MAX_DEPTH}, not ${maxDepth}`)
  if (!isUtf8(bytes)) throw invalid('the bytes are not UTF-8')
  return new Scanner(bytes, maxDepth).scan()
}

class Scanner {
  readonly #bytes: Uint8Array
  readonly #limit: number
  #colons = 0
  #deepest = 0

  constructor(bytes: Uint8Array, maxDepth: number) {
    this.#bytes = bytes
    this.#limit = maxDepth
  }

  scan(): StructureScan {
    const start = this.#skipSpace(0)
    if (start >= this.#bytes.length) throw invalid('there is no value: the input is empty')
    if (this.#bytes[start] === 0xef && this.#bytes[start + 1] === 0xbb && this.#bytes[start + 2] === 0xbf) {
      throw invalid('there is a byte order mark; JSON has none', start)
    }
    const first = this.#bytes[start]
    if (first === OPEN_OBJECT) return this.#scanObject(start)
    const kind = first === OPEN_ARRAY ? 'array' : 'scalar'
    this.#expectEnd(this.#skipValue(start, 0))
    return {
      kind,
      closeBrace: -1,
      isEmpty: false,
      members: 0,
      complianceMembers: 0,
      complianceSpans: [],
      colons: this.#colons,
      maxDepth: this.#deepest,
    }
  }

  #scanObject(start: number): StructureScan {
    const bytes = this.#bytes
    const complianceSpans: MemberSpan[] = []
    let complianceMembers = 0
    let members = 0
    let commaBefore = -1
    this.#deepest = 1
    let at = this.#skipSpace(start + 1)
    if (bytes[at] !== CLOSE_OBJECT) {
      for (;;) {
        const nameStart = at
        if (bytes[nameStart] !== QUOTE) throw this.#unexpected(nameStart, 'a member name')
        const nameEnd = this.#skipString(nameStart)
        at = this.#skipSpace(nameEnd)
        if (bytes[at] !== COLON) throw this.#unexpected(at, 'a colon')
        this.#colons++
        const valueStart = this.#skipSpace(at + 1)
        const valueEnd = this.#skipValue(valueStart, 1)
        if (this.#isCompliance(nameStart + 1, nameEnd - 1)) {
          complianceMembers++
          if (complianceSpans.length < MAX_COMPLIANCE_SPANS)
            complianceSpans.push({ position: members, commaBefore, nameStart, nameEnd, valueStart, valueEnd })
        }
        members++
        at = this.#skipSpace(valueEnd)
        if (bytes[at] === CLOSE_OBJECT) break
        if (bytes[at] !== COMMA) throw this.#unexpected(at, 'a comma or the end of the object')
        commaBefore = at
        at = this.#skipSpace(at + 1)
      }
    }
    this.#expectEnd(at + 1)
    return {
      kind: 'object',
      closeBrace: at,
      isEmpty: members === 0,
      members,
      complianceMembers,
      complianceSpans,
      colons: this.#colons,
      maxDepth: this.#deepest,
    }
  }

  /** The index behind the value at `at`, which `depth` containers hold. */
  #skipValue(at: number, depth: number): number {
    const bytes = this.#bytes
    const first = bytes[at]
    if (first === QUOTE) return this.#skipString(at)
    if (first === OPEN_OBJECT || first === OPEN_ARRAY) return this.#skipContainer(at, depth)
    let end = at
    while (end < bytes.length && isScalarByte(bytes[end] as number)) end++
    if (end === at) throw this.#unexpected(at, 'a value')
    return end
  }

  #skipContainer(start: number, outerDepth: number): number {
    const bytes = this.#bytes
    const end = bytes.length
    const closers = CLOSERS
    const limit = this.#limit
    let depth = outerDepth
    let deepest = this.#deepest
    let colons = this.#colons
    // `>>> 0` tells V8 that the index is never negative, which makes the loop a quarter faster.
    for (let at = start >>> 0; at < end; at++) {
      const byte = bytes[at] as number
      if (byte === QUOTE) {
        // The string is skipped here and not in a call: most bytes of JSON are in short strings.
        for (at++; at < end; at++) {
          const inner = bytes[at] as number
          if (inner === QUOTE) break
          if (inner === BACKSLASH) at++
        }
      } else if (byte === COLON) {
        colons++
      } else if (byte >= OPEN_ARRAY) {
        if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
          if (++depth > limit) throw invalid(`nesting is deeper than ${limit}`, at)
          if (depth > deepest) deepest = depth
          closers[depth] = byte + TO_CLOSE
        } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
          if (byte !== closers[depth]) throw invalid('a bracket does not match the one that it closes', at)
          if (--depth === outerDepth) {
            this.#deepest = deepest
            this.#colons = colons
            return at + 1
          }
        }
      }
    }
    throw invalid('the input ends inside of an object, array or string', end)
  }

  /** The index behind the closing quote of the string at `start`. */
  #skipString(start: number): number {
    const bytes = this.#bytes
    const end = bytes.length
    for (let at = (start + 1) >>> 0; at < end; at++) {
      const byte = bytes[at] as number
      if (byte === QUOTE) return at + 1
      if (byte === BACKSLASH) at++
    }
    throw invalid('the input ends inside of a string', end)
  }

  #skipSpace(start: number): number {
    const bytes = this.#bytes
    let at = start >>> 0
    while (at < bytes.length && isSpace(bytes[at] as number)) at++
    return at
  }

  #expectEnd(at: number): void {
    const end = this.#skipSpace(at)
    if (end < this.#bytes.length) throw invalid('something follows the value', end)
  }

  #isCompliance(start: number, end: number): boolean {
    const length = end - start
    if (length < COMPLIANCE.length || length > MAX_COMPLIANCE_BYTES) return false
    const raw = Buffer.from(this.#bytes.buffer, this.#bytes.byteOffset + start, length).toString('latin1')
    if (length === COMPLIANCE.length) return raw === COMPLIANCE
    if (!raw.includes('\\')) return false
    try {
      return JSON.parse(`"${raw}"`) === COMPLIANCE
    } catch {
      // A lenient reader might make `_compliance` of it, and a strict one has no name here at all.
      throw invalid('a member name has an escape that JSON does not have', start)
    }
  }

  #unexpected(at: number, wanted: string): SignetError {
    return at < this.#bytes.length
      ? invalid(`there is something else than ${wanted}`, at)
      : invalid('the input ends too early', at)
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09
}

/** What numbers and the three literals are written with. */
function isScalarByte(byte: number): boolean {
  return (
    (byte >= 0x61 && byte <= 0x7a) ||
    (byte >= 0x30 && byte <= 0x39) ||
    byte === 0x2d ||
    byte === 0x2e ||
    byte === 0x2b ||
    byte === 0x45
  )
}

function invalid(what: string, offset?: number): SignetError {
  return offset === undefined
    ? new SignetError('JSON_INVALID', `not JSON: ${what}`)
    : new SignetError('JSON_INVALID', `not JSON: ${what} (byte ${offset})`, { details: { offset } })
}
