import { EMPTY_ROOT, nodeHash } from './hash.ts'
import { TILE_HEIGHT, TILE_WIDTH } from './tile.ts'

/** A full tile, as the leaves give it. `root`: the hash that stands for it one level up. */
export type RebuiltTile = {
  readonly level: number
  readonly index: number
  readonly hashes: Buffer
  readonly root: Buffer
}

/**
 * The tree once more, from its leaves, to compare with what is stored: one hash a leaf besides the leaf's own, memory for the right
 * edge only. Complete subtrees of the leaves so far are kept like the digits of a binary number, so that the root of any size costs
 * one hash a digit.
 */
export class TreeRebuild {
  /** Root of the complete subtree of 2^i leaves at the right edge; null where the size has no such digit. */
  readonly #subtrees: (Buffer | null)[] = []
  /** For each tile level, the hashes of the tile that is not full yet. */
  readonly #partial: Buffer[] = []
  readonly #atLevel: number
  #count = 0

  /** `atLevel`: adds roots of complete subtrees of 2^atLevel leaves instead of leaves; a multiple of 8. */
  constructor(atLevel = 0) {
    this.#atLevel = atLevel
  }

  /** Leaves so far. */
  get size(): number {
    return this.#count * 2 ** this.#atLevel
  }

  /** Root of the leaves so far (RFC 6962, section 2.1). */
  get root(): Buffer {
    return this.rootWith(null)
  }

  /** The root with fewer than 2^atLevel leaves more, whose own root is given; null: there are none. */
  rootWith(rest: Buffer | null): Buffer {
    let root = rest
    for (const subtree of this.#subtrees) {
      if (subtree !== null) root = root === null ? subtree : nodeHash(subtree, root)
    }
    return root ?? EMPTY_ROOT
  }

  /** Adds a leaf's hash; `onFull` gets every tile that it makes full. */
  add(hash: Buffer, onFull: (tile: RebuiltTile) => void): void {
    let node = hash
    this.#keep(0, node)
    for (let level = 0; ; level++) {
      const left = this.#subtrees[level] ?? null
      if (left === null) {
        this.#subtrees[level] = node
        break
      }
      this.#subtrees[level] = null
      node = nodeHash(left, node)
      const height = level + 1
      if (height % TILE_HEIGHT === 0) {
        this.#full(height / TILE_HEIGHT - 1, node, onFull)
        this.#keep(height / TILE_HEIGHT, node)
      }
    }
    this.#count += 1
  }

  #keep(level: number, hash: Buffer): void {
    const unit = TILE_WIDTH ** level
    const offset = Math.floor(this.#count / unit) % TILE_WIDTH
    const hashes = (this.#partial[level] ??= Buffer.alloc(TILE_WIDTH * 32))
    hash.copy(hashes, offset * 32)
  }

  #full(level: number, root: Buffer, onFull: (tile: RebuiltTile) => void): void {
    const hashes = this.#partial[level]!
    this.#partial[level] = Buffer.alloc(TILE_WIDTH * 32)
    onFull({
      level: level + this.#atLevel / TILE_HEIGHT,
      index: Math.floor(this.#count / TILE_WIDTH ** (level + 1)),
      hashes,
      root,
    })
  }
}
