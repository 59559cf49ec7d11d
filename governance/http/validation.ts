import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { unstorable } from './storable.ts'

const PARTS: Readonly<Record<string, string>> = {
  body: 'the body',
  querystring: 'the query',
  params: 'the path',
  headers: 'the headers',
}

/**
 * Checks a part of a request against its schema, as it came: nothing is coerced, filled in or left out, but numbers and booleans of the
 * query, which has text only. Names the place of the first fault, never the value.
 */
export function compileValidator({ schema, httpPart }: { schema: unknown; httpPart?: string | undefined }) {
  const validator = Compile(schema as TSchema)
  const part = PARTS[httpPart ?? ''] ?? 'the request'
  const properties = (schema as { properties?: Record<string, { type?: string }> }).properties ?? {}
  return (given: unknown): { value: unknown } | { error: SignetError } => {
    const unfit = httpPart === 'body' && !isJson(given) ? null : unstorable(given)
    if (unfit !== null) return { error: new SignetError('REQUEST_INVALID', `${part} ${unfit}`) }
    const value = httpPart === 'querystring' ? withScalars(given, properties) : given
    if (validator.Check(value)) return { value }
    const [fault] = validator.Errors(value)
    const where = fault === undefined || fault.instancePath === '' ? part : `${part} at ${fault.instancePath}`
    const message = fault?.message === 'schema is false' ? 'has a member that is not known here' : fault?.message
    return { error: new SignetError('REQUEST_INVALID', `${where} ${message ?? 'is not valid'}`) }
  }
}

/** Not the bytes of a file. */
function isJson(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true
  const prototype: unknown = Object.getPrototypeOf(value)
  return Array.isArray(value) || prototype === Object.prototype || prototype === null
}

function withScalars(given: unknown, properties: Record<string, { type?: string }>): unknown {
  return Object.fromEntries(
    Object.entries(given as Record<string, unknown>).map(([name, value]) => {
      const type = properties[name]?.type
      if (typeof value !== 'string') return [name, value]
      if (type === 'integer' && /^-?\d{1,15}$/.test(value)) return [name, Number(value)]
      if (type === 'boolean' && (value === 'true' || value === 'false')) return [name, value === 'true']
      return [name, value]
    }),
  )
}
