import type { WallReader } from './reader.ts'
import { readLeaves, type StoredLeaf } from './tree.ts'

/** Leaves read at once, beyond what was asked for, of a tenant that was asked for just before. */
const AHEAD = 4_000
/** Tenants whose leaves are read ahead (1 MB each at most). With more, whose turn is longest ago is read as it is asked for. */
const MAX_TENANTS = 64

/** `leaves`: all there are from `first` to `last`. */
type Window = { readonly first: number; readonly last: number; readonly leaves: readonly StoredLeaf[] }

/**
 * Leaves of chains, of which many runs of a few links each are asked for in order, in fewer queries than runs. What was read ahead is
 * used for a part only where it has all of the part: what is missing in it is looked for once more, as it may have come since.
 */
export class LeafReader {
  readonly #reader: WallReader
  readonly #windows = new Map<string, Window>()

  constructor(reader: WallReader) {
    this.#reader = reader
  }

  /** As `readLeaves`. */
  async read(tenant: string, first: number, last: number): Promise<readonly StoredLeaf[]> {
    const window = this.#windows.get(tenant)
    this.#windows.delete(tenant)
    const found = window === undefined ? null : cut(window, first, last)
    if (found !== null && window !== undefined) {
      this.#keep(tenant, window)
      return found
    }
    const until = window?.last === first - 1 || covers(window, first) ? Math.max(last, first + AHEAD - 1) : last
    const leaves = await this.#reader.inTree((client) => readLeaves(client, tenant, first, until))
    this.#keep(tenant, { first, last: until, leaves })
    return until === last ? leaves : leaves.filter(({ seq }) => seq <= last)
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
function cut(window: Window, first: number, last: number): readonly StoredLeaf[] | null {
  if (!covers(window, first) || !covers(window, last)) return null
  const from = first - window.first
  const part = window.leaves.slice(from, from + last - first + 1)
  const isWhole =
    part.length === last - first + 1 &&
    part.every(({ seq }, index) => seq === first + index) &&
    window.leaves[from - 1]?.seq !== first &&
    window.leaves[from + part.length]?.seq !== last
  return isWhole ? part : null
}
