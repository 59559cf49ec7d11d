import type { FastifyInstance } from 'fastify'
import { Compile } from 'typebox/compile'
import { signAck } from '#core/audit/acknowledgement.ts'
import {
  MAX_BATCH_BYTES,
  SessionClose,
  SessionOpen,
  WIRE_VERSION,
  type SessionClosed,
  type SessionOpened,
} from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { isRealTimestamp } from '#core/time/timestamp.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { BatchOutcome } from '../entry.ts'
import { readBatch } from '../intake.ts'
import type { LedgerKeys } from '../keys.ts'
import type { Sequencer } from '../sequencer.ts'
import type { Sessions } from '../sessions.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { producerOf, requireIdentity } from './identity.ts'

export type IngestDeps = {
  readonly authenticator: Authenticator
  readonly keys: LedgerKeys
  readonly sequencer: Sequencer
  readonly sessions: Sessions
  readonly onRefused: (code: string) => void
}

/** Bytes of batch bodies that may be in memory at the same time, by what their senders declare. */
const MAX_BODY_BYTES_UNDER_WAY = 128 * 1024 * 1024
const MAX_SESSION_BYTES = 16 * 1024

const openValidator = Compile(SessionOpen)
const closeValidator = Compile(SessionClose)

/** What producers call: sessions and events. */
export function ingestRoutes(app: FastifyInstance, deps: IngestDeps): void {
  const onRequest = requireIdentity(deps.authenticator, 'audit:write')
  let bytesUnderWay = 0

  app.post('/api/audit/ingest', {
    bodyLimit: MAX_BATCH_BYTES,
    onRequest: [
      onRequest,
      async (request, reply) => {
        refuseEncoding(request)
        const declared = Number(request.headers['content-length'] ?? MAX_BATCH_BYTES)
        const bytes = Math.min(Number.isNaN(declared) ? MAX_BATCH_BYTES : declared, MAX_BATCH_BYTES)
        if (bytesUnderWay + bytes > MAX_BODY_BYTES_UNDER_WAY) {
          throw new SignetError('LEDGER_BUSY', 'too many batches are under way; try again shortly')
        }
        bytesUnderWay += bytes
        reply.raw.once('close', () => {
          bytesUnderWay -= bytes
        })
      },
    ],
    handler: async (request, reply) => {
      const producer = producerOf(request)
      const entries = await readBatch(bodyOf(request), producer, deps.keys)
      const outcome = await deps.sequencer.append({ producer, entries })
      deps.sessions.progressed(producer, outcome.spoolHeads)
      for (const { code } of outcome.refused) deps.onRefused(code)
      return reply.type('application/json').send(JSON.stringify(signedAck(deps, producer.tenant, outcome)))
    },
  })

  app.post('/api/audit/sessions', {
    bodyLimit: MAX_SESSION_BYTES,
    onRequest,
    handler: async (request, reply) => {
      refuseEncoding(request)
      const producer = producerOf(request)
      const body = parseStrict(bodyOf(request))
      if (!openValidator.Check(body)) throw invalidBody(openValidator.Errors(body)[0])
      if (!isRealTimestamp(body.started_at))
        throw new SignetError('REQUEST_INVALID', '/started_at is no moment of the calendar')
      const { checkpoint } = await deps.sessions.open(producer, body)
      const opened: SessionOpened = {
        version: WIRE_VERSION,
        session: body.session,
        tenant: producer.tenant,
        producer_id: producer.producerId,
        checkpoint,
      }
      return reply.type('application/json').send(JSON.stringify(opened))
    },
  })

  app.post<{ Params: { session: string } }>('/api/audit/sessions/:session/close', {
    bodyLimit: MAX_SESSION_BYTES,
    onRequest,
    handler: async (request, reply) => {
      refuseEncoding(request)
      const producer = producerOf(request)
      const { session } = request.params
      if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(session))
        throw new SignetError('SESSION_UNKNOWN', 'a session id is a lowercase UUID')
      const body = parseStrict(bodyOf(request))
      if (!closeValidator.Check(body) || !Number.isSafeInteger(body.last_spool_seq))
        throw invalidBody(closeValidator.Errors(body)[0])
      const { checkpoint, recordedSpoolSeq } = await deps.sessions.close(producer, session, body)
      const closed: SessionClosed = {
        version: WIRE_VERSION,
        session,
        tenant: producer.tenant,
        recorded_spool_seq: recordedSpoolSeq,
        checkpoint,
      }
      return reply.type('application/json').send(JSON.stringify(closed))
    },
  })
}

function signedAck(deps: IngestDeps, tenant: string, outcome: BatchOutcome) {
  const { acks, refused, checkpoint } = outcome
  // Valid at the checkpoint's time: that is what a verifier asks.
  const key = deps.keys.ackKey(new Date(checkpoint.timestamp_utc))
  return signAck({ acks, checkpoint, key_id: key.keyId, refused, tenant, version: WIRE_VERSION }, key)
}
