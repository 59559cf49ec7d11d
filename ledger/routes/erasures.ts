import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { subjectRef } from '#core/seal/rules.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Erasures } from '../seal/erasure.ts'
import type { Erasure } from '../seal/erasure-store.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

const MAX_BODY_BYTES = 16 * 1024
const ErasureBody = Type.Object(
  {
    subject: Type.String({ minLength: 1, maxLength: 2_048 }),
    // A text column holds no U+0000.
    reason: Type.Optional(Type.String({ minLength: 1, maxLength: 1_000, pattern: '^[^\\u0000]*$' })),
  },
  { additionalProperties: false },
)
const validator = Compile(ErasureBody)

/** Erasing people: `docs/erasure.md`. `erasures` is null where nothing is sealed. */
export function erasureRoutes(
  app: FastifyInstance,
  { authenticator, erasures }: { readonly authenticator: Authenticator; readonly erasures: Erasures | null },
): void {
  const onRequest = requireIdentity(authenticator, 'audit:admin')

  app.post('/api/audit/erasures', { bodyLimit: MAX_BODY_BYTES, onRequest }, async (request, reply) => {
    refuseEncoding(request)
    const tenant = tenantOf(request)
    const body = parseStrict(bodyOf(request))
    if (!validator.Check(body)) throw invalidBody(validator.Errors(body)[0])
    const order = { subject: body.subject, requestedBy: callerOf(request), reason: body.reason ?? null }
    const erasure = await sealing(erasures).erase(tenant, order)
    return reply
      .status(201)
      .type('application/json')
      .header('location', `/api/audit/erasures/${erasure.id}`)
      .header('cache-control', 'no-store')
      .send(JSON.stringify(present(erasure)))
  })

  app.get<{ Params: { id: string } }>('/api/audit/erasures/:id', { onRequest }, async (request, reply) => {
    const erasure = await sealing(erasures).find(tenantOf(request), request.params.id)
    return reply
      .type('application/json')
      .header('cache-control', 'no-store')
      .send(JSON.stringify(present(erasure)))
  })
}

function sealing(erasures: Erasures | null): Erasures {
  if (erasures !== null) return erasures
  throw new SignetError(
    'NOT_FOUND',
    'this ledger seals nothing (SIGNET_LEDGER_SEALING=off), so that it can erase nobody',
  )
}

/** The receipt; the record that proves it is `record`. */
function present({ id, subjectId, requestedBy, reason, destroyed, destroyedAt, record }: Erasure): unknown {
  return {
    id,
    subject: subjectRef(subjectId),
    state: record === null ? 'destroyed' : 'recorded',
    requested_by: requestedBy,
    reason,
    destroyed: { what: 'data-subject-key', ...destroyed },
    destroyed_at: destroyedAt.toISOString(),
    record:
      record === null
        ? null
        : { event_id: record.eventId, seq: record.seq, proof: `/api/audit/logs/${record.eventId}/proof` },
  }
}
