import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { pae } from './pae.ts'

describe('pae', () => {
  it.each([
    { parts: [], wantHex: '' },
    { parts: [''], wantHex: '0000000000000000' },
    { parts: ['SignetV1', new Uint8Array([0, 255])], wantHex: '00000000000000085369676e65745631000000000000000200ff' },
    { parts: ['ü€'], wantHex: '0000000000000005c3bce282ac' },
  ])('frames $parts', ({ parts, wantHex }) => expect(pae(...parts).toString('hex')).toBe(wantHex))

  it('can be taken apart in one way only', () => {
    const part = fc.oneof(fc.string({ unit: 'binary' }), fc.uint8Array())
    fc.assert(
      fc.property(fc.array(part, { maxLength: 6 }), (parts) => {
        const framed = pae(...parts)
        const found: Buffer[] = []
        for (let at = 0; at < framed.length;) {
          const length = Number(framed.readBigUInt64BE(at))
          found.push(framed.subarray(at + 8, at + 8 + length))
          at += 8 + length
        }
        expect(found).toEqual(parts.map((bytes) => Buffer.from(bytes as string)))
      }),
    )
  })
})
