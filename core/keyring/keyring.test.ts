import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { indexKeyring, isValidAt, parseKeyring } from './keyring.ts'
import { unknownUses } from './omission.ts'
import { KEY_USES, Keyring } from './schema.ts'

const SECRET = Buffer.alloc(32, 7).toString('base64url')
const TIMES = { not_before: '2026-01-01T00:00:00.000Z', not_after: '2026-02-01T00:00:00.000Z' }
const stampKey = {
  use: 'stamp',
  alg: 'HMAC-SHA256',
  producer_id: 'p',
  tenant: 't',
  secret: SECRET,
  key_id: 's1',
  ...TIMES,
}
const chainKey = { use: 'chain', alg: 'HMAC-SHA256', secret: SECRET, key_id: 'c1', ...TIMES }
const pair = generateKeyPairSync('ed25519')
const otherPair = generateKeyPairSync('ed25519')
const x25519 = generateKeyPairSync('x25519')
const spki = (key: typeof pair.publicKey) => key.export({ format: 'der', type: 'spki' }).toString('base64url')
const pkcs8 = (key: typeof pair.privateKey) => key.export({ format: 'der', type: 'pkcs8' }).toString('base64url')
const ackKey = {
  use: 'ack',
  alg: 'Ed25519',
  public_key: spki(pair.publicKey),
  private_key: pkcs8(pair.privateKey),
  key_id: 'a1',
  ...TIMES,
}
const publicAckKey = { use: 'ack', alg: 'Ed25519', public_key: spki(pair.publicKey), key_id: 'a0', ...TIMES }

const ringText = (...keys: object[]): string => JSON.stringify({ version: 1, keys })
const index = (...keys: object[]) => indexKeyring(parseKeyring(ringText(...keys)))

describe('parseKeyring', () => {
  it('reads all uses', () => {
    const keys = index(stampKey, chainKey, publicAckKey, ackKey)
    expect(keys.stampKey('s1')).toMatchObject({
      keyId: 's1',
      producerId: 'p',
      tenant: 't',
      notBefore: TIMES.not_before,
      notAfter: TIMES.not_after,
      revokedAt: null,
    })
    expect(keys.stampKey('s1')?.secret.export().toString('base64url')).toBe(SECRET)
    expect(keys.chainKey('c1')?.keyId).toBe('c1')
    expect(keys.ackKey('a0')?.privateKey).toBeNull()
    expect(keys.ackKey('a1')?.privateKey?.asymmetricKeyType).toBe('ed25519')
    // A key serves its own use only.
    expect([keys.stampKey('c1'), keys.chainKey('s1'), keys.ackKey('s1'), keys.stampKey('__proto__')]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
    ])
  })

  it.each([
    { what: 'no JSON', text: 'keys', wantPath: undefined },
    { what: 'a name twice', text: '{"version":1,"version":1,"keys":[]}', wantPath: undefined },
    { what: 'another version', text: '{"version":2,"keys":[]}', wantPath: undefined },
    { what: 'an array', text: '[]', wantPath: undefined },
    { what: 'no keys', text: '{"version":1}', wantPath: '/' },
    {
      what: 'a short secret',
      text: ringText({ ...stampKey, secret: Buffer.alloc(31).toString('base64url') }),
      wantPath: '/keys/0/secret',
    },
    { what: 'a padded secret', text: ringText({ ...stampKey, secret: `${SECRET}=` }), wantPath: '/keys/0/secret' },
    {
      what: 'a secret with loose bits',
      text: ringText({ ...stampKey, secret: `${SECRET.slice(0, -1)}d` }),
      wantPath: '/keys/0/secret',
    },
    { what: 'an unknown member', text: ringText({ ...stampKey, role: 'x' }), wantPath: undefined },
    { what: 'a use written as none is', text: ringText({ ...stampKey, use: 'Stamp' }), wantPath: undefined },
    { what: 'no use', text: ringText({ ...stampKey, use: undefined }), wantPath: undefined },
    {
      what: 'an unknown use without a name',
      text: ringText({ ...stampKey, use: 'later', key_id: 7 }),
      wantPath: '/keys/0/key_id',
    },
    {
      what: 'a key id of an unknown use for another key',
      text: ringText({ use: 'later', key_id: 's1' }, stampKey),
      wantPath: '/keys/1',
    },
    {
      what: 'a fault behind an unknown use, at its place in the file',
      text: ringText({ use: 'later', key_id: 'l1' }, chainKey, { ...stampKey, secret: `${SECRET}=` }),
      wantPath: '/keys/2/secret',
    },
    {
      what: 'another fault behind an unknown use',
      text: ringText({ use: 'later', key_id: 'l1' }, chainKey, { ...stampKey, not_before: TIMES.not_after }),
      wantPath: '/keys/2',
    },
    { what: 'another algorithm', text: ringText({ ...chainKey, alg: 'HMAC-SHA1' }), wantPath: undefined },
    { what: 'a key id twice, over uses', text: ringText(stampKey, { ...chainKey, key_id: 's1' }), wantPath: '/keys/1' },
    {
      what: 'a time that does not exist',
      text: ringText({ ...stampKey, not_after: '2026-02-30T00:00:00.000Z' }),
      wantPath: '/keys/0/not_after',
    },
    {
      what: 'a revocation that does not exist',
      text: ringText({ ...stampKey, revoked_at: '2026-01-01T24:00:00.000Z' }),
      wantPath: '/keys/0/revoked_at',
    },
    {
      what: 'an end before its beginning',
      text: ringText({ ...stampKey, not_before: TIMES.not_after }),
      wantPath: '/keys/0',
    },
    {
      what: 'a public key that is none',
      text: ringText({ ...publicAckKey, public_key: 'AAAA' }),
      wantPath: '/keys/0/public_key',
    },
    {
      what: 'a key of another curve',
      text: ringText({ ...publicAckKey, public_key: spki(x25519.publicKey) }),
      wantPath: '/keys/0/public_key',
    },
    {
      what: 'a private key in place of a public one',
      text: ringText({ ...publicAckKey, public_key: ackKey.private_key }),
      wantPath: '/keys/0/public_key',
    },
    {
      what: "another's private key",
      text: ringText({ ...ackKey, private_key: pkcs8(otherPair.privateKey) }),
      wantPath: '/keys/0',
    },
  ])('refuses $what', ({ text, wantPath }) => {
    try {
      parseKeyring(text)
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'KEYRING_INVALID' })
      if (wantPath !== undefined) expect(error).toMatchObject({ details: { path: wantPath } })
      for (const secret of [SECRET, ackKey.private_key])
        expect(JSON.stringify([String(error), (error as Error).cause ?? ''])).not.toContain(secret)
    }
  })

  it('leaves out what a later version has keys for, and says that it does', () => {
    const later = { use: 'later-use', key_id: 'l1', alg: 'ML-DSA-65', seeds: [1, { deep: true }] }
    const keyring = parseKeyring(ringText(later, stampKey, { ...later, key_id: 'l2' }, chainKey))
    expect(keyring).toEqual(parseKeyring(ringText(stampKey, chainKey)))
    expect(unknownUses(keyring)).toEqual(['later-use'])
    expect(unknownUses(parseKeyring(ringText(stampKey)))).toEqual([])
    expect(indexKeyring(keyring).chainKey('c1')?.keyId).toBe('c1')
    expect(indexKeyring(keyring).chainKey('l1')).toBeUndefined()
  })

  it('knows the uses of its schema, and no others', () => {
    const literals = JSON.stringify(Keyring).matchAll(/"use":\{"type":"string","const":"([^"]+)"\}/g)
    expect(new Set([...literals].map(([, use]) => use))).toEqual(new Set(KEY_USES))
  })

  it.each(['not a keyring', `{"version":1,"keys":[{"secret":"${SECRET}",}]}`])(
    'says nothing of what it cannot read',
    (text) => {
      try {
        parseKeyring(text)
        expect.unreachable()
      } catch (error) {
        expect(String(error) + String((error as Error).cause)).not.toMatch(/not a keyring|BwcH/)
      }
    },
  )
})

describe('validity', () => {
  const revoked = { ...stampKey, key_id: 's0', revoked_at: '2026-01-15T00:00:00.000Z' }
  const key = index(revoked).stampKey('s0')
  it.each([
    { at: '2025-12-31T23:59:59.999Z', want: false },
    { at: '2026-01-01T00:00:00.000Z', want: true },
    { at: '2026-01-14T23:59:59.999Z', want: true },
    { at: '2026-01-15T00:00:00.000Z', want: false },
    { at: '2026-02-01T00:00:00.000Z', want: false },
  ])('at $at: $want', ({ at, want }) => {
    expect(key !== undefined && isValidAt(key, at)).toBe(want)
  })

  it('ends before not_after', () => {
    const plain = index(stampKey).stampKey('s1')
    expect(plain !== undefined && isValidAt(plain, '2026-01-31T23:59:59.999Z')).toBe(true)
    expect(plain !== undefined && isValidAt(plain, TIMES.not_after)).toBe(false)
  })

  it('signs with the first key of the file that is valid and fits', () => {
    const keys = index(
      revoked,
      { ...stampKey, key_id: 'x', tenant: 'u' },
      stampKey,
      { ...stampKey, key_id: 's2' },
      chainKey,
      publicAckKey,
      ackKey,
    )
    const active = (at: string, producerId = 'p', tenant = 't') =>
      keys.activeStampKey({ producerId, tenant, at: new Date(at) })?.keyId
    expect(active('2026-01-10T00:00:00.000Z')).toBe('s0')
    expect(active('2026-01-20T00:00:00.000Z')).toBe('s1')
    expect(active('2026-01-20T00:00:00.000Z', 'p', 'u')).toBe('x')
    expect(active('2026-01-20T00:00:00.000Z', 'q')).toBeUndefined()
    expect(active('2026-03-01T00:00:00.000Z')).toBeUndefined()
    expect(keys.activeChainKey(new Date('2026-01-20T00:00:00.000Z'))?.keyId).toBe('c1')
    expect(keys.activeAckKey(new Date('2026-01-20T00:00:00.000Z'))?.keyId).toBe('a1')
  })
})
