import Type from 'typebox'
import { Channel, Digest } from '../stamp/schema.ts'

/** RFC 3339, UTC. */
export const UntilTime = Type.String({
  pattern: '^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}(\\.\\d{1,3})?Z$',
  maxLength: 24,
})
const Name = Type.String({ minLength: 1, maxLength: 512 })

/** What somebody agreed to let out (`docs/reference/policy-data.md`): a resource template with a version or a digest, for a channel, until a time. */
export const Approval = Type.Object(
  {
    id: Name,
    resource: Type.String({ pattern: '^/', maxLength: 2048 }),
    version: Type.Optional(Name),
    digest: Type.Optional(Digest),
    channel: Channel,
    approved_by: Name,
    expires_at: UntilTime,
  },
  {
    additionalProperties: false,
    'x-kubernetes-validations': [
      {
        rule: 'has(self.version) || has(self.digest)',
        message: 'an approval names a version or a digest of what it approves',
      },
    ],
  },
)
export type Approval = Type.Static<typeof Approval>

/** What the form alone does not say of an approval; null where all is well. */
export function approvalFault({
  version,
  digest,
  expires_at: expiresAt,
}: Approval): { at: string; message: string } | null {
  // An approval of whatever a route may ever answer would approve what nobody has seen.
  if (version === undefined && digest === undefined)
    return { at: '', message: 'an approval names a version or a digest of what it approves' }
  return Number.isNaN(Date.parse(expiresAt)) ? { at: '/expires_at', message: 'not a date' } : null
}
