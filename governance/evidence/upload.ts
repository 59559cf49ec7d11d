import type { IncomingMessage } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'

const MAX_AT_ONCE = 4

/**
 * The body of a request, in memory. What is too long is refused before it is read where the request says so, and else once it is too long.
 * @throws SignetError PAYLOAD_TOO_LARGE, REQUEST_INVALID (nothing came, or it broke off)
 */
export async function readUpload(request: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const tooLarge = new SignetError('PAYLOAD_TOO_LARGE', `a file may have ${maxBytes} bytes at most`)
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge
  const chunks: Buffer[] = []
  let length = 0
  try {
    // What is left unread is discarded after the answer, so that there is one.
    for await (const chunk of request.iterator({ destroyOnReturn: false })) {
      length += (chunk as Buffer).length
      if (length > maxBytes) throw tooLarge
      chunks.push(chunk as Buffer)
    }
  } catch (cause) {
    if (cause instanceof SignetError) throw cause
    throw new SignetError('REQUEST_INVALID', 'the body broke off', { cause })
  }
  if (length === 0) throw new SignetError('REQUEST_INVALID', 'the body is empty; it has to be the file')
  return Buffer.concat(chunks, length)
}

/** Files are in memory while they come and go: only so many at once. */
export class FileGate {
  #inside = 0

  /** @throws SignetError OVERLOADED */
  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.#inside >= MAX_AT_ONCE)
      throw new SignetError('OVERLOADED', `${MAX_AT_ONCE} files are on their way already; try again in a moment`)
    this.#inside++
    try {
      return await work()
    } finally {
      this.#inside--
    }
  }
}
