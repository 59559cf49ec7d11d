import type { FastifyInstance } from 'fastify'
import { judgeStamp, MAX_VERDICT_BYTES, STAMP_VERDICT_PATH, type StampVerdict } from '#core/stamp/verdict.ts'
import { readStamp } from '#core/stamp/verify.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Producer } from '../entry.ts'
import type { LedgerKeys } from '../keys.ts'
import { bodyOf, refuseEncoding } from './body.ts'
import { requireIdentity, tenantOf } from './identity.ts'

/** Says whose stamps nobody vouches for now. */
export type StampDenial = { readonly deniesStampsOf: (producer: Producer) => boolean | Promise<boolean> }

/**
 * Whether a stamp was made with a key of its producer, for who has no key but its own: a proxy whose service got the stamped answer of
 * another. Only of the caller's tenant; nothing is looked up, so that a stamp counts before its event has come.
 */
export function stampVerdictRoutes(
  app: FastifyInstance,
  deps: {
    readonly authenticator: Authenticator
    readonly keys: Pick<LedgerKeys, 'stampKey'>
    readonly denyList?: StampDenial
  },
): void {
  const isDenied = async (stampBytes: Buffer, tenant: string): Promise<boolean> =>
    (await deps.denyList?.deniesStampsOf({ tenant, producerId: readStamp(stampBytes).data_lineage.producer_id })) ===
    true
  const denied = ({ version, stamp_hash }: StampVerdict): StampVerdict => ({
    version,
    stamp_hash,
    verified: false,
    code: 'PRODUCER_DENIED',
  })
  app.post(
    STAMP_VERDICT_PATH,
    {
      bodyLimit: MAX_VERDICT_BYTES,
      onRequest: [
        requireIdentity(deps.authenticator, 'stamps:read', 'audit:read'),
        async (request) => refuseEncoding(request),
      ],
    },
    async (request, reply) => {
      const tenant = tenantOf(request)
      const found = judgeStamp(bodyOf(request), deps.keys, tenant)
      const verdict = found.verified && (await isDenied(bodyOf(request), tenant)) ? denied(found) : found
      return reply.type('application/json').header('cache-control', 'no-store').send(JSON.stringify(verdict))
    },
  )
}
