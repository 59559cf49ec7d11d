import type { IncomingMessage, ServerResponse } from 'node:http'
import { SignetError } from '#core/error/signet-error.ts'

export type BigBodies = {
  /** Counts a request whose body has so many bytes until its answer has gone. @throws SignetError OVERLOADED where there is no room */
  take(bytes: number, request: IncomingMessage, response: ServerResponse): void
}

/** The API server sends a review at once; whoever needs longer gives way. */
const PATIENCE_MS = 1_000

/**
 * Bytes of big requests that may be in memory at once, by what their senders declare: anybody may send some, and never end them. Where there is no
 * room for another, those are cut off whose bodies have been coming for more than a second, the oldest first.
 */
export function createBigBodies(maxBytes: number, monotonicMs: () => number): BigBodies {
  let underWay = 0
  const coming = new Map<IncomingMessage, { readonly sinceMs: number; readonly drop: () => void }>()
  return {
    take(bytes, request, response) {
      const before = monotonicMs() - PATIENCE_MS
      for (const { sinceMs, drop } of coming.values()) {
        if (underWay + bytes <= maxBytes || sinceMs > before) break
        drop()
      }
      if (underWay + bytes > maxBytes)
        throw new SignetError('OVERLOADED', 'too many big reviews are under way; try again in a few seconds')
      underWay += bytes
      let isCounted = true
      const release = (): void => {
        coming.delete(request)
        if (isCounted) underWay -= bytes
        isCounted = false
      }
      const drop = (): void => {
        release()
        request.socket.destroy()
      }
      coming.set(request, { sinceMs: monotonicMs(), drop })
      request.once('end', () => coming.delete(request))
      response.once('close', release)
    },
  }
}
