/** What this reads of an error of a TypeBox validator (`validator.Errors(value)`). */
type SchemaError = {
  readonly keyword: string
  readonly instancePath: string
  readonly params: object
  readonly message: string
}

/** Names come from the input; past this they are cut. */
const MAX_PATH_LENGTH = 200

/** The first place at fault (a JSON Pointer, `/` for the whole) and what is allowed there, in words. Never shows a value. */
export function firstFault(errors: readonly SchemaError[]): { path: string; allowed: string } {
  const first = errors[0]
  if (first === undefined) return { path: '/', allowed: 'must be of the schema' }
  const alternatives = errors
    .filter(({ instancePath, keyword }) => instancePath === first.instancePath && keyword !== 'anyOf')
    .map((error) => describe(error))
  return {
    path: (first.instancePath || '/').slice(0, MAX_PATH_LENGTH),
    allowed: [...new Set(alternatives)].join(' or '),
  }
}

function describe({ keyword, params, message }: SchemaError): string {
  if ('allowedValues' in params && Array.isArray(params.allowedValues))
    return `must be one of ${params.allowedValues.join(', ')}`
  if ('allowedValue' in params) return `must be ${JSON.stringify(params.allowedValue)}`
  if (keyword === 'boolean') return 'must not be there: the object is closed'
  return message
}
