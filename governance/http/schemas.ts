import Type, { type TSchema } from 'typebox'
import { MAX_PASSWORD_CHARS, MIN_PASSWORD_CHARS } from '../access/password.ts'
import { DEFAULT_LIMIT, MAX_LIMIT } from '../store/paging.ts'

export const Id = Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' })
export const ById = Type.Object({ id: Id })
export const Time = Type.String({ format: 'date-time' })
/** A line of text: no control characters, nothing around it. */
export const Line = (maxLength: number) =>
  Type.String({
    minLength: 1,
    maxLength,
    pattern: '^[^\\x00-\\x1f\\x7f\\s]([^\\x00-\\x1f\\x7f]*[^\\x00-\\x1f\\x7f\\s])?$',
  })
export const Text = (maxLength: number) => Type.String({ maxLength, pattern: '^[^\\x00]*$' })
export const PrincipalKind = Type.Enum(['user', 'service_account'])

export const Paging = {
  cursor: Type.Optional(Type.String({ maxLength: 200, description: '`next_cursor` of the page before.' })),
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_LIMIT, default: DEFAULT_LIMIT })),
}
export const PageQuery = Type.Object(Paging, { additionalProperties: false })

export const PageOf = <T extends TSchema>(item: T) =>
  Type.Object({ items: Type.Array(item), next_cursor: Type.Union([Type.String(), Type.Null()]) })
export const ListOf = <T extends TSchema>(item: T) => Type.Object({ items: Type.Array(item) })

/** RFC 9457. */
export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    code: Type.String(),
    request_id: Type.Optional(Type.String()),
    trace_id: Type.Optional(Type.String()),
  },
  { description: 'What was wrong, where, and what is allowed.' },
)

/** NIST SP 800-63B-4: the length counts. */
export const Password = Type.String({ minLength: MIN_PASSWORD_CHARS, maxLength: MAX_PASSWORD_CHARS })
export const Version = Type.Integer({
  minimum: 1,
  description: 'The version that is changed; another one is a conflict.',
})
