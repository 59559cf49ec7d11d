import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SealKey } from './cipher.ts'

const bytes = (text: string): Buffer => Buffer.from(text, 'latin1')
const KEY = new SealKey(Buffer.alloc(32, 1))
const NONCE = bytes('ABCDEFGHIJKLMNOPQRSTUVWX')

describe('XAES-256-GCM', () => {
  // Of c2sp.org/XAES-256-GCM; the two keys take the two ways through the doubling.
  it.each([
    { key: 1, aad: '', want: 'ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271' },
    {
      key: 3,
      aad: 'c2sp.org/XAES-256-GCM',
      want: '986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d',
    },
  ])('gives the vector of key $key', ({ key, aad, want }) => {
    const sealed = new SealKey(Buffer.alloc(32, key)).seal(bytes('XAES-256-GCM'), bytes(aad), NONCE)
    expect(sealed.toString('hex')).toBe(NONCE.toString('hex') + want)
  })

  it('opens what it sealed, at its place only', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.uint8Array({ maxLength: 40 }), (plain, bound) => {
        const key = new SealKey(randomBytes(32))
        const sealed = key.seal(plain, bound, randomBytes(24))
        expect(key.open(sealed, bound).equals(plain)).toBe(true)
        expect(() => key.open(sealed, Buffer.concat([bound, Buffer.alloc(1)]))).toThrow(/changed or moved/)
        expect(() => new SealKey(randomBytes(32)).open(sealed, bound)).toThrow(/does not open/)
      }),
    )
  })

  it('opens nothing of which a bit was changed or a byte is missing', () => {
    const sealed = KEY.seal(bytes('a name'), bytes('place'), NONCE)
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(() => KEY.open(changed, bytes('place'))).toThrow(expect.objectContaining({ code: 'SEAL_INVALID' }))
    }
    for (let length = 0; length < sealed.length; length++)
      expect(() => KEY.open(sealed.subarray(0, length), bytes('place'))).toThrow(
        expect.objectContaining({ code: 'SEAL_INVALID' }),
      )
  })

  it.each([0, 16, 31, 33, 64])('takes no key of %i bytes', (length) => {
    expect(() => new SealKey(Buffer.alloc(length))).toThrow(RangeError)
  })

  it.each([0, 12, 23, 25])('takes no nonce of %i bytes', (length) => {
    expect(() => KEY.seal(bytes(''), bytes(''), Buffer.alloc(length))).toThrow(RangeError)
  })
})

describe('a joint key', () => {
  const [a, b, c] = [5, 6, 7].map((byte) => new SealKey(Buffer.alloc(32, byte))) as [SealKey, SealKey, SealKey]
  it('of one is that one', () => expect(SealKey.joint([a])).toBe(a))
  it.each([
    { name: 'one fewer', others: [a, b] },
    { name: 'one more', others: [a, b, c, a] },
    { name: 'another order', others: [b, a, c] },
    { name: 'one of them', others: [a] },
  ])('opens with all of them only, not with $name', ({ others }) => {
    const sealed = SealKey.joint([a, b, c]).seal(bytes('x'), bytes(''), NONCE)
    expect(SealKey.joint([a, b, c]).open(sealed, bytes('')).toString()).toBe('x')
    expect(() => SealKey.joint(others).open(sealed, bytes(''))).toThrow(/does not open/)
  })
  it('of none there is none', () => expect(() => SealKey.joint([])).toThrow(RangeError))
})
