import { SignetError } from '../error/signet-error.ts'
import { DEFAULT_MAX_DEPTH, scanStructure } from './scan.ts'
import type { JsonValue } from './value.ts'

/**
 * The value of strict JSON bytes: RFC 8259 in UTF-8 without BOM, no name twice in any object (escapes decoded), nested at most
 * `maxDepth` deep (1 to 512, 64 unless given), nothing behind the value but white space. `__proto__` is a name like any other.
 * @throws SignetError JSON_INVALID, with an offset where there is one, and never with a byte of the input
 */
export function parseStrict(bytes: Uint8Array, options: { readonly maxDepth?: number } = {}): JsonValue {
  const { colons } = scanStructure(bytes, { maxDepth: options.maxDepth ?? DEFAULT_MAX_DEPTH })
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch (error) {
    // The error of V8 quotes the input: only its position may go on.
    const position = /position (\d+)/.exec(String(error))?.[1]
    throw new SignetError(
      'JSON_INVALID',
      `not JSON: the grammar of RFC 8259 is broken${position === undefined ? '' : ` (character ${position})`}`,
    )
  }
  // In valid JSON each member has one colon outside of strings, and JSON.parse keeps the last of equal names.
  if (countMembers(value) !== colons)
    throw new SignetError('JSON_INVALID', 'not strict JSON: an object has a name twice')
  return value
}

/** Members of all objects in a value whose depth is bounded. */
function countMembers(value: JsonValue): number {
  if (typeof value !== 'object' || value === null) return 0
  let count = 0
  if (Array.isArray(value)) {
    for (const item of value) if (typeof item === 'object' && item !== null) count += countMembers(item)
    return count
  }
  const names = Object.keys(value)
  for (const name of names) {
    const member = value[name]
    if (typeof member === 'object' && member !== null) count += countMembers(member)
  }
  return count + names.length
}
