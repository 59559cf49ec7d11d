import { LRUCache } from 'lru-cache'
import type { Blobs } from './blobs.ts'

/** Keeps what was read last, up to `maxBytes`; reads of one blob at the same time are one read. */
export function cachedBlobs(blobs: Blobs, maxBytes: number): Blobs {
  const kept = new LRUCache<string, Buffer>({ maxSize: maxBytes, sizeCalculation: (bytes) => bytes.length + 200 })
  const underWay = new Map<string, Promise<Buffer>>()
  return {
    ...blobs,
    get(sha256) {
      const found = kept.get(sha256)
      if (found !== undefined) return Promise.resolve(found)
      const running = underWay.get(sha256)
      if (running !== undefined) return running
      const started = blobs
        .get(sha256)
        .then((bytes) => {
          kept.set(sha256, bytes)
          return bytes
        })
        .finally(() => underWay.delete(sha256))
      underWay.set(sha256, started)
      return started
    },
  }
}
