import { CopyArena } from './copy.ts'
import type { WallReader } from './reader.ts'
import { readLeaves, type StoredLeaves } from './tree.ts'

/** Leaves read at once, beyond what was asked for, of a tenant that was asked for just before. */
const AHEAD = 4_000
/** Tenants whose leaves are read ahead (200 KB each at most). With more, whose turn is longest ago is read as it is asked for. */
const MAX_TENANTS = 64
const HASH_BYTES = 32

/** `leaves`: all there are from `first` to `last`. */
type Window = { readonly first: number; readonly last: number; readonly leaves: StoredLeaves }

/**
 * Leaves of chains, of which many runs of a few links each are asked for in order, in fewer queries than runs. What was read ahead is
 * used for a part only where it has all of the part: what is missing in it is looked for once more, as it may have come since.
 */
export class LeafReader {
  readonly #reader: WallReader
  readonly #windows = new Map<string, Window>()
  readonly #arena = new CopyArena()

  constructor(reader: WallReader) {
    this.#reader = reader
  }

  /** As `readLeaves`. One call at a time. */
  async read(tenant: string, first: number, last: number): Promise<StoredLeaves> {
    const window = this.#windows.get(tenant)
    this.#windows.delete(tenant)
    const found = window === undefined ? null : cut(window, first, last)
    if (found !== null && window !== undefined) {
      this.#keep(tenant, window)
      return found
    }
    const until = window?.last === first - 1 || covers(window, first) ? Math.max(last, first + AHEAD - 1) : last
    const leaves = await this.#reader.inTree((client) => readLeaves(client, tenant, first, until, this.#arena))
    this.#keep(tenant, { first, last: until, leaves })
    return until === last ? leaves : upTo(leaves, last)
  }

  #keep(tenant: string, window: Window): void {
    this.#windows.set(tenant, window)
    if (this.#windows.size <= MAX_TENANTS) return
    const oldest = this.#windows.keys().next()
    if (oldest.done !== true) this.#windows.delete(oldest.value)
  }
}

function covers(window: Window | undefined, seq: number): boolean {
  return window !== undefined && window.first <= seq && seq <= window.last
}

/** The leaves of a part; null where the window does not have them one for one, as they are in a sound store. */
function cut(window: Window, first: number, last: number): StoredLeaves | null {
  if (!covers(window, first) || !covers(window, last)) return null
  const { seqs } = window.leaves
  const from = first - window.first
  const to = from + last - first + 1
  if (to > seqs.length || seqs[from - 1] === first || seqs[to] === last) return null
  for (let index = from; index < to; index++) if (seqs[index] !== first + index - from) return null
  return part(window.leaves, from, to)
}

function upTo(leaves: StoredLeaves, last: number): StoredLeaves {
  let to = leaves.seqs.length
  while (to > 0 && (leaves.seqs[to - 1] as number) > last) to--
  return part(leaves, 0, to)
}

function part({ seqs, hashes }: StoredLeaves, from: number, to: number): StoredLeaves {
  return { seqs: seqs.subarray(from, to), hashes: hashes.subarray(from * HASH_BYTES, to * HASH_BYTES) }
}
