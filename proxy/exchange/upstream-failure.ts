import { SignetError } from '#core/error/signet-error.ts'

const TIMEOUTS = new Set(['UND_ERR_HEADERS_TIMEOUT', 'UND_ERR_BODY_TIMEOUT', 'UND_ERR_CONNECT_TIMEOUT', 'ETIMEDOUT'])
const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'ENOENT',
  'EACCES',
])
const REQUEST = new Set(['UND_ERR_INVALID_ARG', 'UND_ERR_NOT_SUPPORTED', 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'])

function codeOf(error: unknown): string {
  const code = (error as { code?: unknown }).code
  if (typeof code === 'string') return code
  const inner = error instanceof AggregateError ? error.errors[0] : (error as { cause?: unknown }).cause
  return inner === undefined ? '' : codeOf(inner)
}

/** What undici says of a failed exchange, in our words and with one code. */
export function upstreamFailure(error: Error): SignetError {
  if (error instanceof SignetError) return error
  const code = codeOf(error)
  if (TIMEOUTS.has(code))
    return new SignetError('UPSTREAM_TIMEOUT', 'The service behind the proxy did not answer in time', { cause: error })
  if (UNREACHABLE.has(code)) {
    return new SignetError(
      'UPSTREAM_UNREACHABLE',
      `The service behind the proxy cannot be reached (${code}); is it running, and is SIGNET_UPSTREAM right?`,
      {
        cause: error,
      },
    )
  }
  if (REQUEST.has(code))
    return new SignetError(
      'REQUEST_INVALID',
      'The request cannot be passed on: its target, a header or its length is malformed',
      { cause: error },
    )
  return new SignetError(
    'UPSTREAM_INVALID',
    'The service behind the proxy broke off, or answered something that is not HTTP',
    { cause: error },
  )
}

/** A connection that died under a request which may safely be sent again (RFC 9110 §9.2.2). */
export function worthRetrying(method: string, error: Error): boolean {
  const code = codeOf(error)
  return (
    (method === 'GET' || method === 'HEAD' || method === 'OPTIONS') &&
    (code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || code === 'EPIPE')
  )
}
