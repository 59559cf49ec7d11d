import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import { TILE_WIDTH, tilePath, type Tile } from '#core/tree/tile.ts'
import type { StoredCheckpoint } from '../store/tree.ts'

/** The signed tree as anybody may read it. */
export type TreeSource = {
  checkpoint(): Promise<StoredCheckpoint | null>
  /** @throws SignetError NOT_FOUND past the signed size */
  tile(tile: Tile): Promise<Buffer>
}

/** Tiles that are read from the database at a time: nobody has to say who he is, and events need the connections. */
export const MAX_READS = 1
export const MAX_WAITING = 64
const CACHE_BYTES = 8 * 1024 * 1024

/**
 * Stands between the world and the database. A tile never changes, so it is read once and kept; a checkpoint is read one at a time, for
 * all that asked before the read began. @throws SignetError LEDGER_BUSY from `tile` when too many wait
 */
export function createPublicTree(source: TreeSource): TreeSource {
  const kept = new LRUCache<string, Buffer>({ maxSize: CACHE_BYTES, sizeCalculation: (bytes) => bytes.length })
  const underWay = new Map<string, Promise<Buffer>>()
  const waiting: (() => void)[] = []
  let reads = 0

  async function read(tile: Tile, path: string): Promise<Buffer> {
    if (reads < MAX_READS) reads += 1
    else if (waiting.length < MAX_WAITING) await new Promise<void>((resolve) => waiting.push(resolve))
    else throw new SignetError('LEDGER_BUSY', 'too many tiles are asked for; try again shortly')
    try {
      const bytes = await source.tile(tile)
      kept.set(path, bytes)
      return bytes
    } finally {
      // The place goes to whoever waits longest.
      const next = waiting.shift()
      if (next === undefined) reads -= 1
      else next()
    }
  }

  return {
    checkpoint: readTogether(() => source.checkpoint()),
    async tile(tile) {
      const path = tilePath(tile)
      const known = kept.get(path)
      if (known !== undefined) return known
      const whole = kept.get(tilePath({ ...tile, width: TILE_WIDTH }))
      if (whole !== undefined) return whole.subarray(0, (whole.length / TILE_WIDTH) * tile.width)
      const running = underWay.get(path)
      if (running !== undefined) return running
      const started = read(tile, path).finally(() => underWay.delete(path))
      underWay.set(path, started)
      return started
    },
  }
}

/** One call at a time. Who asks during a call gets the answer of the next one, never of one that began before. */
function readTogether<T>(read: () => Promise<T>): () => Promise<T> {
  let current: Promise<unknown> | null = null
  let next: Promise<T> | null = null
  function start(): Promise<T> {
    const started = read()
    const settled = started.then(
      () => undefined,
      () => undefined,
    )
    current = settled
    void settled.finally(() => {
      if (current === settled) current = null
    })
    return started
  }
  return () => {
    if (current === null) return start()
    next ??= current.then(() => {
      next = null
      return start()
    })
    return next
  }
}
