import { gunzipSync } from 'node:zlib'
import { expect, test } from 'vitest'
import type { ObjectStore } from '#runtime/archive/object-store.ts'
import type { ArchivedRow } from '../store/archive.ts'
import type { WrittenObject } from '../store/unfinished.ts'
import { ObjectWriter } from './objects.ts'

/** Rows of 3 MB, so that an object of 8 MiB is full after three. */
const WIDE = 'x'.repeat(3_000_000)
const ROWS = 11
const lines = Array.from({ length: ROWS }, (_, index) => `{"at":${index + 1},"wide":"${WIDE}"}`)
async function* rowsAfter(place: number): AsyncGenerator<ArchivedRow> {
  for (let at = place + 1; at <= ROWS; at++) yield { line: lines[at - 1]!, at }
}

test.each([0, 1, 2, 3, 4])(
  'interrupted after %i objects, it goes on behind the last row written: each row once, in order',
  async (count) => {
    const bucket = new Map<string, Buffer>()
    const store = {
      async put(key: string, body: Buffer) {
        bucket.set(key, body)
        return 'v'
      },
    } as unknown as ObjectStore
    const written: WrittenObject[] = []
    const writer = (allowed: number): ObjectWriter => {
      let left = allowed
      return new ObjectWriter({
        store,
        folder: 'f/',
        written: [...written],
        save: async (one) => void written.push(one),
        onObject: async () => {
          if (left-- === 0) throw new Error('killed')
        },
      })
    }
    const of = { section: 'links acme', name: 'links', retainUntil: new Date('2030-01-01') }
    const other = { ...of, section: 'links globex' }
    const first = writer(count).write(of, 0, rowsAfter)
    await (count < 4 ? expect(first).rejects.toThrow('killed') : first)
    expect(written).toHaveLength(count)
    const again = writer(Infinity)
    const objects = await again.write(of, 0, rowsAfter)
    const text = objects.map(({ key }) => gunzipSync(bucket.get(key)!).toString()).join('')
    expect(text === lines.map((line) => `${line}\n`).join('')).toBe(true)
    expect(objects.map(({ rows }) => rows)).toEqual([3, 3, 3, 2])
    expect(again.used).toEqual(objects)
    // Another section has nothing of it, and takes no key of it.
    const [only] = await again.write(other, 9, rowsAfter)
    expect(only?.rows).toBe(2)
    expect(objects.map(({ key }) => key)).not.toContain(only?.key)
  },
)
