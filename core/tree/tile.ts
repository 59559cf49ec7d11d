import { SignetError } from '../error/signet-error.ts'
import { nodeHash } from './hash.ts'
import type { NodeReader } from './proof.ts'

/** Tiles are 8 levels high (https://c2sp.org/tlog-tiles): 256 hashes of 32 bytes when full. */
export const TILE_HEIGHT = 8
export const TILE_WIDTH = 256
/** With 256 leaves a tile, 2^53 leaves need levels 0 to 6. */
const MAX_LEVEL = 6

/** A tile: hashes `index * 256` and following, `width` of them, of tree level `8 * level`. `entries` holds leaves, not hashes. */
export type Tile = { readonly level: number | 'entries'; readonly index: number; readonly width: number }

/** `tile/0/x001/x234/067.p/8` for level 0, index 1234067, width 8. */
export function tilePath({ level, index, width }: Tile): string {
  const groups = [String(index % 1000).padStart(3, '0')]
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    groups.unshift(`x${String(rest % 1000).padStart(3, '0')}`)
  }
  return `tile/${level}/${groups.join('/')}${width === TILE_WIDTH ? '' : `.p/${width}`}`
}

const TILE_PATH = /^tile\/(entries|\d)\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/

/** Reads a path without leading slash. @throws SignetError NOT_FOUND for anything that `tilePath` would not write */
export function parseTilePath(path: string): Tile {
  const match = TILE_PATH.exec(path)
  if (match !== null) {
    const [, level = '', groups = '', partial] = match
    const tile: Tile = {
      level: level === 'entries' ? level : Number(level),
      index: Number(groups.replaceAll(/[x/]/g, '')),
      width: partial === undefined ? TILE_WIDTH : Number(partial),
    }
    const known = tile.level === 'entries' || tile.level <= MAX_LEVEL
    if (known && Number.isSafeInteger(tile.index) && tilePath(tile) === path) return tile
  }
  throw new SignetError(
    'NOT_FOUND',
    'no such tile; a path is tile/LEVEL/INDEX or tile/LEVEL/INDEX.p/WIDTH (c2sp.org/tlog-tiles)',
  )
}

/** The tiles of the hashes of a tree of `size` leaves, full ones and at most one partial one for each level, that a tree of `oldSize` has not. */
export function newTiles(oldSize: number, size: number): Tile[] {
  const tiles: Tile[] = []
  for (let level = 0, unit = 1; level <= MAX_LEVEL && size >= unit; level++, unit *= TILE_WIDTH) {
    const [before, after] = [Math.floor(oldSize / unit), Math.floor(size / unit)]
    if (before === after) continue
    for (let index = Math.floor(before / TILE_WIDTH); index * TILE_WIDTH < after; index++) {
      tiles.push({ level, index, width: Math.min(TILE_WIDTH, after - index * TILE_WIDTH) })
    }
  }
  return tiles
}

/**
 * Reads nodes from the tiles of a tree of `size` leaves. `readTile` gives a tile's bytes, 32 for each of its `width` hashes; inner levels
 * of a tile are computed. @throws SignetError TREE_PROOF_INVALID for a tile of another length
 */
export function tileNodes(size: number, readTile: (tile: Tile & { readonly level: number }) => Buffer): NodeReader {
  return (level, index) => {
    const tileLevel = Math.floor(level / TILE_HEIGHT)
    const span = 2 ** (level % TILE_HEIGHT)
    const first = index * span
    const tileIndex = Math.floor(first / TILE_WIDTH)
    const available = Math.floor(size / TILE_WIDTH ** tileLevel) - tileIndex * TILE_WIDTH
    const width = Math.min(TILE_WIDTH, available)
    const offset = first % TILE_WIDTH
    if (offset + span > width)
      throw new RangeError(`node ${index} of level ${level} is not complete in a tree of ${size} leaves`)
    const bytes = readTile({ level: tileLevel, index: tileIndex, width })
    if (bytes.length !== width * 32) {
      throw new SignetError(
        'TREE_PROOF_INVALID',
        `tile ${tileLevel}/${tileIndex} has ${bytes.length} bytes instead of ${width * 32}`,
      )
    }
    let hashes = Array.from({ length: span }, (_, i) => bytes.subarray((offset + i) * 32, (offset + i + 1) * 32))
    while (hashes.length > 1) {
      hashes = Array.from({ length: hashes.length / 2 }, (_, i) => nodeHash(hashes[2 * i]!, hashes[2 * i + 1]!))
    }
    return hashes[0]!
  }
}
