import { createCipheriv, createDecipheriv, createHmac, createPublicKey, createSecretKey, verify } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { HmacFrame } from '#core/crypto/hmac.ts'

/**
 * What we seal, chain and sign with is OpenSSL's: these show that it is called so that nothing false passes (tags that are cut short, nonces of
 * another length, signatures with another encoding). `acceptable` vectors are legal and left to the implementation.
 */
type Vector = { readonly tcId: number; readonly comment: string; readonly result: 'valid' | 'invalid' | 'acceptable' }
type Group<T> = { readonly tests: readonly (Vector & T)[] }
type File<G> = { readonly numberOfTests: number; readonly testGroups: readonly G[] }

function read<G>(name: string): File<G> {
  return JSON.parse(readFileSync(new URL(`./wycheproof/${name}.json`, import.meta.url), 'utf8')) as File<G>
}
const hex = (text: string): Buffer => Buffer.from(text, 'hex')

/** That each vector comes out as it has to. */
function expectAll<T>(tests: readonly (Vector & T)[], passes: (test: T) => boolean): void {
  const wrong = tests.filter((test) => test.result !== 'acceptable' && passes(test) !== (test.result === 'valid'))
  expect(wrong.map(({ tcId, comment }) => `${tcId} ${comment}`)).toEqual([])
}

type GcmTest = { key: string; iv: string; aad: string; msg: string; ct: string; tag: string }
describe('AES-GCM', () => {
  const file = read<Group<GcmTest> & { keySize: 128 | 192 | 256; ivSize: number; tagSize: number }>('aes-gcm')
  // OpenSSL takes no longer ones, which nobody has use for: they are refused, not taken for others.
  const [groups, tooLong] = [true, false].map((fits) => file.testGroups.filter(({ ivSize }) => ivSize <= 1024 === fits))
  it('has vectors', () => expect(file.testGroups.flatMap(({ tests }) => tests)).toHaveLength(file.numberOfTests))

  it.each(tooLong ?? [])('refuses a nonce of $ivSize bits: key $keySize', ({ tests, keySize }) => {
    for (const { key, iv } of tests)
      expect(() => createDecipheriv(`aes-${keySize}-gcm`, hex(key), hex(iv), { authTagLength: 16 })).toThrow(/vector/)
  })

  it.each(groups ?? [])('opens what is valid and nothing else: key $keySize, nonce $ivSize', ({ tests, keySize, tagSize }) => {
    expect(tagSize).toBe(128)
    expectAll(tests, ({ key, iv, aad, msg, ct, tag }) => {
      try {
        const decipher = createDecipheriv(`aes-${keySize}-gcm`, hex(key), hex(iv), { authTagLength: 16 })
        decipher.setAAD(hex(aad)).setAuthTag(hex(tag))
        return Buffer.concat([decipher.update(hex(ct)), decipher.final()]).equals(hex(msg))
      } catch {
        return false
      }
    })
  })

  it.each(groups ?? [])('seals to the same: key $keySize, nonce $ivSize', ({ tests, keySize }) => {
    const valid = tests.filter(({ result }) => result === 'valid')
    expectAll(valid, ({ key, iv, aad, msg, ct, tag }) => {
      const cipher = createCipheriv(`aes-${keySize}-gcm`, hex(key), hex(iv), { authTagLength: 16 })
      cipher.setAAD(hex(aad))
      const text = Buffer.concat([cipher.update(hex(msg)), cipher.final()])
      return text.equals(hex(ct)) && cipher.getAuthTag().equals(hex(tag))
    })
  })
})

type HmacTest = { key: string; msg: string; tag: string }
describe('HMAC-SHA256', () => {
  const file = read<Group<HmacTest> & { keySize: number; tagSize: number }>('hmac-sha256')
  it('has vectors', () => expect(file.testGroups.flatMap(({ tests }) => tests)).toHaveLength(file.numberOfTests))

  it.each(file.testGroups)('by OpenSSL: key of $keySize bits, tag of $tagSize', ({ tests, tagSize }) => {
    expectAll(tests, ({ key, msg, tag }) =>
      createHmac('sha256', hex(key)).update(hex(msg)).digest().subarray(0, tagSize / 8).equals(hex(tag)),
    )
  })

  it.each(file.testGroups)('in place (`HmacFrame`): key of $keySize bits, tag of $tagSize', ({ tests, tagSize }) => {
    expectAll(tests, ({ key, msg, tag }) => {
      const message = hex(msg)
      return new HmacFrame(createSecretKey(hex(key)), message).mac(message.length).slice(0, tagSize / 4) === tag
    })
  })
})

type SignatureTest = { msg: string; sig: string }
describe('Ed25519', () => {
  const file = read<Group<SignatureTest> & { publicKeyDer: string; publicKey: { pk: string } }>('ed25519')
  it('has vectors', () => expect(file.testGroups.flatMap(({ tests }) => tests)).toHaveLength(file.numberOfTests))

  it.each(file.testGroups)('key $publicKey.pk', ({ tests, publicKeyDer }) => {
    const key = createPublicKey({ key: hex(publicKeyDer), format: 'der', type: 'spki' })
    expectAll(tests, ({ msg, sig }) => verify(null, hex(msg), key, hex(sig)))
  })
})
