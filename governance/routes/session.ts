import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { withTenant } from '#runtime/postgres/transaction.ts'
import { MAX_PASSWORD_CHARS } from '../access/password.ts'
import { Permission } from '../access/permission.ts'
import { permissionsOf } from '../access/principal.ts'
import { signIn, type SignInDeps } from '../access/sign-in.ts'
import { defineCall, principalOf, traceOf, type CallDeps } from '../http/calls.ts'
import { Id, PrincipalKind, Time } from '../http/schemas.ts'
import { listBindings, revokeToken } from '../store/access.ts'

const Credentials = Type.Object(
  {
    tenant: Type.String({ pattern: '^[^\\s\\x00]{1,512}$' }),
    email: Type.String({ minLength: 1, maxLength: 254, pattern: '^[^\\x00]*$' }),
    password: Type.String({ minLength: 1, maxLength: MAX_PASSWORD_CHARS }),
  },
  { additionalProperties: false },
)
const Session = Type.Object({ token: Type.String(), expires_at: Time })
const Me = Type.Object({
  tenant: Type.String(),
  kind: PrincipalKind,
  id: Id,
  name: Type.String(),
  roles: Type.Array(Type.String()),
  permissions: Type.Array(Permission),
  scopes: Type.Union([Type.Array(Type.String()), Type.Null()]),
})

/** Signing in and out, and who one is. */
export function sessionRoutes(app: FastifyInstance, deps: CallDeps & SignInDeps): void {
  const tag = 'session'

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: '/api/v1/session',
      summary: 'Signs in with a password: a token for twelve hours',
      tag,
      permission: 'public',
      body: Credentials,
      answer: Session,
      status: 201,
    },
    async ({ body }, request) => {
      const { token, expiresAt } = await signIn(deps, { ...body, traceId: traceOf(request), requestId: request.id })
      return { token, expires_at: expiresAt.toISOString() }
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: '/api/v1/session',
      summary: 'Signs out: the session of the token ends',
      tag,
      permission: 'signed-in',
      answer: null,
    },
    async (_input, request) => {
      const principal = principalOf(request)
      const { tenant, name, tokenId } = principal
      const startedMs = deps.clock().getTime()
      const subject = {
        tenant,
        actor: name,
        action: 'sessions.delete',
        resource: `sessions/${tokenId}`,
        resourceType: 'sessions',
        resourceId: tokenId,
        traceId: traceOf(request),
        requestId: request.id,
      }
      await deps.runner.settle(subject, { state: 'committed', startedMs }, (client) =>
        revokeToken(client, tenant, tokenId),
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/session',
      summary: 'Who the token stands for, and what they may do',
      tag,
      permission: 'signed-in',
      answer: Me,
    },
    async (_input, request) => {
      const principal = principalOf(request)
      const { tenant, kind, id, name, scopes } = principal
      return withTenant(
        deps.pool,
        tenant,
        async (client) => {
          const permissions = await permissionsOf(client, principal, false)
          const bindings = await listBindings(client, tenant, { kind, id })
          const roles = bindings.map(({ role }) => role).sort()
          return {
            tenant,
            kind,
            id,
            name,
            roles,
            permissions: [...permissions],
            scopes: scopes === null ? null : [...scopes],
          }
        },
        { readOnly: true },
      )
    },
  )
}
