import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStrict } from '#core/json/strict.ts'
import { isWritable } from '#core/retention/published.ts'
import type { Authenticator } from '#runtime/identity/token.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { holdsFor, placeHold, releaseHold, type Hold } from '../retention/holds.ts'
import { holdPlaced, holdReleased } from '../retention/notice.ts'
import type { Sequencer } from '../sequencer.ts'
import { bodyOf, invalidBody, refuseEncoding } from './body.ts'
import { callerOf, requireIdentity, tenantOf } from './identity.ts'

const MAX_BODY_BYTES = 64 * 1024
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const Month = Type.Optional(Type.String({ pattern: '^\\d{4}-(0[1-9]|1[0-2])$' }))
// A text column holds no U+0000.
const text = (maxLength: number) => Type.String({ minLength: 1, maxLength, pattern: '^[^\\u0000]*$' })
const Names = Type.Optional(Type.Array(text(512), { minItems: 1, maxItems: 256 }))
const HoldBody = Compile(
  Type.Object(
    {
      reason: text(2_000),
      reference: Type.Optional(text(512)),
      data_domains: Names,
      regions: Names,
      from: Month,
      to: Month,
    },
    { additionalProperties: false },
  ),
)
const ReleaseQuery = Compile(Type.Object({ reason: text(2_000) }, { additionalProperties: false }))

/** Legal holds of a tenant: `docs/retention.md`. */
export function holdRoutes(
  app: FastifyInstance,
  deps: { readonly authenticator: Authenticator; readonly wall: Pool; readonly sequencer: Sequencer },
): void {
  const { authenticator, wall, sequencer } = deps
  const mayAct = requireIdentity(authenticator, 'audit:admin')

  app.get(
    '/api/audit/holds',
    { onRequest: requireIdentity(authenticator, 'audit:read', 'audit:admin') },
    async (request, reply) => {
      const holds = await holdsFor(wall, tenantOf(request))
      return reply.header('cache-control', 'no-store').send({ items: holds.map(present) })
    },
  )

  app.post('/api/audit/holds', { bodyLimit: MAX_BODY_BYTES, onRequest: mayAct }, async (request, reply) => {
    refuseEncoding(request)
    const body = parseStrict(bodyOf(request))
    if (!HoldBody.Check(body)) throw invalidBody(HoldBody.Errors(body)[0])
    if (!isWritable(body)) throw new SignetError('REQUEST_INVALID', 'the body holds a text that is no Unicode')
    if (body.from !== undefined && body.to !== undefined && body.to < body.from)
      throw new SignetError('REQUEST_INVALID', '/to is before /from')
    const hold: Omit<Hold, 'placedAt'> = {
      id: randomUUID(),
      tenant: tenantOf(request),
      reason: body.reason,
      reference: body.reference ?? null,
      dataDomains: body.data_domains ?? null,
      regions: body.regions ?? null,
      fromMonth: body.from === undefined ? null : `${body.from}-01`,
      toMonth: body.to === undefined ? null : `${body.to}-01`,
      policy: null,
      placedBy: callerOf(request),
    }
    // What keeps is in force at once, what lets go is on record first.
    await placeHold(wall, hold)
    await sequencer.append(holdPlaced(hold))
    const placed = (await holdsFor(wall, hold.tenant)).find(({ id }) => id === hold.id)
    return reply
      .status(201)
      .header('location', `/api/audit/holds/${hold.id}`)
      .header('cache-control', 'no-store')
      .send(placed === undefined ? { id: hold.id } : present(placed))
  })

  app.delete<{ Params: { id: string } }>('/api/audit/holds/:id', { onRequest: mayAct }, async (request, reply) => {
    const tenant = tenantOf(request)
    const { query } = request
    if (!ReleaseQuery.Check(query))
      throw new SignetError('REQUEST_INVALID', 'say why: DELETE /api/audit/holds/ID?reason=… (1 to 2000 characters)')
    const { id } = request.params
    const hold = UUID.test(id) ? (await holdsFor(wall, tenant)).find((each) => each.id === id) : undefined
    if (hold === undefined) throw new SignetError('NOT_FOUND', 'no such hold stands')
    if (hold.policy !== null)
      throw new SignetError('LEGAL_HOLD', `the retention policy ${hold.policy} asks for this hold: change that`)
    const by = callerOf(request)
    await sequencer.append(holdReleased(tenant, id, by, query.reason))
    await releaseHold(wall, tenant, { id, reason: query.reason, releasedBy: by })
    return reply.status(204).send()
  })
}

function present(hold: Hold): Record<string, unknown> {
  return {
    id: hold.id,
    reason: hold.reason,
    reference: hold.reference,
    data_domains: hold.dataDomains,
    regions: hold.regions,
    from: hold.fromMonth?.slice(0, 7) ?? null,
    to: hold.toMonth?.slice(0, 7) ?? null,
    policy: hold.policy,
    placed_by: hold.placedBy,
    placed_at: hold.placedAt.toISOString(),
  }
}
