import { nodeHash } from '#core/tree/hash.ts'
import { rootHash } from '#core/tree/proof.ts'
import { tileNodes, TILE_WIDTH, type Tile } from '#core/tree/tile.ts'

/** `root`: the hash that stands for the tile one level up. */
export type FullTile = {
  readonly level: number
  readonly index: number
  readonly hashes: Buffer
  readonly root: Buffer
}

/**
 * The right edge of a growing tree: for each level the hashes of the tile that is not full yet, fewer than 256. All that is needed to
 * add leaves and to know the root.
 */
export class TreeEdge {
  #size: number
  readonly #levels: Buffer[][]

  /** `levels`: hashes of the partial tile of each level. */
  constructor(size = 0, levels: readonly (readonly Buffer[])[] = []) {
    this.#size = size
    this.#levels = levels.map((hashes) => [...hashes])
  }

  get size(): number {
    return this.#size
  }

  get root(): Buffer {
    return rootHash(
      this.#size,
      tileNodes(this.#size, ({ level }) => this.partial(level)),
    )
  }

  /** Bytes of the partial tile of a level; empty where there is none. */
  partial(level: number): Buffer {
    return Buffer.concat(this.#levels[level] ?? [])
  }

  copy(): TreeEdge {
    return new TreeEdge(this.#size, this.#levels)
  }

  /** Adds a leaf's hash; gives the tiles that it makes full. */
  add(leafHash: Buffer): FullTile[] {
    const full: FullTile[] = []
    let hash = leafHash
    for (let level = 0, unit = 1; ; level++, unit *= TILE_WIDTH) {
      const hashes = (this.#levels[level] ??= [])
      hashes.push(hash)
      if (hashes.length < TILE_WIDTH) break
      const bytes = Buffer.concat(hashes)
      hash = tileRoot(bytes)
      full.push({ level, index: Math.floor(this.#size / (unit * TILE_WIDTH)), hashes: bytes, root: hash })
      this.#levels[level] = []
    }
    this.#size += 1
    return full
  }
}

/** Root of a full tile: the hash that stands for it one level up. */
function tileRoot(hashes: Buffer): Buffer {
  let row = Array.from({ length: hashes.length / 32 }, (_, i) => hashes.subarray(i * 32, (i + 1) * 32))
  while (row.length > 1) row = Array.from({ length: row.length / 2 }, (_, i) => nodeHash(row[2 * i]!, row[2 * i + 1]!))
  return row[0]!
}

/** How many hashes the partial tile of each level has in a tree of `size` leaves, from level 0 up. */
export function partialTiles(size: number): (Tile & { readonly level: number })[] {
  const tiles: (Tile & { readonly level: number })[] = []
  for (let level = 0, rest = size; rest > 0; level++, rest = Math.floor(rest / TILE_WIDTH)) {
    tiles.push({ level, index: Math.floor(rest / TILE_WIDTH), width: rest % TILE_WIDTH })
  }
  return tiles
}
