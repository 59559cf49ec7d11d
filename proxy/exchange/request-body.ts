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

const LINGER_MS = 5_000

/**
 * Resolves when a request that was answered early has arrived, or the client is gone, or does not stop: a connection that is closed
 * while the client still sends would be reset, and the answer lost with it (RFC 9112 §9.6).
 */
export function requestArrived(request: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, LINGER_MS)
    request.once('close', () => {
      clearTimeout(timer)
      resolve()
    })
    request.once('end', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
