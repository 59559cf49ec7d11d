import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { expect, it } from 'vitest'
import { firstFault } from './schema-fault.ts'

const validator = Compile(
  Type.Object(
    {
      color: Type.Enum(['red', 'blue']),
      version: Type.Literal('v1'),
      size: Type.Optional(Type.Union([Type.Null(), Type.Integer({ minimum: 1 })])),
    },
    { additionalProperties: false },
  ),
)

it.each([
  { value: 1, want: { path: '/', allowed: 'must be object' } },
  { value: { color: 'topsecret', version: 'v1' }, want: { path: '/color', allowed: 'must be one of red, blue' } },
  { value: { color: 'red', version: 'topsecret' }, want: { path: '/version', allowed: 'must be "v1"' } },
  {
    value: { color: 'red', version: 'v1', more: 1 },
    want: { path: '/more', allowed: 'must not be there: the object is closed' },
  },
  {
    value: { color: 'red', version: 'v1', size: 'topsecret' },
    want: { path: '/size', allowed: 'must be null or must be integer' },
  },
  { value: { version: 'v1' }, want: { path: '/', allowed: 'must have required properties color' } },
])('names $want.path', ({ value, want }) => expect(firstFault(validator.Errors(value))).toEqual(want))

it('cuts names that are too long', () => {
  expect(firstFault(validator.Errors({ color: 'red', version: 'v1', ['n'.repeat(10_000)]: 1 })).path).toHaveLength(200)
})
