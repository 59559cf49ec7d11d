import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundlePublisher } from '../bundles/publisher.ts'
import { defineCall, found, principalOf, read, write, type CallDeps } from '../http/calls.ts'
import { ById, Id, PageOf, PageQuery, Text, Time } from '../http/schemas.ts'
import { findBlock, liftBlock, listBlocks, type BlockRow } from '../store/blocks.ts'
import { DEFAULT_LIMIT, pageOf, parseCursor } from '../store/paging.ts'

const Block = Type.Object({
  id: Id,
  violation_id: Id,
  kind: Type.Enum(['agent', 'route']),
  value: Type.String({ description: 'What the agent is called; the template of the route.' }),
  method: Type.Union([Type.String(), Type.Null()], { description: 'Of the route; null: any.' }),
  state: Type.Enum(['held', 'lifted', 'ended']),
  expires_at: Time,
  lifted_at: Type.Union([Time, Type.Null()]),
  lifted_by: Type.Union([Type.String(), Type.Null()]),
  lift_comment: Type.String(),
  created_at: Time,
})
const Lift = Type.Object(
  { comment: { ...Text(4_000), minLength: 1, description: 'Why it is lifted.' } },
  { additionalProperties: false },
)

/** What the tenant's proxies refuse until a person lets it. */
export function blockRoutes(app: FastifyInstance, deps: CallDeps & { readonly publisher: BundlePublisher }): void {
  const tag = 'violations'
  const url = '/api/compliance/blocks'
  const resource = 'violations'

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url,
      summary: 'What proxies refuse, or refused, because of a violation, newest first',
      tag,
      permission: ['read', resource],
      query: PageQuery,
      answer: PageOf(Block),
    },
    ({ query: { cursor, limit = DEFAULT_LIMIT } }, request) => {
      const after = parseCursor(cursor)
      return read(deps, request, { action: 'read', resource }, async (client, { tenant }) =>
        pageOf(await listBlocks(client, tenant, { after, limit }), limit, (row) => present(row, deps.clock())),
      )
    },
  )

  defineCall(
    app,
    deps,
    {
      method: 'POST',
      url: `${url}/:id/lift`,
      summary: 'Lifts a block; the violation that it is for stays as it is',
      tag,
      permission: ['override', resource],
      params: ById,
      body: Lift,
      answer: Block,
    },
    async ({ params: { id }, body: { comment } }, request) => {
      const result = await write(
        deps,
        request,
        { action: 'override', resource, id },
        { lift: id, comment },
        async (client, { tenant, principal }) => {
          const before = found(await findBlock(client, tenant, id, true), 'block')
          const row = await liftBlock(client, tenant, id, { by: principal.name, comment, now: deps.clock() })
          if (row === null) throw new SignetError('CONFLICT', `this block was lifted already, by ${before.lifted_by}`)
          const logged = { block: id, kind: row.kind, value: row.value, violation_id: row.violation_id }
          return {
            result: present(row, deps.clock()),
            before: { ...logged, state: 'held' },
            after: { ...logged, state: 'lifted', comment },
          }
        },
      )
      deps.publisher.touch(principalOf(request).tenant)
      return result
    },
  )
}

function present(row: BlockRow, now: Date) {
  const { method, expires_at, lifted_at, created_at, ...rest } = row
  const state: 'held' | 'lifted' | 'ended' =
    lifted_at !== null ? 'lifted' : expires_at.getTime() > now.getTime() ? 'held' : 'ended'
  return {
    ...rest,
    method: method === '' ? null : method,
    state,
    expires_at: expires_at.toISOString(),
    lifted_at: lifted_at?.toISOString() ?? null,
    created_at: created_at.toISOString(),
  }
}
