import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { encodeCursor, parseSubjectQuery } from '../query.ts'
import type { PersonalReader } from '../seal/reader.ts'
import { searchSubject } from '../store/search.ts'
import { presentOpened, presentRecord } from './logs.ts'
import { requireIdentity, tenantOf } from './identity.ts'

const MAX_ID_CHARS = 2_048

/** Everything held about a person: `GET /api/audit/subjects/{id}/records`. */
export function subjectRoutes(
  app: FastifyInstance,
  deps: { readonly authenticator: Authenticator; readonly wall: Pool; readonly personal: PersonalReader },
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
      const sought = await deps.personal.lookFor(tenant, id)
      const { rows, more } = await withTenant(
        deps.wall,
        tenant,
        (client) => searchSubject(client, tenant, sought, page),
        { readOnly: true },
      )
      const last = rows.at(-1)
      const next_cursor = more && last !== undefined ? encodeCursor(last.seq, page.order) : null
      const items = await presentOpened(deps.personal, request, tenant, rows.map(presentRecord))
      const matched_by = ['actor', 'resource_id', ...(sought.words.length > 0 ? ['sealed_for'] : [])]
      const answer = { subject: id, matched_by, items, next_cursor }
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    },
  )
}
