import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { readTar, writeTar } from './tar.ts'

const name = fc.stringMatching(/^[a-z]{1,20}(\/[a-z.]{1,20}[a-z])?$/)

describe('tar', () => {
  it('reads what it wrote', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, fc.uint8Array({ maxLength: 1500 }), { maxKeys: 8 }), async (dictionary) => {
        const files = Object.entries(dictionary).map(([key, content]) => [`/${key}`, Buffer.from(content)] as const)
        const found = readTar(await writeTar(files))
        expect([...found]).toEqual(files.map(([key, content]) => [key.slice(1), content]))
      }),
    )
  })

  it('never gives other files for a changed archive without an error, but for what it does not read', async () => {
    const files = [
      ['/a', Buffer.from('first')],
      ['/b', Buffer.alloc(600, 7)],
    ] as const
    const archive = await writeTar(files)
    fc.assert(
      fc.property(fc.nat(archive.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
        const changed = Buffer.from(archive)
        changed[at]! ^= change
        let names: string[]
        try {
          names = [...readTar(changed).keys()]
        } catch (error) {
          expect(error).toBeInstanceOf(Error)
          return
        }
        // The checksum covers the headers: what still reads has the same names.
        expect(names).toEqual(['a', 'b'])
      }),
    )
  })

  it('finds a byte that is not zero anywhere in what follows the files', async () => {
    const padded = Buffer.concat([await writeTar([['/a', Buffer.from('a')]]), Buffer.alloc(200 * 1024)])
    expect([...readTar(padded).keys()]).toEqual(['a'])
    for (const at of [padded.length - 1, 64 * 1024, 2047]) {
      padded[at] = 1
      expect(() => readTar(padded)).toThrow(/zero blocks/)
      padded[at] = 0
    }
  })

  it.each([
    ['nothing', Buffer.alloc(0), /middle of a header/],
    ['no end', Buffer.alloc(512), /zero blocks/],
    ['garbage', Buffer.alloc(2048, 'x'), /octal|checksum/],
  ])('refuses %s', (_, archive, want) => {
    expect(() => readTar(archive)).toThrow(want)
  })

  it('refuses a file that is cut off, one twice, and a link', async () => {
    const archive = await writeTar([['/a', Buffer.alloc(2000)]])
    expect(() => readTar(archive.subarray(0, 1024))).toThrow(/cut off/)
    const twice = Buffer.concat([archive.subarray(0, 512 + 2048), archive])
    expect(() => readTar(twice)).toThrow(/twice/)
    const link = Buffer.from(archive)
    link[156] = 0x32
    link.write((Number.parseInt(link.subarray(148, 154).toString(), 8) + 2).toString(8).padStart(6, '0'), 148)
    expect(() => readTar(link)).toThrow(/not a regular file/)
  })
})
