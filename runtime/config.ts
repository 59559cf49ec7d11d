import type { Static, TObject, TProperties, TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'

type Scalar = string | number | boolean

/** JSON Schema keywords that matter here, and ours: `secret` (never shown), `allowed` (the allowed form in plain words). */
type VariableSchema = {
  type?: string
  enum?: readonly Scalar[]
  default?: Scalar
  description?: string
  minimum?: number
  maximum?: number
  minLength?: number
  maxLength?: number
  pattern?: string
  secret?: boolean
  allowed?: string
}

/** One variable as `docs/reference/config.md` shows it. `defaultValue` is null where there is none. */
export type ConfigVariable = {
  name: string
  required: boolean
  secret: boolean
  allowed: string
  defaultValue: string | null
  description: string
}

const SHOWN_VALUE_CHARS = 100

/**
 * Reads a process's configuration. `schema` is a flat TypeBox object keyed by variable name: string, integer, number, boolean or
 * enum, optional or with a `default`; `secret: true` keeps the value out of messages, `allowed` says the form in plain words.
 * An empty value counts as not set. Durations and sizes are integers with the unit in the name (`…_MS`, `…_BYTES`).
 * @throws SignetError CONFIG_INVALID with every problem found, a line each: variable, value, what is allowed.
 */
export function readConfig<P extends TProperties>(
  schema: TObject<P>,
  env: Readonly<Record<string, string | undefined>>,
): Static<TObject<P>> {
  const values: Record<string, Scalar> = {}
  const problems: string[] = []
  for (const [name, property] of Object.entries(schema.properties as Record<string, TSchema>)) {
    const variable = property as VariableSchema
    const text = env[name]
    if (text === undefined || text === '') {
      if (variable.default !== undefined) values[name] = variable.default
      else if (isRequired(schema, name)) problems.push(`${name} is not set; it must be ${describeAllowed(variable)}`)
      continue
    }
    const value = parseScalar(variable, text)
    if (value === undefined || !Compile(property).Check(value)) {
      problems.push(`${name} is ${shown(variable, text)}; it must be ${describeAllowed(variable)}`)
      continue
    }
    values[name] = value
  }
  if (problems.length > 0) {
    throw new SignetError('CONFIG_INVALID', problems.join('\n'), { details: { problems } })
  }
  return values as Static<TObject<P>>
}

/**
 * The `SIGNET_…` variables of `env` that no schema knows: usually a typing error, so the caller warns. Variables that Kubernetes
 * makes for a Service of that name (`SIGNET_LEDGER_SERVICE_HOST`, `SIGNET_LEDGER_PORT=tcp://…`) are not meant for us.
 */
export function unknownVariables(
  schemas: readonly TObject[],
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const known = new Set(schemas.flatMap((schema) => Object.keys(schema.properties)))
  return Object.entries(env)
    .filter(([name, value]) => name.startsWith('SIGNET_') && !known.has(name) && !isServiceLink(name, value ?? ''))
    .map(([name]) => name)
    .sort()
}

/** What a schema asks for, in its order; the reference page is compared with this. */
export function describeConfig(schema: TObject): ConfigVariable[] {
  return Object.entries(schema.properties as Record<string, TSchema>).map(([name, property]) => {
    const variable = property as VariableSchema
    return {
      name,
      required: variable.default === undefined && isRequired(schema, name),
      secret: variable.secret === true,
      allowed: describeAllowed(variable),
      defaultValue: variable.default === undefined ? null : String(variable.default),
      description: variable.description ?? '',
    }
  })
}

function isRequired(schema: TObject, name: string): boolean {
  return (schema.required as readonly string[] | undefined)?.includes(name) === true
}

function isServiceLink(name: string, value: string): boolean {
  return (
    /_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$/.test(name) ||
    /_PORT_\d+_(TCP|UDP|SCTP)(_[A-Z]+)?$/.test(name) ||
    (name.endsWith('_PORT') && /^(tcp|udp|sctp):\/\//.test(value))
  )
}

function parseScalar(variable: VariableSchema, text: string): Scalar | undefined {
  if (variable.enum !== undefined) return variable.enum.find((member) => String(member) === text)
  switch (variable.type) {
    case 'integer': {
      const value = /^-?\d{1,16}$/.test(text) ? Number(text) : Number.NaN
      return Number.isSafeInteger(value) ? value : undefined
    }
    case 'number': {
      const value = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(text) ? Number(text) : Number.NaN
      return Number.isFinite(value) ? value : undefined
    }
    case 'boolean':
      return text === 'true' || (text === 'false' ? false : undefined)
    case 'string':
      return text
    default:
      throw new TypeError(`configuration schema: type ${String(variable.type)} is not one that a variable can have`)
  }
}

function shown(variable: VariableSchema, text: string): string {
  if (variable.secret === true) return 'not valid (a secret, not shown)'
  const cut = text.length > SHOWN_VALUE_CHARS ? `${text.slice(0, SHOWN_VALUE_CHARS)}…` : text
  return JSON.stringify(cut)
}

function describeAllowed(variable: VariableSchema): string {
  if (variable.allowed !== undefined) return variable.allowed
  if (variable.enum !== undefined) return `one of ${variable.enum.map(String).join(', ')}`
  if (variable.type === 'boolean') return 'true or false'
  if (variable.type === 'integer' || variable.type === 'number') {
    const noun = variable.type === 'integer' ? 'an integer' : 'a number'
    const { minimum, maximum } = variable
    if (minimum !== undefined && maximum !== undefined) return `${noun} from ${minimum} to ${maximum}`
    if (minimum !== undefined) return `${noun}, ${minimum} or more`
    if (maximum !== undefined) return `${noun}, ${maximum} or less`
    return noun
  }
  if (variable.pattern !== undefined) return `text that matches ${variable.pattern}`
  if (variable.maxLength !== undefined) return `text of ${variable.minLength ?? 0} to ${variable.maxLength} characters`
  return 'text'
}
