import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { parseVerifyQuery } from '../query.ts'
import { verifyTenant, type VerifyDeps } from '../verify.ts'
import { requireIdentity, tenantOf } from './identity.ts'

/** Verifications that may run at once: each holds a connection and a share of the processor that appending needs too. */
const MAX_CONCURRENT = 2

export function verifyRoutes(app: FastifyInstance, deps: VerifyDeps & { readonly authenticator: Authenticator }): void {
  let underWay = 0
  app.get(
    '/api/audit/verify',
    { onRequest: requireIdentity(deps.authenticator, 'audit:read') },
    async (request, reply) => {
      const scope = parseVerifyQuery(request.query)
      if (underWay >= MAX_CONCURRENT)
        throw new SignetError('LEDGER_BUSY', 'other verifications are under way; try again shortly')
      underWay += 1
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      const startedAt = performance.now()
      try {
        const verdict = await verifyTenant(deps, tenantOf(request), scope, gone.signal)
        const answer = { ...verdict, duration_ms: Math.round(performance.now() - startedAt) }
        return await reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
      } finally {
        underWay -= 1
      }
    },
  )
}
