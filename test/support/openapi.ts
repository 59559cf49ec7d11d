import fc from 'fast-check'

/** A schema as the document has it: JSON Schema 2020-12, as far as ours use it. */
export type Schema = {
  readonly type?: string
  readonly enum?: readonly unknown[]
  readonly const?: unknown
  readonly anyOf?: readonly Schema[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly items?: Schema
  readonly minItems?: number
  readonly minProperties?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minimum?: number
  readonly pattern?: string
  readonly format?: string
}
export type Parameter = {
  readonly name: string
  readonly in: 'path' | 'query'
  readonly required?: boolean
  readonly schema: Schema
}
export type Operation = {
  /** `POST /rules` */
  readonly name: string
  readonly method: string
  readonly path: string
  readonly isPublic: boolean
  readonly parameters: readonly Parameter[]
  /** Of a body in JSON; null where there is none, or it is a file. */
  readonly body: Schema | null
  /** Media types of a body that is a file. */
  readonly files: readonly string[]
  /** By status, `default` as well: media type to schema; an empty one where nothing is said of the body. */
  readonly responses: ReadonlyMap<string, ReadonlyMap<string, Schema>>
}
type Content = Readonly<Record<string, { schema?: Schema }>>
export type OpenApiDocument = {
  readonly paths: Readonly<
    Record<
      string,
      Record<
        string,
        {
          security?: readonly unknown[]
          parameters?: readonly Parameter[]
          requestBody?: { content: Content }
          responses: Record<string, { content?: Content }>
        }
      >
    >
  >
}

export function operationsOf(document: OpenApiDocument): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([verb, { security, parameters = [], requestBody, responses }]) => {
      const method = verb.toUpperCase()
      const content = requestBody?.content ?? {}
      // YAML is another way to write the same values.
      const files = Object.keys(content).filter((type) => !['application/json', 'application/yaml'].includes(type))
      return {
        name: `${method} ${path}`,
        method,
        path,
        isPublic: security?.length === 0,
        parameters,
        body: files.length > 0 ? null : (content['application/json']?.schema ?? null),
        files,
        responses: new Map(
          Object.entries(responses).map(([status, { content: answer = {} }]) => [
            status,
            new Map(Object.entries(answer).map(([type, { schema = {} }]) => [type, schema])),
          ]),
        ),
      }
    }),
  )
}

/** The smallest value that fits a schema: members that need not be there are not. The same each time. */
export function sampleOf(schema: Schema): unknown {
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return schema.enum[0]
  if (schema.anyOf?.[0] !== undefined) return sampleOf(schema.anyOf[0])
  switch (schema.type) {
    case 'object': {
      const properties = Object.entries(schema.properties ?? {})
      const required = new Set(schema.required)
      for (const [name] of properties) if (required.size < (schema.minProperties ?? 0)) required.add(name)
      return Object.fromEntries(
        properties.filter(([name]) => required.has(name)).map(([name, inner]) => [name, sampleOf(inner)]),
      )
    }
    case 'array':
      return Array.from({ length: schema.minItems ?? 0 }, () => sampleOf(schema.items ?? {}))
    case 'integer':
    case 'number':
      return schema.minimum ?? 0
    case 'boolean':
      return false
    case 'null':
      return null
    case 'string':
      return textOf(schema)
    default:
      return {}
  }
}

function textOf({ pattern, format, minLength = 0, maxLength = Infinity }: Schema): string {
  if (format === 'date-time') return '2099-01-01T00:00:00.000Z'
  if (pattern === undefined) return 'x'.repeat(Math.max(1, minLength))
  const fits = fc
    .stringMatching(new RegExp(pattern))
    .filter((text) => text.length >= minLength && text.length <= maxLength && /^[\x20-\x7e]*$/.test(text))
  const [text] = fc.sample(fits, { numRuns: 1, seed: 1 })
  return text ?? ''
}

/** The same, where what is not named is not allowed: an answer that holds more than the document says is one that it does not describe. */
export function closed(schema: Schema): Schema {
  const properties = schema.properties && mapValues(schema.properties, closed)
  return {
    ...schema,
    ...(schema.anyOf === undefined ? {} : { anyOf: schema.anyOf.map(closed) }),
    ...(schema.items === undefined ? {} : { items: closed(schema.items) }),
    ...(properties === undefined ? {} : { properties, additionalProperties: schema.additionalProperties ?? false }),
  }
}

function mapValues<T, R>(record: Readonly<Record<string, T>>, change: (value: T) => R): Record<string, R> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, change(value)]))
}
