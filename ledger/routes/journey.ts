import type { FastifyInstance } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { readItem, rebuildJourney, type JourneyItem } from '../journey.ts'
import type { LedgerKeys } from '../keys.ts'
import { ledgerTraceId } from '../ledger-event.ts'
import type { PersonalReader } from '../seal/reader.ts'
import { readGaps, readTrace } from '../store/journey.ts'
import { requireIdentity, tenantOf } from './identity.ts'
import { presentOpened } from './logs.ts'

const TRACE_ID = /^[0-9a-f]{32}$/
/** Events that a journey shows, fewer where they are big (`readTrace`). */
const MAX_EVENTS = 1_000
const MAX_GAPS = 100

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
        async (client) => {
          const { rows, more } = await readTrace(client, tenant, trace_id, MAX_EVENTS)
          const shown = rows.map(readItem)
          const traces = sessionsOf(shown).map(({ session, producerId }) =>
            ledgerTraceId(keys.mark, { tenant, producerId }, session),
          )
          const found = traces.length === 0 ? [] : await readGaps(client, tenant, traces, MAX_GAPS)
          return { items: shown, more, gaps: found.map(readItem) }
        },
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

/** The sessions that the events came in, each once. */
function sessionsOf(items: readonly JourneyItem[]): { session: string; producerId: string }[] {
  const sessions = new Map<string, { session: string; producerId: string }>()
  for (const item of items) {
    if (!('record' in item) || item.record.session === null) continue
    const { session, producer_id: producerId } = item.record
    sessions.set(`${producerId}\n${session}`, { session, producerId })
  }
  return [...sessions.values()]
}

function present(item: JourneyItem): Record<string, unknown> {
  if (!('record' in item)) return { seq: item.seq, event: null, fault: item.fault }
  const { event, producer_id, received_at, session, spool_seq } = item.record
  return { seq: item.seq, event, producer_id, received_at, session, spool_seq }
}
