import type { IncomingMessage } from 'node:http'
import { PassThrough, type Readable } from 'node:stream'

/**
 * The body of a request for undici, which destroys it when the exchange ends before it is sent: a service that cannot be reached,
 * or answers early. Destroying the request itself would take the client's connection with it, and the answer. What is left of
 * it then is read and dropped, so that the connection stays usable (RFC 9112 §9.3).
 */
export function detachedBody(request: IncomingMessage): Readable {
  const body = new PassThrough()
  body.on('error', () => {})
  body.once('close', () => {
    request.unpipe(body)
    request.resume()
  })
  request.pipe(body)
  return body
}
