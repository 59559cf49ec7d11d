import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { ERROR_CODES, type ErrorCode } from '#core/error/codes.ts'
import { SignetError } from '#core/error/signet-error.ts'

export const PROBLEM_MEDIA_TYPE = 'application/problem+json'

/** RFC 9457. `type` ends in the code; `code` is the same for those who would rather not take URLs apart. */
export type ProblemDocument = {
  type: string
  title: string
  status: number
  detail: string
  code: ErrorCode
  instance?: string
  trace_id?: string
  request_id?: string
}

export type ProblemContext = { readonly instance?: string; readonly traceId?: string; readonly requestId?: string }

/** The problem type of a code: a URI to compare; its text is in `docs/reference/errors.md`. */
export function problemType(code: ErrorCode): string {
  return `https://signet.dev/problems/${code.toLowerCase().replaceAll('_', '-')}`
}

/**
 * The problem document of any thrown value. A SignetError says what it is; anything else is INTERNAL and keeps its message to
 * the log, since nobody checked what it may hold.
 */
export function problemOf(error: unknown, context: ProblemContext = {}): ProblemDocument {
  const known = asSignetError(error)
  const code = known?.code ?? 'INTERNAL'
  return {
    type: problemType(code),
    title: ERROR_CODES[code].title,
    status: ERROR_CODES[code].status,
    detail: known?.message ?? 'Something went wrong here. The log has the reason.',
    code,
    ...(context.instance === undefined ? {} : { instance: context.instance }),
    ...(context.traceId === undefined ? {} : { trace_id: context.traceId }),
    ...(context.requestId === undefined ? {} : { request_id: context.requestId }),
  }
}

/** Makes every error and unknown route of a fastify app a problem document, never cached. */
export function useProblemResponses(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = problemOf(error, { requestId: request.id })
    if (problem.status >= 500) request.log.error({ error }, 'request failed')
    else request.log.debug({ error }, 'request refused')
    return send(reply, problem)
  })
  app.setNotFoundHandler((request: FastifyRequest, reply) => {
    const error = new SignetError('NOT_FOUND', `there is no ${request.method} ${pathOf(request.url)} here`)
    return send(reply, problemOf(error, { requestId: request.id }))
  })
}

/** For fastify's `frameworkErrors`: a request line that no route could be found for. What it holds is not repeated. */
export function answerFrameworkError(error: FastifyError, request: FastifyRequest, reply: FastifyReply): void {
  const message =
    error.code === 'FST_ERR_MAX_PARAM_LENGTH' ? 'a part of the path is too long' : 'the path is not well encoded'
  void send(reply, problemOf(new SignetError('REQUEST_INVALID', message), { requestId: request.id }))
}

function send(reply: FastifyReply, problem: ProblemDocument): FastifyReply {
  reply.status(problem.status).type(PROBLEM_MEDIA_TYPE).header('cache-control', 'no-store')
  if (problem.code === 'UNAUTHENTICATED') reply.header('www-authenticate', 'Bearer')
  // A buffer: to a string fastify adds a charset, a parameter that JSON media types do not have (RFC 8259, section 11).
  return reply.send(Buffer.from(JSON.stringify(problem)))
}

/** Without the query: it may hold what does not belong into a message. */
function pathOf(url: string): string {
  const end = url.indexOf('?')
  return (end === -1 ? url : url.slice(0, end)).slice(0, 200)
}

function asSignetError(error: unknown): SignetError | null {
  if (error instanceof SignetError) return error
  if (!(error instanceof Error)) return null
  // fastify's own refusals of a request, by its codes: their messages name the place, not the content.
  const { code, statusCode } = error as Error & { code?: unknown; statusCode?: unknown }
  if (typeof code !== 'string' || !code.startsWith('FST_ERR_') || typeof statusCode !== 'number') return null
  if (statusCode === 413) return new SignetError('PAYLOAD_TOO_LARGE', error.message)
  if (statusCode === 405) return new SignetError('METHOD_NOT_ALLOWED', error.message)
  if (statusCode >= 400 && statusCode < 500) return new SignetError('REQUEST_INVALID', error.message)
  return null
}
