import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { encodeCursor, parseSubjectQuery } from '../query.ts'
import { searchSubject } from '../store/search.ts'
import { presentRecord } from './logs.ts'
import { requireIdentity, tenantOf } from './identity.ts'

const MAX_ID_CHARS = 2_048

/** Everything held about a person: `GET /api/audit/subjects/{id}/records`. */
export function subjectRoutes(
  app: FastifyInstance,
  deps: { readonly authenticator: Authenticator; readonly wall: Pool },
): void {
  app.get<{ Params: { id: string } }>(
    '/api/audit/subjects/:id/records',
    { onRequest: requireIdentity(deps.authenticator, 'audit:read') },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const { id } = request.params
      if (id === '' || id.length > MAX_ID_CHARS)
        throw new SignetError('REQUEST_INVALID', `the id of a subject has 1 to ${MAX_ID_CHARS} characters`)
      const page = parseSubjectQuery(request.query)
      const { rows, more } = await withTenant(deps.wall, tenant, (client) => searchSubject(client, tenant, id, page), {
        readOnly: true,
      })
      const last = rows.at(-1)
      const next_cursor = more && last !== undefined ? encodeCursor(last.seq, page.order) : null
      const answer = { subject: id, matched_by: ['actor', 'resource_id'], items: rows.map(presentRecord), next_cursor }
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    },
  )
}
