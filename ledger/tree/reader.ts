import { SignetError } from '#core/error/signet-error.ts'
import { inclusionProof, type NodeReader } from '#core/tree/proof.ts'
import { tileNodes, TILE_WIDTH, type Tile } from '#core/tree/tile.ts'
import type { Client } from '#runtime/postgres/transaction.ts'
import { readCheckpoint, readTile, readTreeLeaves, type StoredCheckpoint } from '../store/tree.ts'
import { leafBytes, readEdge } from './integrator.ts'
import type { TreeEdge } from './edge.ts'

/**
 * The bytes of a tile of the tree as signed last: hashes, or for `entries` the leaves, each with its length in two bytes
 * (https://c2sp.org/tlog-tiles). @throws SignetError NOT_FOUND past the signed size
 */
export async function tileBytes(client: Client, tile: Tile): Promise<Buffer> {
  const size = (await readCheckpoint(client))?.size ?? 0
  const level = tile.level === 'entries' ? 0 : tile.level
  const available = Math.floor(size / TILE_WIDTH ** level) - tile.index * TILE_WIDTH
  // A partial tile is served as long as the tree knows its hashes, also once it is full.
  if (available < tile.width) throw new SignetError('NOT_FOUND', `the tree of ${size} leaves has no such tile`)
  if (tile.level === 'entries') {
    const first = tile.index * TILE_WIDTH
    const leaves = await readTreeLeaves(client, first, first + tile.width)
    return Buffer.concat(leaves.flatMap((leaf) => [Buffer.of(0, 64), leafBytes(leaf)]))
  }
  const full = await readTile(client, level, tile.index)
  if (full !== null) return full.subarray(0, tile.width * 32)
  const edge = await readEdge(client, size)
  return edge.partial(level).subarray(0, tile.width * 32)
}

export type Inclusion = {
  readonly index: number
  readonly path: readonly Buffer[]
  readonly checkpoint: StoredCheckpoint
}

/** The audit path of a leaf to the tree as signed last. @throws SignetError NOT_FOUND for a leaf that is not in it yet */
export async function inclusionOf(client: Client, index: number): Promise<Inclusion> {
  const checkpoint = await readCheckpoint(client)
  if (checkpoint === null || index >= checkpoint.size)
    throw new SignetError('NOT_FOUND', 'the event is not in the signed tree yet; it is within seconds')
  const { size } = checkpoint
  const edge = await readEdge(client, size)
  const tiles = new Map<string, Buffer>()
  // Proofs are computed without waiting, so the few tiles that this one needs are fetched first: a dry run finds which.
  for (;;) {
    const missing: Tile[] = []
    const read = nodesOf(size, edge, tiles, missing)
    const path = inclusionProof(index, size, read)
    if (missing.length === 0) return { index, path, checkpoint }
    for (const tile of missing) tiles.set(keyOf(tile), await loadTile(client, tile))
  }
}

function nodesOf(size: number, edge: TreeEdge, tiles: ReadonlyMap<string, Buffer>, missing: Tile[]): NodeReader {
  return tileNodes(size, (tile) => {
    if (tile.width < TILE_WIDTH) return edge.partial(tile.level)
    const bytes = tiles.get(keyOf(tile))
    if (bytes !== undefined) return bytes
    if (missing.every((other) => keyOf(other) !== keyOf(tile))) missing.push(tile)
    return Buffer.alloc(TILE_WIDTH * 32)
  })
}

async function loadTile(client: Client, tile: Tile): Promise<Buffer> {
  const level = Number(tile.level)
  const bytes = await readTile(client, level, tile.index)
  if (bytes === null) throw new SignetError('CHAIN_BROKEN', `the full tile ${tile.index} of level ${level} is missing`)
  return bytes
}

function keyOf(tile: Tile): string {
  return `${tile.level}/${tile.index}`
}
