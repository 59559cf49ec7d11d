import { LRUCache } from 'lru-cache'

/** A token bucket a caller; those not seen lately are forgotten, full. */
export type Limiter = { take(caller: string): boolean }

export function createLimiter(options: {
  /** Requests at once. */
  readonly burst: number
  readonly perSecond: number
  readonly maxCallers: number
  readonly nowMs: () => number
}): Limiter {
  const { burst, perSecond, nowMs } = options
  const buckets = new LRUCache<string, { tokens: number; atMs: number }>({ max: options.maxCallers })
  return {
    take(caller) {
      const now = nowMs()
      const bucket = buckets.get(caller) ?? { tokens: burst, atMs: now }
      const tokens = Math.min(burst, bucket.tokens + ((now - bucket.atMs) / 1000) * perSecond)
      const isAllowed = tokens >= 1
      buckets.set(caller, { tokens: isAllowed ? tokens - 1 : tokens, atMs: now })
      return isAllowed
    },
  }
}
