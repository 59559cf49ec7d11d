import Type from 'typebox'
import { UntilTime } from './approval.ts'

export const BLOCK_KINDS = ['agent', 'route'] as const

/** What gets no answers until a time (`docs/reference/policy-data.md`): an agent, as callers or workloads are called, or a route. */
export const Block = Type.Object(
  {
    id: Type.String({ minLength: 1, maxLength: 512 }),
    kind: Type.Enum(BLOCK_KINDS),
    /** The agent's name; the template of a route. */
    value: Type.String({ minLength: 1, maxLength: 2048 }),
    /** Of a route; any where it is left out. */
    method: Type.Optional(Type.String({ pattern: '^[A-Z]+$', maxLength: 32 })),
    expires_at: UntilTime,
  },
  {
    additionalProperties: false,
    'x-kubernetes-validations': [
      { rule: "self.kind != 'route' || self.value.startsWith('/')", message: 'a route begins with /' },
    ],
  },
)
export type Block = Type.Static<typeof Block>

/** What the form alone does not say of a block; null where all is well. */
export function blockFault({ kind, value, expires_at: expiresAt }: Block): { at: string; message: string } | null {
  if (kind === 'route' && !value.startsWith('/')) return { at: '/value', message: 'a route begins with /' }
  return Number.isNaN(Date.parse(expiresAt)) ? { at: '/expires_at', message: 'not a date' } : null
}
