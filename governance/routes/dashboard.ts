import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { SignetError } from '#core/error/signet-error.ts'
import { defineCall, principalOf, read, type CallDeps } from '../http/calls.ts'
import { Time } from '../http/schemas.ts'
import { countWork } from '../store/workflows.ts'

const Numbers = Type.Record(Type.String(), Type.Integer())
const Dashboard = Type.Object({
  as_of: Time,
  workflows: Numbers,
  overdue_workflows: Type.Integer(),
  open_tasks: Type.Integer(),
  remediation: Numbers,
  overdue_remediation: Type.Integer(),
  releases_in_force: Type.Integer(),
  policies_in_force: Type.Integer(),
})
const Text = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 512, description }))
const TrailQuery = Type.Object(
  {
    from: Text('RFC 3339.'),
    to: Text('RFC 3339.'),
    actor: Text('Who.'),
    action: Text('What was done: users.write.'),
    resource: Text('To what.'),
    stage: Text('approve, publish, …'),
    outcome: Text('success, failure, denied, unknown.'),
    trace_id: Text('32 hex digits.'),
    request_id: Text('Of one request.'),
    event_type: Text('governance.outcome, …'),
    resource_type: Text('users, policies, …'),
    resource_id: Text('Of one of them.'),
    q: Text('Words in context.'),
    cursor: Text('`next_cursor` of the page before.'),
    order: Type.Optional(Type.Enum(['asc', 'desc'])),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 100, default: 100 })),
  },
  { additionalProperties: false },
)

export type TrailReader = (path: string, tenant: string) => Promise<unknown>

/** What there is to do, in numbers; and what was done, from the ledger. */
export function dashboardRoutes(
  app: FastifyInstance,
  deps: CallDeps & { readonly ledger: { readonly read: TrailReader } },
): void {
  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/compliance/dashboard',
      summary: 'What there is to do, in numbers',
      tag: 'workflows',
      permission: ['read', 'workflows'],
      answer: Dashboard,
    },
    (_input, request) =>
      read(deps, request, { action: 'read', resource: 'workflows' }, async (client, { tenant }) => {
        const now = deps.clock()
        const { workflows, remediation, ...counts } = await countWork(client, tenant, now)
        return { as_of: now.toISOString(), workflows: { ...workflows }, remediation: { ...remediation }, ...counts }
      }),
  )

  defineCall(
    app,
    deps,
    {
      method: 'GET',
      url: '/api/v1/audit-trail',
      summary: 'The tenant’s audit trail, from the ledger; its filters are the ledger’s',
      tag: 'audit',
      permission: ['read', 'audit'],
      query: TrailQuery,
      answer: Type.Object({
        data: Type.Array(Type.Unknown()),
        next_cursor: Type.Union([Type.String(), Type.Null()]),
        count: Type.Optional(Type.Unknown()),
      }),
    },
    async ({ query }, request) => {
      await read(deps, request, { action: 'read', resource: 'audit' }, async () => undefined)
      const given = Object.entries(query).flatMap(([name, value]): [string, string][] =>
        value === undefined ? [] : [[name, String(value)]],
      )
      const path = `/api/v1/audit-trail?${new URLSearchParams(given).toString()}`
      const page = (await deps.ledger.read(path, principalOf(request).tenant).catch(asOwn)) as {
        data?: unknown[]
        next_cursor?: string | null
        count?: unknown
      }
      const { data = [], next_cursor = null, count } = page
      return { data, next_cursor, ...(count === undefined ? {} : { count }) }
    },
  )
}

/** What the ledger finds wrong with a filter is the caller's to know. */
function asOwn(error: unknown): never {
  if (error instanceof SignetError && error.code === 'LEDGER_REFUSED' && error.details?.['status'] === 400)
    throw new SignetError('REQUEST_INVALID', error.message.slice(0, 500))
  throw error
}
