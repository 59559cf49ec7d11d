import { LRUCache } from 'lru-cache'
import { inclusionProof } from '#core/tree/proof.ts'
import { tileNodes, TILE_WIDTH, type Tile } from '#core/tree/tile.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Client, Pool } from '#runtime/postgres/transaction.ts'
import { readTile, withTree } from '../store/tree.ts'
import type { TreeEdge } from '../tree/edge.ts'
import { readEdge } from '../tree/integrator.ts'

/** Tiles in memory, of 8 KiB each: those of the levels above are few, those below follow each other. */
const MAX_TILES = 512
/** Nodes in memory: a path shares nearly all of its nodes with the one before, and each costs up to 127 hashes to compute from its tile. */
const MAX_NODES = 16_384

/** Inclusion paths in the tree of one size, for many leaves one after the other. */
export class ProofReader {
  readonly #wall: Pool
  readonly #size: number
  readonly #edge: TreeEdge
  readonly #tiles = new LRUCache<string, Buffer>({ max: MAX_TILES })
  readonly #nodes = new LRUCache<string, Buffer>({ max: MAX_NODES })

  private constructor(wall: Pool, size: number, edge: TreeEdge) {
    this.#wall = wall
    this.#size = size
    this.#edge = edge
  }

  static async open(wall: Pool, size: number): Promise<ProofReader> {
    const edge = await withTree(wall, (client) => readEdge(client, size), { readOnly: true })
    return new ProofReader(wall, size, edge)
  }

  /** Paths of the leaves, in their order. @throws SignetError CHAIN_BROKEN where a tile is missing */
  paths(leaves: readonly number[]): Promise<Buffer[][]> {
    return withTree(
      this.#wall,
      async (client) => {
        const paths: Buffer[][] = []
        for (const leaf of leaves) paths.push(await this.#path(client, leaf))
        return paths
      },
      { readOnly: true },
    )
  }

  async #path(client: Client, leaf: number): Promise<Buffer[]> {
    // Proofs are computed without waiting, so that a dry run finds which tiles are missing.
    for (;;) {
      const missing = new Map<string, Tile>()
      const read = tileNodes(this.#size, (tile) => {
        if (tile.width < TILE_WIDTH) return this.#edge.partial(tile.level)
        const key = `${tile.level}/${tile.index}`
        const bytes = this.#tiles.get(key)
        if (bytes === undefined) missing.set(key, tile)
        return bytes ?? Buffer.alloc(TILE_WIDTH * 32)
      })
      const path = inclusionProof(leaf, this.#size, (level, node) => {
        const key = `${level}/${node}`
        const known = this.#nodes.get(key)
        if (known !== undefined) return known
        const hash = read(level, node)
        // A tile that is missing reads as zeros: what comes of it is thrown away.
        if (missing.size === 0) this.#nodes.set(key, hash)
        return hash
      })
      if (missing.size === 0) return path
      for (const [key, { level, index }] of missing) {
        const bytes = await readTile(client, Number(level), index)
        if (bytes === null) throw new SignetError('CHAIN_BROKEN', `the full tile ${index} of level ${level} is missing`)
        this.#tiles.set(key, bytes)
      }
    }
  }
}
