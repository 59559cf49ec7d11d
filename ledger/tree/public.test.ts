import { describe, expect, test } from 'vitest'
import type { Tile } from '#core/tree/tile.ts'
import type { StoredCheckpoint } from '../store/tree.ts'
import { createPublicTree, MAX_READS, MAX_WAITING, type TreeSource } from './public.ts'

const checkpoint = (size: number): StoredCheckpoint => ({
  size,
  root: Buffer.alloc(32),
  note: String(size),
  madeAt: new Date(0),
})
const tile = (index: number, width = 256): Tile => ({ level: 0, index, width })

/** A database that answers when it is told to. */
function slowSource() {
  const waiting: (() => void)[] = []
  let running = 0
  const seen = { most: 0, checkpoints: 0, tiles: 0 }
  let size = 1
  const wait = async (): Promise<void> => {
    running += 1
    seen.most = Math.max(seen.most, running)
    await new Promise<void>((resolve) => waiting.push(resolve))
    running -= 1
  }
  const source: TreeSource = {
    async checkpoint() {
      seen.checkpoints += 1
      const now = size
      await wait()
      return checkpoint(now)
    },
    async tile({ width }) {
      seen.tiles += 1
      await wait()
      return Buffer.alloc(width * 32, seen.tiles)
    },
  }
  return {
    source,
    seen,
    grow: () => {
      size += 1
    },
    answer: async (): Promise<void> => {
      for (let idle = 0; idle < 3;) {
        const next = waiting.shift()
        if (next === undefined) idle += 1
        next?.()
        await new Promise((resolve) => setImmediate(resolve))
      }
    },
  }
}

describe('what anybody may ask', () => {
  test('a flood of checkpoints is one read at a time, and none gets an answer from before it asked', async () => {
    const { source, seen, grow, answer } = slowSource()
    const tree = createPublicTree(source)
    const first = tree.checkpoint()
    grow()
    const flood = Array.from({ length: 1_000 }, () => tree.checkpoint())
    await answer()
    expect((await first)?.size).toBe(1)
    expect(new Set((await Promise.all(flood)).map((each) => each?.size))).toEqual(new Set([2]))
    expect(seen).toMatchObject({ most: 1, checkpoints: 2 })
  })

  test('a flood of tiles takes few connections, and what is too much is refused', async () => {
    const { source, seen, answer } = slowSource()
    const tree = createPublicTree(source)
    const flood = Promise.allSettled(Array.from({ length: 1_000 }, (_, index) => tree.tile(tile(index))))
    await answer()
    const results = await flood
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(MAX_READS + MAX_WAITING)
    expect(results.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'LEDGER_BUSY' } })
    expect(seen.most).toBe(MAX_READS)
    const again = tree.tile(tile(2_000))
    await answer()
    expect(await again).toHaveLength(8_192)
  })

  test('a tile is read once; its beginnings come out of it', async () => {
    const { source, seen, answer } = slowSource()
    const tree = createPublicTree(source)
    const both = Promise.all([tree.tile(tile(7)), tree.tile(tile(7))])
    await answer()
    const [bytes] = await both
    expect(await tree.tile(tile(7))).toEqual(bytes)
    expect(await tree.tile(tile(7, 3))).toEqual(bytes.subarray(0, 96))
    expect(seen.tiles).toBe(1)
  })

  test('what failed is asked anew', async () => {
    let fails = true
    const tree = createPublicTree({
      async checkpoint() {
        if (fails) throw new Error('away')
        return checkpoint(1)
      },
      async tile({ width }) {
        if (fails) throw new Error('away')
        return Buffer.alloc(width * 32)
      },
    })
    await expect(tree.checkpoint()).rejects.toThrow('away')
    await expect(tree.tile(tile(0))).rejects.toThrow('away')
    fails = false
    expect(await tree.checkpoint()).toMatchObject({ size: 1 })
    expect(await tree.tile(tile(0))).toHaveLength(8_192)
  })
})
