import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { EMPTY_ROOT, leafHash, nodeHash } from './hash.ts'
import {
  consistencyProof,
  inclusionProof,
  rootHash,
  verifyConsistency,
  verifyInclusion,
  type NodeReader,
} from './proof.ts'
import { newTiles, parseTilePath, tileNodes, tilePath, TILE_WIDTH } from './tile.ts'

/** Leaves and roots of the reference tests of Certificate Transparency (RFC 6962's authors). */
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]

/** The definition of RFC 6962, section 2.1, word for word: what the fast way is compared with. */
function defined(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return EMPTY_ROOT
  if (leaves.length === 1) return leaves[0]!
  let split = 1
  while (split * 2 < leaves.length) split *= 2
  return nodeHash(defined(leaves.slice(0, split)), defined(leaves.slice(split)))
}

function nodesOf(leaves: readonly Buffer[]): NodeReader {
  return (level, index) => {
    const run = leaves.slice(index * 2 ** level, (index + 1) * 2 ** level)
    expect(run).toHaveLength(2 ** level)
    return defined(run)
  }
}

function numbered(count: number): Buffer[] {
  return Array.from({ length: count }, (_, i) => leafHash(Buffer.from(`leaf ${i}`)))
}

describe('the tree of RFC 6962', () => {
  const leaves = LEAVES.map((leaf) => leafHash(Buffer.from(leaf, 'hex')))

  test.each(ROOTS.map((wantRoot, i) => ({ size: i + 1, wantRoot })))('root of $size leaves', ({ size, wantRoot }) => {
    expect(rootHash(size, nodesOf(leaves)).toString('hex')).toBe(wantRoot)
  })

  test('the empty tree', () => {
    expect(rootHash(0, nodesOf([])).toString('hex')).toBe(
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    )
  })

  test('a published inclusion path: leaf 0 of 8', () => {
    expect(inclusionProof(0, 8, nodesOf(leaves)).map((hash) => hash.toString('hex'))).toEqual([
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ])
  })

  test('a published consistency path: 6 to 8', () => {
    expect(consistencyProof(6, 8, nodesOf(leaves)).map((hash) => hash.toString('hex'))).toEqual([
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ])
  })
})

describe('proofs', () => {
  test('each leaf of each size is included, and each size continues each smaller one', () => {
    const leaves = numbered(40)
    const read = nodesOf(leaves)
    for (let size = 1; size <= leaves.length; size++) {
      const root = rootHash(size, read)
      expect(root).toEqual(defined(leaves.slice(0, size)))
      for (let index = 0; index < size; index++) {
        verifyInclusion({ index, size, leafHash: leaves[index]!, root, path: inclusionProof(index, size, read) })
      }
      for (let oldSize = 0; oldSize <= size; oldSize++) {
        verifyConsistency({
          oldSize,
          oldRoot: rootHash(oldSize, read),
          size,
          root,
          path: consistencyProof(oldSize, size, read),
        })
      }
    }
  })

  test('nothing else passes: another leaf, index, size, root or path', () => {
    const leaves = numbered(200)
    const read = nodesOf(leaves)
    const refused = (verify: () => void): void =>
      expect(verify).toThrowError(expect.objectContaining({ code: 'TREE_PROOF_INVALID' }))
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 200 }),
        fc.nat(),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (size, a, b, flip) => {
          const index = a % size
          const path = inclusionProof(index, size, read)
          const claim = { index, size, leafHash: leaves[index]!, root: rootHash(size, read), path }
          verifyInclusion(claim)
          refused(() => verifyInclusion({ ...claim, leafHash: flipped(claim.leafHash, b, flip) }))
          refused(() => verifyInclusion({ ...claim, root: flipped(claim.root, b, flip) }))
          refused(() => verifyInclusion({ ...claim, index: (index + 1) % size }))
          refused(() => verifyInclusion({ ...claim, path: path.slice(1) }))
          refused(() => verifyInclusion({ ...claim, path: [...path, EMPTY_ROOT] }))
          refused(() =>
            verifyInclusion({ ...claim, path: path.with(b % path.length, flipped(path[b % path.length]!, a, flip)) }),
          )
          const oldSize = 1 + (b % (size - 1))
          const between = consistencyProof(oldSize, size, read)
          const growth = { oldSize, oldRoot: rootHash(oldSize, read), size, root: claim.root, path: between }
          verifyConsistency(growth)
          refused(() => verifyConsistency({ ...growth, oldRoot: flipped(growth.oldRoot, b, flip) }))
          refused(() => verifyConsistency({ ...growth, root: flipped(growth.root, b, flip) }))
          refused(() => verifyConsistency({ ...growth, path: between.slice(1) }))
          refused(() => verifyConsistency({ ...growth, path: [...between, EMPTY_ROOT] }))
        },
      ),
    )
  })

  test.each([
    { index: 3, size: 3 },
    { index: -1, size: 3 },
    { index: 0.5, size: 3 },
    { index: 0, size: Number.MAX_SAFE_INTEGER + 1 },
  ])('leaf $index of $size is no claim', ({ index, size }) => {
    expect(() => verifyInclusion({ index, size, leafHash: EMPTY_ROOT, root: EMPTY_ROOT, path: [] })).toThrow(
      /is not in a tree/,
    )
    expect(() => inclusionProof(index, size, nodesOf([]))).toThrow(RangeError)
  })
})

describe('tiles', () => {
  test.each([
    { tile: { level: 0, index: 0, width: 256 }, wantPath: 'tile/0/000' },
    { tile: { level: 0, index: 1_234_067, width: 8 }, wantPath: 'tile/0/x001/x234/067.p/8' },
    { tile: { level: 3, index: 1000, width: 256 }, wantPath: 'tile/3/x001/000' },
    { tile: { level: 'entries' as const, index: 5, width: 1 }, wantPath: 'tile/entries/005.p/1' },
  ])('$wantPath', ({ tile, wantPath }) => {
    expect(tilePath(tile)).toBe(wantPath)
    expect(parseTilePath(wantPath)).toEqual(tile)
  })

  test.each([
    'tile/0/0',
    'tile/0/x000/000',
    'tile/9/000',
    'tile/0/000.p/256',
    'tile/0/000.p/0',
    'tile/0/1000',
    '../000',
    'tile/0/000.p/08',
    '',
  ])('%j is no tile', (path) => {
    expect(() => parseTilePath(path)).toThrowError(expect.objectContaining({ code: 'NOT_FOUND' }))
  })

  test('every proof comes out of the tiles alone, grown step by step', () => {
    const leaves = numbered(TILE_WIDTH * 3 + 70)
    const tiles = new Map<string, Buffer>()
    let size = 0
    for (const step of [1, 5, 250, 1, 255, 300, 26]) {
      const read = nodesOf(leaves)
      for (const tile of newTiles(size, size + step)) {
        const level = tile.level as number
        const hashes = Array.from({ length: tile.width }, (_, i) => read(8 * level, tile.index * TILE_WIDTH + i))
        tiles.set(tilePath(tile), Buffer.concat(hashes))
      }
      size += step
      const fromTiles = tileNodes(size, (tile) => tiles.get(tilePath(tile))!)
      const root = rootHash(size, fromTiles)
      expect(root).toEqual(defined(leaves.slice(0, size)))
      for (const index of [0, Math.floor(size / 2), size - 1]) {
        verifyInclusion({ index, size, leafHash: leaves[index]!, root, path: inclusionProof(index, size, fromTiles) })
      }
    }
  })

  test('a tile of another length is refused', () => {
    expect(() =>
      rootHash(
        3,
        tileNodes(3, () => Buffer.alloc(64)),
      ),
    ).toThrow(/has 64 bytes instead of 96/)
  })
})

function flipped(bytes: Uint8Array, at: number, bits: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at % copy.length]! ^= bits
  return copy
}
