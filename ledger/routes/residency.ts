import type { FastifyInstance } from 'fastify'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { ResidencyPolicy } from '../residency/policy.ts'
import { requireIdentity, tenantOf } from './identity.ts'

/** Where the data of the caller's tenant live: `GET /api/audit/residency`. `origin`: the name of this ledger's log. */
export function residencyRoutes(
  app: FastifyInstance,
  deps: { readonly authenticator: Authenticator; readonly residency: () => ResidencyPolicy; readonly origin: string },
): void {
  app.get(
    '/api/audit/residency',
    { onRequest: requireIdentity(deps.authenticator, 'audit:admin', 'audit:read') },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const answer = { tenant, ledger: deps.origin, ...deps.residency().residencyOf(tenant) }
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    },
  )
}
