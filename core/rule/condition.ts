import Type from 'typebox'

export const OPERATORS = [
  'equal',
  'notEqual',
  'in',
  'notIn',
  'contains',
  'notContains',
  'lessThan',
  'lessThanInclusive',
  'greaterThan',
  'greaterThanInclusive',
  'exists',
  'matches',
] as const
export type Operator = (typeof OPERATORS)[number]

/** Levels of `all` and `any`, the outermost included. */
export const MAX_CONDITION_DEPTH = 4
export const MAX_CONDITIONS_PER_GROUP = 32
/** Leaves of one rule. */
export const MAX_CONDITIONS = 256

export type Scalar = string | number | boolean
export type ConditionValue = Scalar | Scalar[]
/** Exactly one of `all`, `any` and `fact`; `fact` comes with `operator` and `value`. */
export interface Condition {
  all?: Condition[]
  any?: Condition[]
  fact?: string
  operator?: Operator
  value?: ConditionValue
}

const Scalar = Type.Union([Type.String({ maxLength: 1024 }), Type.Number(), Type.Boolean()])
const Value = Type.Union([...Scalar.anyOf, Type.Array(Scalar, { maxItems: 256 })], {
  description: 'Text, number, true or false; a list of them for in and notIn.',
})

const ONE_OF_THREE = {
  rule: '(has(self.all) ? 1 : 0) + (has(self.any) ? 1 : 0) + (has(self.fact) ? 1 : 0) == 1',
  message: 'a condition is exactly one of all, any and fact',
}
const WHOLE = {
  rule: 'has(self.fact) == has(self.operator)',
  message: 'fact and operator come together',
}

const fact = Type.String({
  minLength: 1,
  maxLength: 512,
  description: 'Path of the fact below input: response.facts.email.count.',
})
const operator = Type.Enum(OPERATORS, { description: 'How fact and value are compared.' })

function group(items: Type.TSchema, word: string) {
  return Type.Optional(
    Type.Array(items, {
      minItems: 1,
      maxItems: MAX_CONDITIONS_PER_GROUP,
      'x-kubernetes-list-type': 'atomic',
      description: `Holds where ${word} of these does.`,
    }),
  )
}

/** Unrolled: a structural schema has no recursion (docs/adr/0021). */
function level(depth: number): Type.TSchema {
  if (depth === 0) return Type.Object({ fact, operator, value: Value }, { additionalProperties: false })
  const items = level(depth - 1)
  const optional = Type.Partial(Type.Object({ fact, operator, value: Value })).properties
  return Type.Object(
    { all: group(items, 'each'), any: group(items, 'at least one'), ...optional },
    {
      additionalProperties: false,
      anyOf: [{ required: ['all'] }, { required: ['any'] }, { required: ['value'] }],
      'x-kubernetes-validations': [ONE_OF_THREE, WHOLE],
    },
  )
}

/** What must hold. */
export const Conditions = Type.Unsafe<Condition>({
  ...level(MAX_CONDITION_DEPTH),
  description:
    'What must hold: all or any of a list of conditions, nested at most four deep, or one condition. When it does not, the rule has one violation.',
})
