import type { FastifyInstance, FastifyRequest } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import type { AuditEvent } from '#core/audit/event.ts'
import { firstFault } from '#core/error/schema-fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { TimestampUtc, TraceId } from '#core/stamp/schema.ts'
import { MAX_CLIENT_BATCH_BYTES, MAX_CLIENT_BATCH_EVENTS } from './client-event.ts'
import type { Recorder } from './ledger-recorder.ts'

/** Who a request is of, as the application's session has it; null for nobody. */
export type Identify = (request: FastifyRequest) => Promise<{ actor: string; tenant: string } | null>

export type CollectorOptions = {
  readonly identify: Identify
  /** `ledgerRecorder({ …, tries: 1 })`: it is the client that tries again. */
  readonly record: Recorder
  /** Default `/signet/audit`. */
  readonly path?: string
}

const Text = Type.String({ minLength: 1, maxLength: 512 })
const Batch = Type.Object(
  {
    events: Type.Array(
      Type.Object(
        {
          event_id: Type.String({ pattern: '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$' }),
          event_type: Type.String({ pattern: '^client\\.[a-z0-9_.-]{1,120}$' }),
          timestamp_utc: TimestampUtc,
          trace_id: TraceId,
          request_id: Text,
          action: Text,
          resource: Type.String({ minLength: 1, maxLength: 4096 }),
          outcome: Type.Enum(['success', 'failure', 'unknown']),
          latency_ms: Type.Number({ minimum: 0, maximum: 86_400_000 }),
          context: Type.Optional(Type.Record(Type.String({ maxLength: 200 }), Type.Unknown(), { maxProperties: 64 })),
        },
        { additionalProperties: false },
      ),
      { maxItems: MAX_CLIENT_BATCH_EVENTS },
    ),
  },
  { additionalProperties: false },
)
const validator = Compile(Batch)
const RETRY_AFTER_S = 5

/**
 * A fastify plugin: takes the batches of `ClientAuditLogger` and records them as of who is signed in; what a client says of itself counts
 * for nothing. `200 {recorded, refused: [{event_id, code}]}`; 400 for what is no batch, 401 for nobody, 503 where the ledger did not take
 * all (the client sends all of it again: ids make that harmless). Takes `application/json` only, which no other site's page can send unasked.
 */
export async function auditCollector(app: FastifyInstance, options: CollectorOptions): Promise<void> {
  const { identify, record, path = '/signet/audit' } = options
  app.post(path, { bodyLimit: MAX_CLIENT_BATCH_BYTES + 4_096 }, async (request, reply) => {
    const who = await identify(request)
    if (who === null) return reply.code(401).send({ code: 'UNAUTHENTICATED' })
    const { body, headers } = request
    if (headers['content-type']?.split(';')[0]?.trim().toLowerCase() !== 'application/json')
      return reply.code(415).send({ code: 'MEDIA_TYPE_REFUSED' })
    if (!validator.Check(body)) {
      const { path: at, allowed } = firstFault(validator.Errors(body))
      return reply.code(400).send({ code: 'REQUEST_INVALID', detail: `the batch at ${at}: ${allowed}` })
    }
    const refused: { event_id: string; code: string }[] = []
    for (const event of body.events) {
      try {
        await record(recorded(event, who))
      } catch (error) {
        if (!isFinal(error))
          return reply.code(503).header('retry-after', RETRY_AFTER_S).send({ code: 'LEDGER_UNREACHABLE' })
        refused.push({ event_id: event.event_id, code: error.code })
      }
    }
    return { recorded: body.events.length - refused.length, refused }
  })
}

/** From the event and who it is of alone: sent again, it has the same bytes. */
function recorded(
  event: Type.Static<typeof Batch>['events'][number],
  { actor, tenant }: { actor: string; tenant: string },
): AuditEvent {
  return { ...event, actor, tenant, stage: 'publish', before: null, after: null, stamp_hash: null }
}

/** It will never be taken as it is. That the ledger does not know us is our fault, and may be mended. */
function isFinal(error: unknown): error is SignetError {
  if (!(error instanceof SignetError)) return false
  const status = error.details?.['status']
  return error.code === 'AUDIT_EVENT_INVALID' || (error.code === 'LEDGER_REFUSED' && status !== 401 && status !== 403)
}
