import { SignetError } from '../error/signet-error.ts'

/** Deepest nesting that has a canonical form here; a cycle ends here too. */
const MAX_DEPTH = 512
/** What may need an escape or may be a lone surrogate; everything else is copied (RFC 8785 §3.2.2.2). */
// oxlint-disable-next-line no-control-regex -- control characters are exactly what is looked for
const NEEDS_CARE = /["\\\u0000-\u001f\ud800-\udfff]/

/**
 * The canonical JSON text of a value (RFC 8785): names in order of UTF-16 code units, ECMAScript numbers, shortest escapes, no
 * white space. Takes null, booleans, finite numbers, well-formed strings, dense arrays and plain objects, nested at most 512 deep.
 * @throws SignetError CANONICAL_VALUE_INVALID for anything else: undefined, functions, symbols, bigint, NaN, Infinity, lone
 * surrogates in values or names, sparse arrays and such with names besides their indexes, other objects, cycles. Nothing is dropped
 * or converted.
 */
export function canonicalize(value: unknown): string {
  // What has its names in order already is what JSON.stringify writes, at less than half the cost.
  return isInOrder(value, 0) ? JSON.stringify(value) : write(value, 0)
}

/**
 * Whether JSON.stringify of this value is its canonical form: every value in it has one, and the names of every object come in
 * the order of UTF-16 code units. False also where there is none at all; `write` then says why.
 */
function isInOrder(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed()
    case 'number':
      return Number.isFinite(value)
    case 'boolean':
      return true
    case 'object':
      if (value === null) return true
      if (depth >= MAX_DEPTH) return false
      return Array.isArray(value) ? areInOrder(value, depth + 1) : hasNamesInOrder(value, depth + 1)
    default:
      return false
  }
}

function areInOrder(items: readonly unknown[], depth: number): boolean {
  if (!isPlainArray(items)) return false
  for (let index = 0; index < items.length; index++) if (!isInOrder(items[index], depth)) return false
  return true
}

function hasNamesInOrder(object: object, depth: number): boolean {
  const prototype: unknown = Object.getPrototypeOf(object)
  if (prototype !== Object.prototype && prototype !== null) return false
  if (Object.getOwnPropertySymbols(object).length > 0 || hasToJson(object)) return false
  const names = Object.keys(object)
  for (let index = 0; index < names.length; index++) {
    const name = names[index] as string
    if (index > 0 && (names[index - 1] as string) > name) return false
    if (!name.isWellFormed() || !isInOrder((object as Record<string, unknown>)[name], depth)) return false
  }
  return true
}

/**
 * Whether an array has no names but its indexes. Object.values makes no text of the indexes, as Object.keys does; a hole that makes
 * up for a name is found as undefined.
 */
function isPlainArray(items: readonly unknown[]): boolean {
  return (
    Object.getPrototypeOf(items) === Array.prototype &&
    !hasToJson(items) &&
    Object.values(items).length === items.length
  )
}

/** JSON.stringify would call it, wherever it comes from; a value of this name that is no function is data. */
function hasToJson(object: object): boolean {
  return typeof (object as { toJSON?: unknown }).toJSON === 'function'
}

function write(value: unknown, depth: number): string {
  switch (typeof value) {
    case 'string':
      return writeString(value)
    case 'number':
      // Number::toString of ECMAScript is what RFC 8785 §3.2.2.3 asks for; it prints -0 as 0.
      if (!Number.isFinite(value)) throw refusal(`the number ${value}`)
      return String(value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (depth >= MAX_DEPTH) throw refusal(`a value nested deeper than ${MAX_DEPTH}, or in itself`)
      return Array.isArray(value) ? writeArray(value, depth + 1) : writeObject(value, depth + 1)
    default:
      throw refusal(typeof value === 'undefined' ? 'undefined (or a hole in an array)' : `a ${typeof value}`)
  }
}

function writeString(text: string): string {
  if (!NEEDS_CARE.test(text)) return `"${text}"`
  if (!text.isWellFormed()) throw refusal('a string with a lone surrogate')
  // JSON.stringify of a well-formed string escapes exactly as RFC 8785 §3.2.2.2 does.
  return JSON.stringify(text)
}

function writeArray(items: readonly unknown[], depth: number): string {
  if (!isPlainArray(items))
    throw refusal('an array that has names besides its indexes (toJSON …), or is of a class of its own')
  if (items.length === 0) return '[]'
  let text = `[${write(items[0], depth)}`
  for (let index = 1; index < items.length; index++) text += `,${write(items[index], depth)}`
  return `${text}]`
}

function writeObject(object: object, depth: number): string {
  const prototype: unknown = Object.getPrototypeOf(object)
  if (prototype !== Object.prototype && prototype !== null)
    throw refusal('an object that is not plain (a class instance, Date, Map, Buffer …)')
  if (Object.getOwnPropertySymbols(object).length > 0) throw refusal('an object with a symbol as name')
  if (hasToJson(object)) throw refusal('an object that converts itself (toJSON)')
  const names = Object.keys(object)
  if (names.length === 0) return '{}'
  // The default order of sort() is that of UTF-16 code units (RFC 8785 §3.2.3).
  names.sort()
  let text = ''
  for (const name of names) {
    text += `${text === '' ? '{' : ','}${writeString(name)}:${write((object as Record<string, unknown>)[name], depth)}`
  }
  return `${text}}`
}

function refusal(what: string): SignetError {
  return new SignetError(
    'CANONICAL_VALUE_INVALID',
    `canonical JSON cannot hold ${what}; it holds null, booleans, finite numbers, well-formed strings, arrays and plain objects, at most ${MAX_DEPTH} deep`,
  )
}
