import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Revocations } from '../revocation/revocations.ts'
import type { Revocation, RevocationKind } from '../revocation/store.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

const PATH = '/api/audit/tokens/revocations'
const MAX_BODY_BYTES = 16 * 1024
// A text column holds no U+0000.
const text = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[^\\u0000]*$' })
const reason = text(1_000)
const closed = { additionalProperties: false } as const
const RevocationBody = Compile(
  Type.Union([
    Type.Object({ token_sha256: Type.String({ pattern: '^[0-9a-f]{64}$' }), reason }, closed),
    Type.Object({ producer_id: text(512), reason }, closed),
    Type.Object(
      {
        service_account: Type.String({ pattern: '^[a-z0-9][-a-z0-9]{0,62}/[a-z0-9][-.a-z0-9]{0,252}$' }),
        reason,
      },
      closed,
    ),
  ]),
)
const LiftQuery = Compile(Type.Object({ reason }, closed))
const UUID_PATTERN = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
const ListQuery = Compile(
  Type.Object(
    {
      state: Type.Optional(Type.Union([Type.Literal('revoked'), Type.Literal('all')])),
      limit: Type.Optional(Type.String({ pattern: '^([1-9]\\d{0,2}|1000)$' })),
      cursor: Type.Optional(Type.String({ pattern: UUID_PATTERN })),
    },
    closed,
  ),
)
const DEFAULT_LIMIT = 100

/** Who is shut out of a tenant, at once and on every replica: `docs/identity.md`. */
export function revocationRoutes(
  app: FastifyInstance,
  { authenticator, revocations }: { readonly authenticator: Authenticator; readonly revocations: Revocations },
): void {
  const onRequest = requireIdentity(authenticator, 'audit:admin')

  app.post(PATH, { bodyLimit: MAX_BODY_BYTES, onRequest }, async (request, reply) => {
    refuseEncoding(request)
    const body = parseStrict(bodyOf(request))
    if (!RevocationBody.Check(body)) {
      const [fault] = RevocationBody.Errors(body)
      throw fault === undefined || fault.keyword === 'anyOf'
        ? new SignetError('REQUEST_INVALID', `the body is a reason and one of ${NAMED}`)
        : invalidBody(fault)
    }
    const { kind, target } = targetOf(body)
    const order = { by: callerOf(request), reason: body.reason }
    const { revocation, made } = await revocations.revoke({ tenant: tenantOf(request), kind, target }, order)
    return reply
      .status(made ? 201 : 200)
      .header('location', `${PATH}/${revocation.id}`)
      .header('cache-control', 'no-store')
      .send(present(revocation))
  })

  app.get(PATH, { onRequest }, async (request, reply) => {
    const { query } = request
    if (!ListQuery.Check(query))
      throw new SignetError(
        'REQUEST_INVALID',
        'allowed: state (revoked, all), limit (1 to 1000), cursor (next_cursor of the page before)',
      )
    const limit = Number(query.limit ?? DEFAULT_LIMIT)
    const page = { before: query.cursor ?? null, standing: query.state !== 'all', limit: limit + 1 }
    const found = await revocations.list(tenantOf(request), page)
    const items = found.slice(0, limit)
    const next = found.length > limit ? (items.at(-1)?.id ?? null) : null
    return reply.header('cache-control', 'no-store').send({ items: items.map(present), next_cursor: next })
  })

  app.get<{ Params: { id: string } }>(`${PATH}/:id`, { onRequest }, async (request, reply) =>
    reply
      .header('cache-control', 'no-store')
      .send(present(await revocations.find(tenantOf(request), request.params.id))),
  )

  app.delete<{ Params: { id: string } }>(`${PATH}/:id`, { onRequest }, async (request, reply) => {
    const { query } = request
    if (!LiftQuery.Check(query))
      throw new SignetError('REQUEST_INVALID', `say why: DELETE ${PATH}/ID?reason=… (1 to 1000 characters)`)
    const order = { by: callerOf(request), reason: query.reason }
    const lifted = await revocations.lift(tenantOf(request), request.params.id, order)
    return reply.header('cache-control', 'no-store').send(present(lifted))
  })
}

const NAMED = 'token_sha256 (64 lowercase hexadecimal digits), producer_id, service_account (NAMESPACE/NAME)'

function targetOf(body: Record<string, string>): { kind: RevocationKind; target: string } {
  const { token_sha256: token, producer_id: producer, service_account: account = '' } = body
  if (token !== undefined) return { kind: 'token', target: token }
  return producer === undefined ? { kind: 'service_account', target: account } : { kind: 'producer', target: producer }
}

const NAME_OF = { token: 'token_sha256', producer: 'producer_id', service_account: 'service_account' } as const

function present(revocation: Revocation): Record<string, unknown> {
  const { id, kind, target, reason: why, revokedBy, revokedAt, recordedAt, lifted } = revocation
  return {
    id,
    [NAME_OF[kind]]: target,
    state: lifted === null ? 'revoked' : 'lifted',
    reason: why,
    revoked_by: revokedBy,
    revoked_at: revokedAt.toISOString(),
    recorded_at: recordedAt?.toISOString() ?? null,
    lifted: lifted === null ? null : { by: lifted.by, reason: lifted.reason, at: lifted.at.toISOString() },
  }
}
