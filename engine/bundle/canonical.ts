import { createHash } from 'node:crypto'
import type { JsonValue } from '#core/json/value.ts'

/**
 * The JSON text over which OPA hashes `data.json` and `.manifest` of a signed bundle (`v1/bundle/hash.go`): keys in the order
 * of their UTF-8 bytes, no white space, strings as Go's encoder writes them without HTML escapes. It is RFC 8785 but for
 * the key order beyond the basic plane and U+2028 and U+2029. Throws Error for text that is not well-formed.
 */
export function canonicalText(value: JsonValue): string {
  if (Array.isArray(value)) return `[${value.map(canonicalText).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const keys = Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    return `{${keys.map((key) => `${quote(key)}:${canonicalText(value[key]!)}`).join(',')}}`
  }
  if (typeof value === 'string') return quote(value)
  if (typeof value === 'number' && !Number.isFinite(value)) throw new Error('a number is not finite')
  return JSON.stringify(value)
}

function quote(text: string): string {
  if (!text.isWellFormed()) throw new Error('a string has a lone surrogate')
  return JSON.stringify(text).replace(/[\u2028\u2029]/g, (c) => (c === '\u2028' ? '\\u2028' : '\\u2029'))
}

/** SHA-256 in lower-case hex. */
export function sha256Hex(content: Uint8Array | string): string {
  return createHash('sha256').update(content).digest('hex')
}
