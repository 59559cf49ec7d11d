import { generateKeyPairSync, sign } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { checkProof, proveKey } from './exchange.ts'

const AT = new Date('2026-11-25T12:00:00.000Z')
const pair = generateKeyPairSync('ed25519')
const other = generateKeyPairSync('ed25519')
const x25519 = generateKeyPairSync('x25519')
const good = proveKey('token-1', pair, AT)
const later = (ms: number): Date => new Date(AT.getTime() + ms)
const spki = (key: typeof pair.publicKey): string => key.export({ format: 'der', type: 'spki' }).toString('base64url')

describe('checkProof', () => {
  it.each([0, 300_000, -300_000])('holds %d ms from its time', (ms) => {
    expect(checkProof(good, 'token-1', later(ms)).publicKey.equals(pair.publicKey)).toBe(true)
  })

  it('is known again by its digest, which another proof does not have', () => {
    const digest = checkProof(good, 'token-1', AT).proofDigest
    expect(checkProof(good, 'token-1', later(1)).proofDigest).toEqual(digest)
    expect(checkProof(proveKey('token-1', pair, later(1)), 'token-1', AT).proofDigest).not.toEqual(digest)
  })

  it.each([
    { what: 'another token', request: good, token: 'token-2' },
    { what: "another's key", request: { ...good, public_key: spki(other.publicKey) } },
    { what: "another's signature", request: { ...good, proof: proveKey('token-1', other, AT).proof } },
    { what: 'another time', request: { ...good, signed_at: later(1).toISOString() } },
    { what: 'a time too long ago', request: good, at: later(300_001) },
    { what: 'a time to come', request: good, at: later(-300_001) },
    { what: 'a key of another kind', request: { ...good, public_key: spki(x25519.publicKey) } },
    { what: 'no key', request: { ...good, public_key: 'AAAA' } },
    { what: 'bytes behind the key', request: { ...good, public_key: `${good.public_key}AAAA` } },
    {
      what: 'a signature over something else',
      request: { ...good, proof: sign(null, Buffer.from('x'), pair.privateKey).toString('base64url') },
    },
    { what: 'no signature', request: { ...good, proof: 'AAAA' } },
  ])('refuses $what', ({ request, token = 'token-1', at = AT }) => {
    expect(() => checkProof(request, token, at)).toThrow(expect.objectContaining({ code: 'IDENTITY_PROOF_INVALID' }))
  })
})
