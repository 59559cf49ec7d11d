import type { FastifyInstance } from 'fastify'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { IDENTITY_PATH, IdentityRequest } from '#core/identity/exchange.ts'
import { parseStrict } from '#core/json/strict.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import { bearerToken } from '#runtime/identity/bearer.ts'
import { requireScope, type Authenticator } from '#runtime/identity/token.ts'
import { issueIdentity, type IssueDeps } from '../identity/issue.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'

/** Exchanges that may be under way: each signs a certificate and waits for the wall. */
const MAX_CONCURRENT = 64
const MAX_BODY_BYTES = 16 * 1024
const MAX_TOKEN_CHARS = 8_192

const validator = Compile(IdentityRequest)

/** `POST /v1/identity`: a workload's token for its keys (`docs/identity.md`). Nothing that is remembered of the token counts here. */
export function issueRoutes(app: FastifyInstance, deps: IssueDeps & { readonly authenticator: Authenticator }): void {
  let underWay = 0
  app.post(IDENTITY_PATH, { bodyLimit: MAX_BODY_BYTES }, async (request, reply) => {
    if (underWay >= MAX_CONCURRENT)
      throw new SignetError('LEDGER_BUSY', 'too many workloads ask for their identity; try again shortly')
    underWay += 1
    try {
      refuseEncoding(request)
      const { authorization } = request.headers
      const token = bearerToken(authorization, MAX_TOKEN_CHARS)
      const body = parseStrict(bodyOf(request))
      if (!validator.Check(body)) throw invalidBody(validator.Errors(body)[0])
      if (!isRealTimestamp(body.signed_at))
        throw new SignetError('REQUEST_INVALID', '/signed_at is no moment of the calendar')
      const identity = await deps.authenticator.authenticate({
        authorization,
        claims: { tenant: body.tenant, producerId: body.producer_id },
        fresh: true,
      })
      requireScope(identity, 'audit:write')
      const answer = await issueIdentity(deps, identity, token, body)
      return await reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    } finally {
      underWay -= 1
    }
  })
}
