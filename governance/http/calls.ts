import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Static, TObject, TSchema } from 'typebox'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { parseTraceParent } from '#core/trace/traceparent.ts'
import type { ActionRunner, Change, Rights } from '../actions/runner.ts'
import type { Authenticate } from '../access/authenticate.ts'
import type { DenialBudget } from '../access/denial-budget.ts'
import type { Action, Resource } from '../access/permission.ts'
import { permissionsOf, requireExtent, type Needed, type Principal } from '../access/principal.ts'
import { Problem } from './schemas.ts'

export type CallDeps = {
  readonly authenticate: Authenticate
  readonly denials: DenialBudget
  readonly pool: Pool
  readonly runner: ActionRunner
  readonly newId: () => string
  readonly clock: () => Date
}

type Description = {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE'
  readonly url: string
  readonly summary: string
  readonly tag: string
  /** What it takes; `signed-in`: a token alone, `public`: nothing. */
  readonly permission: readonly [Action, Resource] | 'signed-in' | 'public'
  readonly params?: TObject
  readonly query?: TObject
  readonly body?: TSchema
  /** Media types of a body that is no JSON. */
  readonly consumes?: readonly string[]
  /** Of the answer; null: 204, nothing. */
  readonly answer: TSchema | null
  readonly status?: 200 | 201 | 202
  /** Of an answer that is no JSON: the handler gives its bytes, or null where it set a status without any. */
  readonly mediaType?: string
}
type Part<S> = S extends TSchema ? Static<S> : undefined
type Input<D extends Description> = {
  readonly params: Part<D['params']>
  readonly query: Part<D['query']>
  readonly body: Part<D['body']>
}
type Answer<D extends Description> = D['answer'] extends TSchema ? Static<D['answer']> : void

const PROBLEM = 'What was wrong, where, and what is allowed.'
const principals = new WeakMap<FastifyRequest, Principal>()

/** One call of the API: what the OpenAPI document says of it, what it takes, and what it does are in one place. */
export function defineCall<const D extends Description>(
  app: FastifyInstance,
  { authenticate, denials }: Pick<CallDeps, 'authenticate' | 'denials'>,
  call: D,
  handler: (input: Input<D>, request: FastifyRequest, reply: FastifyReply) => Promise<Answer<D>>,
): void {
  const { method, url, summary, tag, permission, params, query, body, consumes, answer, mediaType } = call
  const status = answer === null ? 204 : (call.status ?? 200)
  const scope = typeof permission === 'string' ? permission : permission.join(':')
  app.route({
    method,
    url,
    schema: {
      summary,
      description: permission === 'public' ? '' : `Permission: \`${scope}\`.`,
      tags: [tag],
      security: permission === 'public' ? [] : [{ bearer: [] }],
      ...(params === undefined ? {} : { params }),
      ...(query === undefined ? {} : { querystring: query }),
      ...(body === undefined ? {} : { body }),
      ...(consumes === undefined ? {} : { consumes: [...consumes] }),
      response: {
        [status]:
          mediaType === undefined
            ? (answer ?? { type: 'null', description: 'Done.' })
            : { description: 'Its bytes.', content: { [mediaType]: { schema: answer } } },
        default: { description: PROBLEM, content: { 'application/problem+json': { schema: Problem } } },
      },
    },
    onRequest: async (request) => {
      if (permission === 'public') return
      const principal = await authenticate(request.headers.authorization)
      denials.require(principal)
      principals.set(request, principal)
    },
    handler: async (request, reply) => {
      const input = { params: request.params, query: request.query, body: request.body } as Input<D>
      const result = await handler(input, request, reply).catch((error: unknown) => {
        const principal = principals.get(request)
        if (principal !== undefined && error instanceof SignetError && error.code === 'FORBIDDEN')
          denials.count(principal)
        throw error
      })
      if (mediaType !== undefined) {
        reply.header('cache-control', 'private, no-cache')
        return result === null ? reply.send() : reply.type(mediaType).send(result)
      }
      reply.status(status).header('cache-control', 'no-store')
      if (answer === null) return reply.send()
      // A buffer: to a string fastify adds a charset, which JSON has no parameter for (RFC 8259, section 11).
      return reply.type('application/json').send(Buffer.from(JSON.stringify(result)))
    },
  })
}

/** Who asks. For calls that are not `public`. */
export function principalOf(request: FastifyRequest): Principal {
  const principal = principals.get(request)
  if (principal === undefined) throw new SignetError('UNAUTHENTICATED', 'the request was not authenticated')
  return principal
}

export type Target = Needed & { readonly id?: string }

/** Reads with the rights of the one who asks, in one transaction. A denial is in the log before it is answered. */
export async function read<T>(
  deps: CallDeps,
  request: FastifyRequest,
  target: Target,
  look: (client: Client, rights: Rights) => Promise<T>,
): Promise<T> {
  const principal = principalOf(request)
  try {
    return await withTenant(
      deps.pool,
      principal.tenant,
      async (client) => {
        const permissions = await permissionsOf(client, principal, false)
        const extent = requireExtent(principal, permissions, target)
        return look(client, { principal, tenant: principal.tenant, permissions, extent })
      },
      { readOnly: true },
    )
  } catch (error) {
    if (error instanceof SignetError && error.code === 'FORBIDDEN')
      await deps.runner.deny(asAction(request, principal, target, null), error)
    throw error
  }
}

/** Changes something, by way of the runner. `wanted`: what is asked for, as the log shall hold it. */
export function write<T>(
  deps: CallDeps,
  request: FastifyRequest,
  target: Target,
  wanted: AuditEvent['after'],
  change: (client: Client, rights: Rights) => Promise<Change<T>>,
): Promise<T> {
  return deps.runner.run(asAction(request, principalOf(request), target, wanted), change)
}

export function traceOf(request: FastifyRequest): string {
  const header = request.headers['traceparent']
  return (typeof header === 'string' ? parseTraceParent(header)?.traceId : undefined) ?? newTraceId()
}

function asAction(request: FastifyRequest, principal: Principal, target: Target, wanted: AuditEvent['after']) {
  const { action, resource, id, ownCounts = false } = target
  const traceId = traceOf(request)
  return { principal, action, resource, ownCounts, resourceId: id ?? null, wanted, traceId, requestId: request.id }
}

/** @throws SignetError NOT_FOUND: it is not there, or it is another tenant's, which is not told apart */
export function found<T>(row: T | null, what: string): T {
  if (row === null) throw new SignetError('NOT_FOUND', `there is no such ${what}`)
  return row
}

/** @throws SignetError CONFLICT: somebody else changed it meanwhile */
export function requireVersion(row: { readonly version: number }, wanted: number | undefined): void {
  if (wanted !== undefined && wanted !== row.version)
    throw new SignetError('CONFLICT', `it was changed meanwhile: this is version ${row.version}, not ${wanted}`)
}
