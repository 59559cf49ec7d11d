import type { FastifyInstance, FastifyRequest } from 'fastify'
import { SignetError } from '#core/error/signet-error.ts'

/** The ledger signs over exact bytes: fastify must not parse, coerce or complete anything. */
export function takeRawBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  app.addContentTypeParser(
    ['application/x-ndjson', 'application/json'],
    { parseAs: 'buffer' },
    (_request: FastifyRequest, body: Buffer, done: (error: Error | null, body?: Buffer) => void) => done(null, body),
  )
}

/** @throws SignetError REQUEST_INVALID */
export function bodyOf(request: FastifyRequest): Buffer {
  if (Buffer.isBuffer(request.body)) return request.body
  throw new SignetError('REQUEST_INVALID', 'the request has no body')
}

/** @throws SignetError REQUEST_INVALID */
export function refuseEncoding(request: FastifyRequest): void {
  const encoding = request.headers['content-encoding']
  if (encoding !== undefined && encoding !== 'identity') {
    throw new SignetError('REQUEST_INVALID', 'Content-Encoding is not accepted here; send the body as it is')
  }
}

/** What a validator found first: a path and a rule of ours, no values. */
export function invalidBody(fault: { instancePath: string; message: string } | undefined): SignetError {
  return new SignetError(
    'REQUEST_INVALID',
    `the body is not valid: ${fault?.instancePath || '/'} ${fault?.message ?? ''}`.trim(),
  )
}
