import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { rebuildJourney, type JourneyItem } from '../journey.ts'
import type { LedgerKeys } from '../keys.ts'
import { readJourney } from '../read-journey.ts'
import type { PersonalReader } from '../seal/reader.ts'
import { requireIdentity, tenantOf } from './identity.ts'
import { presentOpened } from './logs.ts'

const TRACE_ID = /^[0-9a-f]{32}$/

/** A trace from end to end: `GET /api/audit/traces/{trace_id}`. */
export function journeyRoutes(
  app: FastifyInstance,
  deps: {
    readonly authenticator: Authenticator
    readonly wall: Pool
    readonly keys: LedgerKeys
    readonly personal: PersonalReader
  },
): void {
  const { authenticator, wall, keys, personal } = deps
  app.get<{ Params: { trace_id: string } }>(
    '/api/audit/traces/:trace_id',
    { onRequest: requireIdentity(authenticator, 'audit:read') },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const { trace_id } = request.params
      if (!TRACE_ID.test(trace_id))
        throw new SignetError('REQUEST_INVALID', 'a trace id is 32 lowercase hexadecimal digits (W3C Trace Context)')
      const { items, more, gaps } = await withTenant(
        wall,
        tenant,
        (client) => readJourney(client, { tenant, traceId: trace_id, mark: keys.mark }),
        { readOnly: true },
      )
      if (items.length === 0) throw new SignetError('NOT_FOUND', `no event of trace ${trace_id}`)
      const journey = rebuildJourney(items, gaps.length)
      const answer = {
        trace_id,
        ...journey,
        complete: journey.complete && !more,
        truncated: more,
        events: await presentOpened(personal, request, tenant, items.map(present)),
        gaps: gaps.map(present),
      }
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    },
  )
}

function present(item: JourneyItem): Record<string, unknown> {
  if (!('record' in item)) return { seq: item.seq, event: null, fault: item.fault }
  const { event, producer_id, received_at, session, spool_seq } = item.record
  return { seq: item.seq, event, producer_id, received_at, session, spool_seq }
}
