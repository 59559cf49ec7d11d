import { describe, expect, it } from 'vitest'
import { leafHash, nodeHash } from './hash.ts'
import { rootHash } from './proof.ts'
import { TreeRebuild, type RebuiltTile } from './rebuild.ts'
import { RunsCheck } from './runs.ts'

const leaf = (index: number): Buffer => leafHash(Buffer.from(String(index)))
/** The tree by the recursion of RFC 6962, section 2.1, without anything of `rebuild.ts`. */
function node(level: number, index: number): Buffer {
  return level === 0 ? leaf(index) : nodeHash(node(level - 1, 2 * index), node(level - 1, 2 * index + 1))
}

describe('TreeRebuild', () => {
  it('has the root of every size', () => {
    const tree = new TreeRebuild()
    for (let size = 0; size <= 600; size++) {
      if (size <= 20 || size % 37 === 0 || size > 510) expect(tree.root, String(size)).toEqual(rootHash(size, node))
      expect(tree.size).toBe(size)
      tree.add(leaf(size), () => undefined)
    }
  })

  it('gives every full tile with the hash that stands for it', () => {
    const tiles: RebuiltTile[] = []
    const tree = new TreeRebuild()
    for (let index = 0; index < 65_536 + 300; index++) tree.add(leaf(index), (tile) => tiles.push(tile))
    expect(tiles).toHaveLength(256 + 1 + 1)
    const second = tiles.find(({ level, index }) => level === 0 && index === 1)
    expect(second?.hashes).toEqual(Buffer.concat(Array.from({ length: 256 }, (_, i) => leaf(256 + i))))
    expect(second?.root).toEqual(node(8, 1))
    const upper = tiles.find(({ level }) => level === 1)
    expect(upper?.index).toBe(0)
    expect(upper?.hashes).toEqual(
      Buffer.concat(tiles.filter(({ level, index }) => level === 0 && index < 256).map(({ root }) => root)),
    )
    expect(upper?.root).toEqual(node(16, 0))
  })

  it('goes on from roots of tiles as from leaves', () => {
    const below = new TreeRebuild()
    const above = new TreeRebuild(8)
    for (let index = 0; index < 1_024; index++) {
      below.add(leaf(index), (tile) => {
        if (tile.level === 0) above.add(tile.root, () => undefined)
      })
    }
    expect([above.size, above.root]).toEqual([1_024, below.root])
  })
})

describe('RunsCheck', () => {
  const run = (firstLeaf: number, tenant: string, firstSeq: number, count: number) => ({
    firstLeaf,
    tenant,
    firstSeq,
    count,
  })
  const good = [run(0, 'a', 1, 3), run(3, 'b', 1, 1), run(4, 'a', 4, 2)]
  it('takes what covers chains and tree', () => {
    const check = new RunsCheck({ wholeTree: true })
    for (const each of good) check.add(each)
    expect([check.leaves, check.lastSeq.get('a'), check.lastSeq.get('b')]).toEqual([6, 5, 1])
  })
  it.each([
    { what: 'a run missing', runs: [good[0]!, good[2]!], wantLeaf: 3, wantFault: 'delete' },
    { what: 'the first missing', runs: [good[1]!], wantLeaf: 0, wantFault: 'delete' },
    { what: 'a leaf twice', runs: [good[0]!, run(2, 'b', 1, 1)], wantLeaf: 2, wantFault: 'insert' },
    { what: 'a link twice', runs: [good[0]!, run(3, 'a', 3, 2)], wantLeaf: 3, wantFault: 'insert' },
    { what: 'a link in no run', runs: [good[0]!, run(3, 'a', 5, 2)], wantLeaf: 3, wantFault: 'delete' },
    { what: 'a run of nothing', runs: [run(0, 'a', 1, 0)], wantLeaf: 0, wantFault: 'edit' },
  ])('$what: $wantFault', ({ runs, wantLeaf, wantFault }) => {
    const check = new RunsCheck({ wholeTree: true })
    expect(() => {
      for (const each of runs) check.add(each)
    }).toThrow(
      expect.objectContaining({ details: expect.objectContaining({ leaf: wantLeaf, fault: wantFault }) as object }),
    )
  })
  it('lets the leaves of one tenant lie apart, and nothing else', () => {
    const check = new RunsCheck({ wholeTree: false })
    for (const each of [good[0]!, good[2]!]) check.add(each)
    expect(() => check.add(run(9, 'a', 8, 1))).toThrow(/6 to 7 of a tenant are in no run/)
  })
})
