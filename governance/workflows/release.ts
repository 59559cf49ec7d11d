import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { Time } from '../http/schemas.ts'
import type { Release } from '../store/workflows.ts'
import { parseTime } from './time.ts'

const MAX_RELEASE_DAYS = 366
const DAY_MS = 86_400_000

export const ReleaseShape = Type.Object(
  {
    resource: Type.String({
      pattern: '^/[^\\x00-\\x20\\x7f]*$',
      maxLength: 2_048,
      description: 'Path template of the route: /reports/{name}.',
    }),
    version: Type.Optional(
      Type.String({
        pattern: '^[\\x21-\\x7e]+$',
        maxLength: 512,
        description: 'As the application declares it (Signet-Artifact-Version).',
      }),
    ),
    digest: Type.Optional(Type.String({ pattern: '^sha256:[0-9a-f]{64}$', description: 'Of the content.' })),
    channel: Type.Enum(['internal', 'external']),
    expires_at: Time,
  },
  {
    additionalProperties: false,
    description: 'What may leave: this version, or exactly this content, by this channel, until then.',
  },
)
/** PostgreSQL knows no offset beyond 15:59, which RFC 3339 has: one such text in a row would end every look at the tenant's releases. */
export function normalized(release: Release): Release {
  return { ...release, expires_at: parseTime(release.expires_at, '/release/expires_at').toISOString() }
}

/** @throws SignetError REQUEST_INVALID: it names neither version nor digest, has ended, or would never end */
export function requireRelease({ version, digest, expires_at }: Release, nowMs: number): void {
  // An approval of whatever a route may ever answer would approve what nobody has seen.
  if (version === undefined && digest === undefined)
    throw new SignetError(
      'REQUEST_INVALID',
      'the body at /release names neither version nor digest of what it approves',
    )
  const expiresMs = Date.parse(expires_at)
  if (!(expiresMs > nowMs))
    throw new SignetError('REQUEST_INVALID', 'the release at /release/expires_at has ended already')
  if (expiresMs > nowMs + MAX_RELEASE_DAYS * DAY_MS)
    throw new SignetError(
      'REQUEST_INVALID',
      `the release at /release/expires_at ends in more than ${MAX_RELEASE_DAYS} days`,
    )
}
