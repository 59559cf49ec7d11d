import { randomBytes } from 'node:crypto'
import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { END_PART, packPart } from './pack.ts'
import { readTar } from './tar.ts'

describe('packPart', () => {
  it('makes parts that are one archive when they are put together, the same each time', async () => {
    const big = randomBytes(200_000)
    const parts = async (): Promise<Buffer> =>
      Buffer.concat([
        await packPart([
          ['data.json', Buffer.from('{}')],
          ['.manifest', Buffer.from('x'.repeat(513))],
        ]),
        await packPart([['root/policy.wasm', big]]),
        await packPart([]),
        await END_PART,
      ])
    const bytes = await parts()
    expect([...readTar(gunzipSync(bytes))]).toEqual([
      ['data.json', Buffer.from('{}')],
      ['.manifest', Buffer.from('x'.repeat(513))],
      ['root/policy.wasm', big],
    ])
    expect((await parts()).equals(bytes)).toBe(true)
  })
})
