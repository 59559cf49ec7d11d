import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { StampArchive } from './store.ts'

const MAX_CONCURRENT = 16
const MISSING_TTL_MS = 5_000

/**
 * Bounds what strangers can make us ask the ledger: so many look-ups at once (503 past it), and what it did not know a moment ago is
 * not asked for again. Give it a client of its own, so that look-ups never hold up audit events.
 */
export function boundedArchive(archive: StampArchive): StampArchive {
  const missing = new LRUCache<string, true>({ max: 10_000, ttl: MISSING_TTL_MS })
  let underWay = 0
  const bounded = async (key: string, fetch: () => Promise<Buffer | null>): Promise<Buffer | null> => {
    if (missing.has(key)) return null
    if (underWay >= MAX_CONCURRENT)
      throw new SignetError('OVERLOADED', 'Too many stamps are being looked up; try again shortly')
    underWay += 1
    try {
      const found = await fetch()
      if (found === null) missing.set(key, true)
      return found
    } finally {
      underWay -= 1
    }
  }
  return {
    fetchStamp: (hash) => bounded(hash, () => archive.fetchStamp(hash)),
    fetchRequestStamp: (requestId) => bounded(requestId, () => archive.fetchRequestStamp(requestId)),
  }
}
