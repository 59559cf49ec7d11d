import type { FastifyInstance } from 'fastify'
import { signLogAck } from '#core/audit/acknowledgement.ts'
import { WIRE_VERSION } from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import { MAX_ITEM_BYTES, readLogItem } from '../intake.ts'
import type { LedgerKeys } from '../keys.ts'
import { throwRefusal } from '../refusal.ts'
import type { Sequencer } from '../sequencer.ts'
import { bodyOf, refuseEncoding } from './body.ts'
import { producerOf, requireIdentity } from './identity.ts'

export type WriteDeps = {
  readonly authenticator: Authenticator
  readonly keys: LedgerKeys
  readonly sequencer: Sequencer
  readonly onRefused: (code: string) => void
}

/** One event by itself, for producers that keep no spool: operator, governance. Refusals are in the chain, as those of batches are. */
export function writeRoutes(app: FastifyInstance, deps: WriteDeps): void {
  app.post('/api/audit/logs', {
    bodyLimit: MAX_ITEM_BYTES,
    onRequest: requireIdentity(deps.authenticator, 'audit:write'),
    handler: async (request, reply) => {
      refuseEncoding(request)
      const producer = producerOf(request)
      const entry = readLogItem(bodyOf(request), producer, deps.keys)
      const outcome = await deps.sequencer.append({ producer, entries: [entry] })
      for (const { code } of outcome.refused) deps.onRefused(code)
      throwRefusal(outcome)
      const { logged, checkpoint } = outcome
      const [ack] = logged
      if (ack === undefined) throw new SignetError('INTERNAL', 'an event was neither recorded nor refused')
      // Valid at the checkpoint's time: that is what a verifier asks.
      const key = deps.keys.ackKey(new Date(checkpoint.timestamp_utc))
      const { tenant } = producer
      const answer = signLogAck({ ack, checkpoint, key_id: key.keyId, tenant, version: WIRE_VERSION }, key)
      return reply.status(201).type('application/json').header('cache-control', 'no-store').send(JSON.stringify(answer))
    },
  })
}
