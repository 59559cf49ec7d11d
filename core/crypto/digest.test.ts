import { describe, expect, it } from 'vitest'
import { digestText, formatDigest, parseDigest, sha256 } from './digest.ts'

// FIPS 180-4 example.
const ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'

describe('digests', () => {
  it('are SHA-256, of bytes or of the UTF-8 of a string', () => {
    expect(sha256('abc').toString('hex')).toBe(ABC)
    expect(digestText(Buffer.from('abc'))).toBe(`sha256:${ABC}`)
    expect(sha256('€').equals(sha256(Buffer.from('e282ac', 'hex')))).toBe(true)
  })
  it('go to text and back', () => {
    expect(formatDigest(Buffer.from(ABC, 'hex'))).toBe(`sha256:${ABC}`)
    expect(parseDigest(`sha256:${ABC}`).toString('hex')).toBe(ABC)
    expect(() => formatDigest(Buffer.alloc(31))).toThrow(RangeError)
  })
  it.each([
    '',
    ABC,
    `sha256:${ABC.toUpperCase()}`,
    `sha256:${ABC}0`,
    `sha256:${ABC.slice(1)}`,
    `sha512:${ABC}`,
    ` sha256:${ABC}`,
    `sha256:${ABC}\n`,
  ])('refuses %j', (text) => {
    expect(() => parseDigest(text)).toThrow(expect.objectContaining({ code: 'STAMP_INVALID' }))
  })
})
