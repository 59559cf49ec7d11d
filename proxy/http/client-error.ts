import type { Socket } from 'node:net'
import { SignetError } from '#core/error/signet-error.ts'
import { problemOf, PROBLEM_MEDIA_TYPE } from '#runtime/http/problem.ts'

const REASONS: Record<number, string> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  431: 'Request Header Fields Too Large',
}

/**
 * Answers what the HTTP parser refused before there was a request: a problem document, then the connection is closed, as its framing cannot be
 * trusted any more (RFC 9112 §2.2, §11.2). There is nothing to decide on, so nothing is audited.
 */
export function answerClientError(
  error: Error & { code?: string },
  socket: Pick<Socket, 'writable' | 'bytesWritten' | 'end' | 'destroy'>,
): void {
  // Something of an answer has left already, or nobody is there: a second head would be read as its body.
  if (!socket.writable || error.code === 'ECONNRESET' || socket.bytesWritten > 0) {
    socket.destroy()
    return
  }
  const refusal = refusalOf(error.code)
  const body = `${JSON.stringify(problemOf(refusal))}\n`
  socket.end(
    `HTTP/1.1 ${refusal.status} ${REASONS[refusal.status] ?? 'Error'}\r\ncontent-type: ${PROBLEM_MEDIA_TYPE}\r\ncache-control: no-store\r\n` +
      `connection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
}

function refusalOf(code: string | undefined): SignetError {
  switch (code) {
    case 'HPE_HEADER_OVERFLOW':
      return new SignetError('REQUEST_HEAD_TOO_LARGE', 'The request head is larger than SIGNET_MAX_HEADER_BYTES')
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new SignetError('REQUEST_TIMEOUT', 'The request did not arrive in time')
    default:
      return new SignetError('REQUEST_INVALID', 'The request is not well-formed HTTP/1.1')
  }
}
