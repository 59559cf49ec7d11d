import { describe, expect, test } from 'vitest'
import { leafHash } from '#core/tree/hash.ts'
import { inclusionProof, rootHash, verifyInclusion, type NodeReader } from '#core/tree/proof.ts'
import { tileNodes } from '#core/tree/tile.ts'
import { allotLeaves } from './allot.ts'
import { partialTiles, TreeEdge } from './edge.ts'

describe('TreeEdge', () => {
  test('gives, for each size, the root and proofs of the whole tree, over three levels of tiles', () => {
    const size = 256 * 256 + 700
    const leaves = Array.from({ length: size }, (_, i) => leafHash(Buffer.from(String(i))))
    const checked = new Set([0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, size])
    const edge = new TreeEdge()
    const tiles = new Map<string, Buffer>()
    const nodes = new Map<string, Buffer>()
    const whole: NodeReader = (level, index) => (level === 0 ? leaves[index]! : nodes.get(`${level}/${index}`)!)
    for (let level = 1; level <= 17; level++) {
      for (let index = 0; (index + 1) * 2 ** level <= size; index++) {
        const [left, right] = [0, 1].map((i) =>
          level === 1 ? leaves[2 * index + i]! : nodes.get(`${level - 1}/${2 * index + i}`)!,
        )
        nodes.set(`${level}/${index}`, new TreeEdge(2, [[left!, right!]]).root)
      }
    }
    for (let at = 0; at <= size; at++) {
      expect(edge.size).toBe(at)
      if (checked.has(at)) {
        const root = rootHash(at, whole)
        expect(edge.root, `size ${at}`).toEqual(root)
        const fromTiles = tileNodes(at, (tile) => tiles.get(`${tile.level}/${tile.index}`) ?? edge.partial(tile.level))
        for (const index of [0, Math.floor(at / 3), at - 1]) {
          if (index >= 0 && index < at)
            verifyInclusion({
              index,
              size: at,
              leafHash: leaves[index]!,
              root,
              path: inclusionProof(index, at, fromTiles),
            })
        }
        for (const { level, width } of partialTiles(at)) expect(edge.partial(level)).toHaveLength(width * 32)
      }
      if (at < size) for (const tile of edge.add(leaves[at]!)) tiles.set(`${tile.level}/${tile.index}`, tile.hashes)
    }
    expect([...tiles.keys()].filter((key) => key.startsWith('1/'))).toEqual(['1/0'])
    expect(tiles.size).toBe(256 + 2 + 1)
  })

  test('a copy grows by itself', () => {
    const edge = new TreeEdge()
    edge.add(leafHash(Buffer.of(1)))
    const { root } = edge
    edge.copy().add(leafHash(Buffer.of(2)))
    expect(edge.root).toEqual(root)
  })
})

describe('allotLeaves', () => {
  const backlog = (tenant: string, integrated: number, head: number) => ({ tenant, integrated, head })
  test.each([
    { name: 'nothing waits', backlogs: [backlog('a', 5, 5)], limit: 10, want: {} },
    { name: 'all fits', backlogs: [backlog('a', 5, 8), backlog('b', 0, 1)], limit: 10, want: { a: [6, 8], b: [1, 1] } },
    {
      name: 'a flood leaves room for others',
      backlogs: [backlog('a', 0, 1_000_000), backlog('b', 7, 9)],
      limit: 10,
      want: { a: [1, 8], b: [8, 9] },
    },
    {
      name: 'floods share evenly',
      backlogs: [backlog('a', 0, 500), backlog('b', 0, 500)],
      limit: 10,
      want: { a: [1, 5], b: [1, 5] },
    },
    {
      name: 'more tenants than leaves',
      backlogs: [backlog('a', 0, 1), backlog('b', 0, 1), backlog('c', 0, 1)],
      limit: 2,
      want: { b: [1, 1], c: [1, 1] },
    },
  ])('$name', ({ backlogs, limit, want }) => {
    const ranges = allotLeaves(backlogs, limit)
    expect(Object.fromEntries(ranges.map(({ tenant, first, last }) => [tenant, [first, last]]))).toEqual(want)
  })
})
