import { EMPTY_ROOT, nodeHash, writeNodeHash } from './hash.ts'
import { TILE_HEIGHT, TILE_WIDTH } from './tile.ts'

const HASH_BYTES = 32
/** Of a tree with as many leaves as there are safe integers. */
const MAX_LEVELS = 64

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
  /** Root of the complete subtree of 2^i leaves at the right edge, where the size has such a digit. */
  readonly #subtrees = Buffer.alloc(MAX_LEVELS * HASH_BYTES)
  readonly #hasSubtree = new Uint8Array(MAX_LEVELS)
  readonly #node = Buffer.alloc(HASH_BYTES)
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
    for (let level = 0; level < MAX_LEVELS; level++) {
      if (this.#hasSubtree[level] === 0) continue
      const subtree = this.#subtrees.subarray(level * HASH_BYTES, (level + 1) * HASH_BYTES)
      root = root === null ? Buffer.from(subtree) : nodeHash(subtree, root)
    }
    return root ?? EMPTY_ROOT
  }

  /** Adds a leaf's hash; `onFull` gets every tile that it makes full. */
  add(hash: Buffer, onFull: (tile: RebuiltTile) => void): void {
    this.addAt(hash, 0, onFull)
  }

  /** As `add`, of the hash that begins at `at`. */
  addAt(hashes: Uint8Array, at: number, onFull: (tile: RebuiltTile) => void): void {
    const node = this.#node
    copyHash(hashes, at, node, 0)
    this.#keep(0, node)
    for (let level = 0; ; level++) {
      const place = level * HASH_BYTES
      if (this.#hasSubtree[level] === 0) {
        this.#hasSubtree[level] = 1
        copyHash(node, 0, this.#subtrees, place)
        break
      }
      this.#hasSubtree[level] = 0
      writeNodeHash(this.#subtrees, place, node, 0, node, 0)
      const height = level + 1
      if (height % TILE_HEIGHT === 0) {
        this.#full(height / TILE_HEIGHT - 1, Buffer.from(node), onFull)
        this.#keep(height / TILE_HEIGHT, node)
      }
    }
    this.#count += 1
  }

  #keep(level: number, hash: Buffer): void {
    const unit = TILE_WIDTH ** level
    const offset = Math.floor(this.#count / unit) % TILE_WIDTH
    const hashes = (this.#partial[level] ??= Buffer.alloc(TILE_WIDTH * HASH_BYTES))
    copyHash(hash, 0, hashes, offset * HASH_BYTES)
  }

  #full(level: number, root: Buffer, onFull: (tile: RebuiltTile) => void): void {
    const hashes = this.#partial[level]!
    this.#partial[level] = Buffer.alloc(TILE_WIDTH * HASH_BYTES)
    onFull({
      level: level + this.#atLevel / TILE_HEIGHT,
      index: Math.floor(this.#count / TILE_WIDTH ** (level + 1)),
      hashes,
      root,
    })
  }
}

function copyHash(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number): void {
  for (let index = 0; index < HASH_BYTES; index++) to[toAt + index] = from[fromAt + index] as number
}
