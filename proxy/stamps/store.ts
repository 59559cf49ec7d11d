import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { Channel } from '#core/stamp/schema.ts'

/** A stamp as served: its exact JCS bytes and what scopes it. */
export type StoredStamp = {
  readonly jcs: string
  readonly hash: string
  readonly channel: Channel
  readonly tenant: string
}

/** Where stamps are that this replica has not in memory: the ledger. Null: it does not know the stamp either. */
export type StampArchive = {
  fetchStamp(hash: string): Promise<Buffer | null>
  fetchRequestStamp(requestId: string): Promise<Buffer | null>
}

/**
 * Stamps issued by this proxy, bounded by bytes; the ledger has them all. Holding the hash authorises, within tenant and channel:
 * a stamp of the internal channel is not served on the external one.
 */
export class StampStore {
  readonly #byHash: LRUCache<string, StoredStamp>
  readonly #byRequest: LRUCache<string, string>

  constructor(maxBytes: number) {
    this.#byHash = new LRUCache({ maxSize: maxBytes, sizeCalculation: (stored) => stored.jcs.length + 200 })
    // Two ids and an entry are about 200 bytes.
    this.#byRequest = new LRUCache({ max: Math.max(1, Math.floor(maxBytes / 1_500)) })
  }

  add(requestId: string | null, stored: StoredStamp): void {
    this.#byHash.set(stored.hash, stored)
    if (requestId !== null) this.#byRequest.set(requestId, stored.hash)
  }

  byHash(hash: string): StoredStamp | null {
    return this.#byHash.get(hash) ?? null
  }

  byRequest(requestId: string): StoredStamp | null {
    const hash = this.#byRequest.get(requestId)
    return hash === undefined ? null : this.byHash(hash)
  }
}

export const STAMP_HASH = /^sha256:[0-9a-f]{64}$/

/** Throws NOT_FOUND, the same for unknown as for out of scope, so that nothing is learnt from the difference. */
export function stampNotFound(what: string): SignetError {
  return new SignetError('NOT_FOUND', `No stamp ${what} is known for this tenant and channel`)
}
