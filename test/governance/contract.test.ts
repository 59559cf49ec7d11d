import { Compile } from 'typebox/compile'
import type { TSchema } from 'typebox'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { GovernanceStack } from '#test/support/governance.ts'
import {
  closed,
  operationsOf,
  sampleOf,
  type OpenApiDocument,
  type Operation,
  type Schema,
} from '#test/support/openapi.ts'
import { makeTenantRows, type TenantRows } from './tenant-rows.ts'
import { startWholeStack } from './whole-stack.ts'

/**
 * What the OpenAPI document says, held against what the service does: for each of its calls one request that is right in form and many that are
 * not, all made from its schemas. An answer has a status and a media type that the document names, and no member that it does not.
 */
let whole: Awaited<ReturnType<typeof startWholeStack>>
let stack: GovernanceStack
let rows: TenantRows
let operations: readonly Operation[]
beforeAll(async () => {
  whole = await startWholeStack()
  stack = whole.stack
  rows = await makeTenantRows(stack, 'acme')
  operations = operationsOf((await stack.call('acme', 'GET', '/openapi.json')).body as OpenApiDocument)
})
afterAll(() => whole?.stop())

type Parts = {
  readonly path?: Record<string, string>
  readonly query?: Record<string, string>
  readonly body?: unknown
}
/** What is sent, and how it may be answered. */
type Attempt = { readonly what: string; readonly parts: Parts; readonly want: readonly number[] }

/** Nobody may be asked for these with the token that all others are asked with: it would be the last call. */
const ENDS_THE_TOKEN = new Set(['DELETE /api/v1/session'])

function rightParts({ path, parameters, body }: Operation): Parts {
  const query = parameters
    .filter((one) => one.in === 'query' && one.required === true)
    .map(({ name, schema }) => [name, rows.values[name] ?? String(sampleOf(schema))])
  return {
    path: { ...rows.parametersOf(path) },
    query: Object.fromEntries(query) as Record<string, string>,
    ...(body === null ? {} : { body: rows.filled(sampleOf(body), body) }),
  }
}

function urlOf({ path }: Operation, { path: given = {}, query = {} }: Parts): string {
  const filled = path.replaceAll(/\{(\w+)\}/g, (_all, name: string) => encodeURIComponent(given[name] ?? ''))
  const search = new URLSearchParams(query).toString()
  return search === '' ? filled : `${filled}?${search}`
}

async function ask(
  operation: Operation,
  parts: Parts,
  token: string | null = stack.token('acme'),
): Promise<{ status: number; fault: string | null; body: string }> {
  const [file] = operation.files
  const hasBody = parts.body !== undefined || file !== undefined
  const response = await fetch(`${stack.process().url}${urlOf(operation, parts)}`, {
    method: operation.method,
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(hasBody ? { 'content-type': file ?? 'application/json' } : {}),
    },
    ...(hasBody ? { body: file === undefined ? JSON.stringify(parts.body) : '%PDF-1.7\n%%EOF\n' } : {}),
  })
  const body = await response.text()
  return { status: response.status, fault: faultOf(operation, response, body), body }
}

/** How many were done. */
let done = 0
const validators = new Map<Schema, ReturnType<typeof Compile>>()
/** In what an answer is not as the document has it. */
function faultOf(operation: Operation, response: Response, text: string): string | null {
  if (response.status >= 500) return `answers ${response.status}`
  if (response.status < 300) done += 1
  const described = operation.responses.get(String(response.status))
  const content = described ?? operation.responses.get('default')
  if (described === undefined && response.status < 400) return `answers ${response.status}, which it does not name`
  if (content === undefined || content.size === 0) return text === '' ? null : 'answers with a body where there is none'
  const type = response.headers.get('content-type') ?? ''
  const schema = content.get(type)
  if (schema === undefined) return `answers ${response.status} as ${type}, not as ${[...content.keys()].join(', ')}`
  if (!/json/.test(type)) return null
  const validator = validators.get(schema) ?? Compile(closed(schema) as TSchema)
  validators.set(schema, validator)
  const [first] = validator.Errors(JSON.parse(text))
  return first === undefined ? null : `answers ${response.status} with ${first.instancePath}: ${first.message}`
}

/** All attempts of all operations; the faults, each with the call and the attempt. */
async function faultsOf(attemptsOf: (operation: Operation) => readonly Attempt[]): Promise<string[]> {
  const faults: string[] = []
  let asked = 0
  for (const operation of operations) {
    for (const { what, parts, want } of attemptsOf(operation)) {
      const { status, fault, body } = await ask(operation, parts)
      asked += 1
      if (fault !== null) faults.push(`${operation.name}, ${what}: ${fault}`)
      else if (!want.includes(status))
        faults.push(`${operation.name}, ${what}: answers ${status}, not ${want.join(', ')} ${body.slice(0, 300)}`)
    }
  }
  expect(asked).toBeGreaterThan(0)
  return faults
}

const text = (length: number): string => 'x'.repeat(length)
/** A value of a type that the schema does not have. */
function ofAnotherType(schema: Schema): unknown {
  const types = new Set([schema, ...(schema.anyOf ?? [])].map(({ type }) => type))
  if (schema.enum !== undefined || schema.const !== undefined) return 'none of these'
  if (![...types].some((type) => type !== undefined)) return undefined
  return types.has('boolean') ? { not: 'it' } : true
}

// Some hundred requests each.
describe('each call of the OpenAPI document', { timeout: 600_000 }, () => {
  it('answers a request that is right in form as the document says', async () => {
    // It is done, or what it names is not there, or may not be: form is not all that counts.
    const want = [200, 201, 202, 204, 400, 401, 404, 409]
    const before = done
    const faults = await faultsOf((operation) =>
      ENDS_THE_TOKEN.has(operation.name) ? [] : [{ what: 'the smallest', parts: rightParts(operation), want }],
    )
    expect(faults).toEqual([])
    expect(done - before).toBeGreaterThan(70)
  })
  it('refuses a body with a member that is missing, or of another type, or that nobody knows', async () => {
    const faults = await faultsOf((operation) => {
      const { body } = operation
      const right = rightParts(operation)
      const attempt = (what: string, changed: unknown): Attempt => ({
        what,
        parts: { ...right, body: changed },
        want: [400],
      })
      if (body === null) return []
      const value = right.body as Record<string, unknown>
      const attempts = [attempt('no object', []), attempt('a text', 'x'), attempt('null', null)]
      if (body.additionalProperties === false) attempts.push(attempt('one more', { ...value, nobodyKnowsThis: 1 }))
      for (const name of body.required ?? []) {
        const { [name]: _left, ...rest } = value
        attempts.push(attempt(`without ${name}`, rest))
      }
      for (const [name, schema] of Object.entries(body.properties ?? {})) {
        const other = ofAnotherType(schema)
        if (other !== undefined) attempts.push(attempt(`${name} of another type`, { ...value, [name]: other }))
        if (schema.type === 'string' || schema.anyOf?.some(({ type }) => type === 'string') === true)
          attempts.push(attempt(`${name} without end`, { ...value, [name]: text(100_000) }))
        if (schema.type === 'array')
          attempts.push(attempt(`${name} without end`, { ...value, [name]: Array<string>(20_000).fill('x') }))
      }
      return attempts
    })
    expect(faults).toEqual([])
  })
  it('refuses parameters that are none', async () => {
    const faults = await faultsOf((operation) => {
      const right = rightParts(operation)
      const attempts: Attempt[] = []
      for (const { name, in: where, schema, required } of operation.parameters) {
        const attempt = (what: string, value: string): void => {
          attempts.push({
            what: `${name} ${what}`,
            parts: { ...right, [where]: { ...right[where], [name]: value } },
            want: [400],
          })
        }
        attempt('with U+0000', '\0')
        attempt('without end', text(5_000))
        if (schema.pattern !== undefined && !new RegExp(schema.pattern).test('none of these\n'))
          attempt('of another form', 'none of these\n')
        if (schema.enum !== undefined) attempt('that is none', 'none of these')
        if (schema.type === 'integer')
          for (const value of ['x', '1.5', '-1', '99999999999999999999']) attempt(value, value)
        if (schema.type === 'boolean') attempt('that is none', 'maybe')
        if (where === 'query' && required === true) {
          const { [name]: _left, ...rest } = right.query ?? {}
          attempts.push({ what: `without ${name}`, parts: { ...right, query: rest }, want: [400] })
        }
        if (name === 'cursor' && schema.pattern === undefined)
          for (const cursor of ['x', '%', 'djE6', Buffer.from('v1:1:x').toString('base64url')]) attempt(cursor, cursor)
      }
      if (operation.parameters.some((one) => one.in === 'query'))
        attempts.push({
          what: 'one more',
          parts: { ...right, query: { ...right.query, nobodyKnowsThis: '1' } },
          want: [400],
        })
      return attempts
    })
    expect(faults).toEqual([])
  })
  it('lets in nobody without a token, unless it says so', async () => {
    const faults: string[] = []
    for (const operation of operations) {
      const { status, fault } = await ask(operation, rightParts(operation), null)
      if (fault !== null || (status !== 401) !== operation.isPublic)
        if (!(operation.isPublic && status === 401)) faults.push(`${operation.name}: ${fault ?? `answers ${status}`}`)
    }
    expect(faults).toEqual([])
    expect(operations.length).toBeGreaterThan(90)
  })
})
