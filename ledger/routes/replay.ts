import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { STAGES } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { LEDGER_PRODUCER } from '#core/retention/purge.ts'
import { namesSomebody } from '#core/seal/mention.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { NoticeEntry } from '../entry.ts'
import { rebuildJourney } from '../journey.ts'
import type { LedgerKeys } from '../keys.ts'
import { noticed } from '../ledger-event.ts'
import { readJourney } from '../read-journey.ts'
import { gapsOf, replayState, type CountedGap, type Stage } from '../replay/decide.ts'
import { countMissing } from '../replay/gather.ts'
import type { Sequencer } from '../sequencer.ts'
import { findEvents } from '../store/wall.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

const MAX_BODY_BYTES = 16 * 1024
const TRACE_ID = /^[0-9a-f]{32}$/
const ReplayBody = Compile(
  Type.Object(
    {
      stage: Type.Union(STAGES.map((stage) => Type.Literal(stage))),
      // A text column holds no U+0000.
      reason: Type.String({ minLength: 1, maxLength: 1_000, pattern: '^[^\\u0000]*$' }),
    },
    { additionalProperties: false },
  ),
)

type ReplayDeps = {
  readonly authenticator: Authenticator
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly sequencer: Sequencer
}

/**
 * `POST /api/audit/traces/{trace_id}/replay`: what can be said of a stage that is missing, and on record that somebody missed it (`docs/runbooks/trace-gap.md`).
 * The ledger has nothing that it could play again and asks no producer: what is in a spool comes by itself, what is in none is gone.
 */
export function replayRoutes(app: FastifyInstance, deps: ReplayDeps): void {
  const { authenticator, wall, keys } = deps
  app.post<{ Params: { trace_id: string } }>(
    '/api/audit/traces/:trace_id/replay',
    { bodyLimit: MAX_BODY_BYTES, onRequest: requireIdentity(authenticator, 'audit:admin') },
    async (request, reply) => {
      refuseEncoding(request)
      const tenant = tenantOf(request)
      const { trace_id: traceId } = request.params
      if (!TRACE_ID.test(traceId))
        throw new SignetError('REQUEST_INVALID', 'a trace id is 32 lowercase hexadecimal digits (W3C Trace Context)')
      const body = parseStrict(bodyOf(request))
      if (!ReplayBody.Check(body)) throw invalidBody(ReplayBody.Errors(body)[0])
      const { stage, reason } = body
      if (namesSomebody(reason))
        throw new SignetError(
          'REQUEST_INVALID',
          '/reason has an e-mail address, and is kept for ever: give the number of a case instead',
        )
      const found = await withTenant(wall, tenant, (client) => look(client, { tenant, traceId, stage, keys }), {
        readOnly: true,
      })
      const wanted = found.state === 'missing' || found.state === 'not_sent'
      const record = wanted
        ? await recordOnce(deps, tenant, replayNotice(traceId, { stage, reason, by: callerOf(request) }, found))
        : null
      return reply
        .header('cache-control', 'no-store')
        .send({ trace_id: traceId, stage, state: found.state, gaps: found.gaps, record })
    },
  )
}

type Found = { readonly state: ReturnType<typeof replayState>; readonly gaps: readonly CountedGap[] }

async function look(
  client: Client,
  { tenant, traceId, stage, keys }: { tenant: string; traceId: string; stage: Stage; keys: LedgerKeys },
): Promise<Found> {
  const { items, more, gaps } = await readJourney(client, { tenant, traceId, mark: keys.mark })
  if (items.length === 0) throw new SignetError('NOT_FOUND', `no event of trace ${traceId}`)
  if (more)
    throw new SignetError(
      'REQUEST_INVALID',
      'the trace has more events than a journey shows: nobody can say what it lacks',
    )
  const counted = await countMissing(client, tenant, gapsOf(gaps))
  return { state: replayState(rebuildJourney(items, gaps.length), stage, counted), gaps: counted }
}

function replayNotice(
  traceId: string,
  asked: { readonly stage: Stage; readonly reason: string; readonly by: string },
  { state, gaps }: Found,
): NoticeEntry {
  return {
    kind: 'notice',
    type: 'audit.replay',
    // Whoever asks, and however often: a stage of a trace is asked for once.
    cause: [traceId, asked.stage],
    outcome: 'unknown',
    resourceType: 'trace',
    resourceId: traceId,
    context: { ...asked, state, gaps },
  }
}

/** Where in the chain it is. */
async function recordOnce(
  { wall, keys, sequencer }: ReplayDeps,
  tenant: string,
  notice: NoticeEntry,
): Promise<{ event_id: string; seq: number }> {
  const producer = { tenant, producerId: LEDGER_PRODUCER }
  await sequencer.append({ producer, entries: [notice] })
  const { event_id } = noticed({ producer, at: new Date(0), mark: keys.mark }, notice)
  const placed = await withTenant(wall, tenant, (client) => findEvents(client, tenant, [event_id]), { readOnly: true })
  const seq = placed.get(event_id)?.seq
  if (seq === undefined) throw new SignetError('INTERNAL', 'a request to replay was appended and is not there')
  return { event_id, seq }
}
