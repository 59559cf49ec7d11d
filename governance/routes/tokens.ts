import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { SCOPE_PATTERN } from '../access/permission.ts'
import { isSame, requireAtLeast, type PrincipalKind as Kind } from '../access/principal.ts'
import { newToken } from '../access/token.ts'
import { defineCall, found, read, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, Line, PageOf, PageQuery, PrincipalKind, Time } from '../http/schemas.ts'
import { findServiceAccount, findToken, insertToken, listTokens, revokeToken, type TokenRow } from '../store/access.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'

const Token = Type.Object({
  id: Id,
  name: Type.String(),
  principal_kind: PrincipalKind,
  principal_id: Id,
  scopes: Type.Union([Type.Array(Type.String()), Type.Null()]),
  created_at: Time,
  expires_at: Time,
  revoked_at: Type.Union([Time, Type.Null()]),
})
const MadeToken = Type.Object({ ...Token.properties, token: Type.String({ description: 'Shown once, kept nowhere.' }) })
const MAX_DAYS = 366
const NewToken = Type.Object(
  {
    name: Line(200),
    service_account_id: Type.Optional({ ...Id, description: 'Whose token; your own where left out.' }),
    scopes: Type.Optional(
      Type.Array(Type.String({ pattern: SCOPE_PATTERN }), {
        maxItems: 200,
        description: 'What of its owner’s permissions it carries, `ACTION:RESOURCE`; all of them where left out.',
      }),
    ),
    expires_in_days: Type.Integer({ minimum: 1, maximum: MAX_DAYS }),
  },
  { additionalProperties: false },
)
const DAY_MS = 24 * 60 * 60 * 1000

export function tokenRoutes(app: FastifyInstance, deps: CallDeps): void {
  const tag = 'tokens'
  const url = '/api/v1/tokens'
  const resource = 'tokens'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'API tokens, newest first; without their secrets',
      tag,
      permission: ['read', resource],
      query: PageQuery,
      answer: PageOf(Token),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const where = { cursor: parseCursor(cursor), limit }
      return read(
        deps,
        request,
        { action: 'read', resource, ownCounts: true },
        async (client, { tenant, extent, principal }) =>
          pageOf(
            await listTokens(client, tenant, { ...where, owner: extent === 'own' ? principal : null }),
            limit,
            present,
          ),
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url,
      summary: 'Makes an API token, for yourself or for a service account',
      tag,
      permission: ['write', resource],
      body: NewToken,
      answer: MadeToken,
      status: 201,
    },
    ({ body }, request) => {
      const { name, service_account_id: accountId, scopes = null, expires_in_days: days } = body
      const id = deps.newId()
      const expiresAt = new Date(deps.clock().getTime() + days * DAY_MS)
      const { token, sha256 } = newToken()
      return write(deps, request, { action: 'write', resource, id, ownCounts: true }, body, async (client, rights) => {
        const { tenant, extent, principal } = rights
        const own = { kind: principal.kind, id: principal.id }
        const owner: { kind: Kind; id: string } =
          accountId === undefined ? own : { kind: 'service_account', id: accountId }
        if (extent === 'own' && !isSame(owner, principal))
          throw new SignetError('FORBIDDEN', `${principal.name} may make tokens of their own only`)
        if (
          owner.kind === 'service_account' &&
          (await findServiceAccount(client, tenant, owner.id, true))?.state !== 'active'
        )
          throw new SignetError('REQUEST_INVALID', 'the body at /service_account_id names no active service account')
        if (!isSame(owner, principal)) await requireAtLeast(client, rights, owner)
        // What a token does not carry, its holder cannot pass on in another one.
        const carried = scopesWithin(principal.scopes, scopes)
        const row = await insertToken(client, tenant, {
          id,
          kind: 'api',
          name,
          sha256,
          principal: owner,
          scopes: carried,
          expiresAt,
        })
        return { result: { ...present(row), token }, before: null, after: logged(row) }
      })
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'DELETE',
      url: `${url}/:id`,
      summary: 'Revokes a token, at once and for good',
      tag,
      permission: ['delete', resource],
      params: ById,
      answer: null,
    },
    ({ params: { id } }, request) =>
      write(
        deps,
        request,
        { action: 'delete', resource, id, ownCounts: true },
        null,
        async (client, { tenant, extent, principal }) => {
          const row = found(await findToken(client, tenant, id, true), 'token')
          const isOwn = isSame({ kind: row.principal_kind, id: row.principal_id }, principal)
          if (extent === 'own' && !isOwn) throw new SignetError('NOT_FOUND', 'there is no such token')
          await revokeToken(client, tenant, id)
          return { result: undefined, before: logged(row), after: null }
        },
      ),
  )
}

/** @throws SignetError FORBIDDEN for a scope that the token at hand does not carry */
function scopesWithin(held: readonly string[] | null, wanted: readonly string[] | null): readonly string[] | null {
  if (held === null) return wanted
  if (wanted === null) return held
  const missing = wanted.find((scope) => !held.includes(scope) && !held.includes('*:*'))
  if (missing !== undefined)
    throw new SignetError('FORBIDDEN', `this token does not carry the scope ${missing}, and cannot pass it on`)
  return wanted
}

function present(row: TokenRow) {
  return {
    ...row,
    created_at: row.created_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
    revoked_at: row.revoked_at?.toISOString() ?? null,
  }
}

function logged({ name, principal_kind, principal_id, scopes, expires_at }: TokenRow) {
  return { name, principal_kind, principal_id, scopes, expires_at: expires_at.toISOString() }
}
