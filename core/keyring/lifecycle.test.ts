import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { indexKeyring, parseKeyring, type Keyring } from './keyring.ts'
import { archiveKeys, keyState, retirePrivateKeys, revokeKey, rotateKeys, type Rotation } from './lifecycle.ts'

const DAY = 86_400_000
const NOW = new Date('2026-11-25T12:00:00.000Z')
const validity = { not_before: '2026-11-01T00:00:00.000Z', not_after: '2026-12-05T00:00:00.000Z' }
const secret = (byte: number): string => Buffer.alloc(32, byte).toString('base64url')
const pair = generateKeyPairSync('ed25519')
const KEYRING: Keyring = {
  version: 1,
  keys: [
    { use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-1', secret: secret(1), ...validity },
    {
      use: 'ack',
      alg: 'Ed25519',
      key_id: 'ack-1',
      public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
      private_key: pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
      ...validity,
    },
    { use: 'stamp', alg: 'HMAC-SHA256', key_id: 's-a', tenant: 'a', producer_id: 'p', secret: secret(2), ...validity },
    { use: 'stamp', alg: 'HMAC-SHA256', key_id: 's-b', tenant: 'b', producer_id: 'p', secret: secret(3), ...validity },
  ],
}
const rotation: Rotation = { use: 'chain', at: NOW, leadMs: 0, overlapMs: 7 * DAY, lifetimeMs: 31 * DAY, randomBytes }
const reread = (keyring: Keyring): Keyring => parseKeyring(JSON.stringify(keyring))

describe('rotateKeys', () => {
  it('adds a chain key that signs from now on; the former stays valid for the overlap, and verifies for ever', () => {
    const { keyring, added } = rotateKeys(KEYRING, rotation)
    const keys = indexKeyring(reread(keyring))
    expect(added).toMatchObject([
      { key_id: 'chain-2026-11-25', not_before: NOW.toISOString(), not_after: '2026-12-26T12:00:00.000Z' },
    ])
    expect(keys.activeChainKey(NOW)?.keyId).toBe('chain-2026-11-25')
    expect(keys.activeChainKey(new Date(NOW.getTime() - 1))?.keyId).toBe('chain-1')
    expect(keys.chainKey('chain-1')?.notAfter).toBe('2026-12-02T12:00:00.000Z')
    expect(keys.chainKey('chain-1')?.secret.export()).toEqual(Buffer.alloc(32, 1))
  })

  it('lets verifiers learn of an ack key before it signs', () => {
    const { keyring } = rotateKeys(KEYRING, { ...rotation, use: 'ack', leadMs: DAY })
    const keys = indexKeyring(reread(keyring))
    expect(keys.activeAckKey(NOW)?.keyId).toBe('ack-1')
    expect(keys.activeAckKey(new Date(NOW.getTime() + DAY))?.keyId).toBe('ack-2026-11-26')
  })

  it('gives every tenant and producer a stamp key of its own', () => {
    const { added } = rotateKeys(KEYRING, { ...rotation, use: 'stamp' })
    expect(added.map((key) => (key.use === 'stamp' ? [key.tenant, key.key_id] : []))).toEqual([
      ['a', 'stamp-2026-11-25'],
      ['b', 'stamp-2026-11-25-2'],
    ])
    expect(new Set(added.map((key) => ('secret' in key ? key.secret : '')))).toHaveProperty('size', 2)
  })

  it('gives a keyring from before sealing its first seal-master, then successors; an archive has none of them', () => {
    const first = rotateKeys(KEYRING, { ...rotation, use: 'seal-master' })
    expect(first.added).toMatchObject([{ use: 'seal-master', not_before: '2026-11-25T11:00:00.000Z' }])
    expect(first.keyring.keys).toHaveLength(KEYRING.keys.length + 1)
    const later = new Date(NOW.getTime() + DAY)
    const second = rotateKeys(reread(first.keyring), { ...rotation, use: 'seal-master', at: later })
    const keys = indexKeyring(reread(second.keyring))
    expect(keys.activeSealMaster(NOW)?.keyId).toBe(first.added[0]?.key_id)
    expect(keys.activeSealMaster(later)?.keyId).toBe(second.added[0]?.key_id)
    expect(keys.sealMaster(first.added[0]?.key_id ?? '')).toBeDefined()
    expect(archiveKeys(second.keyring, null).keys.map(({ use }) => use)).not.toContain('seal-master')
  })

  it('takes no seal-master that has not 32 bytes', () => {
    const { keyring } = rotateKeys(KEYRING, { ...rotation, use: 'seal-master' })
    const long = {
      version: 1,
      keys: keyring.keys.map((key) =>
        'secret' in key && key.use === 'seal-master' ? { ...key, secret: Buffer.alloc(33).toString('base64url') } : key,
      ),
    }
    expect(() => parseKeyring(JSON.stringify(long))).toThrow(/must have 32 bytes/)
  })

  it('every month for two years: always one that signs, all that verify', () => {
    let keyring = KEYRING
    for (let month = 0; month < 24; month++)
      keyring = rotateKeys(keyring, { ...rotation, at: new Date(NOW.getTime() + month * 28 * DAY) }).keyring
    const keys = indexKeyring(reread(keyring))
    for (let day = 0; day < 24 * 28; day++)
      expect(keys.activeChainKey(new Date(NOW.getTime() + day * DAY))).toBeDefined()
    expect(keyring.keys.filter(({ use }) => use === 'chain')).toHaveLength(25)
  })

  it.each([
    { what: 'no key of that use', change: { use: 'stamp-root' as const }, want: /there is none to follow/ },
    {
      what: 'none that is valid',
      change: { at: new Date('2027-01-01T00:00:00.000Z') },
      want: /there is none to follow/,
    },
    {
      what: 'the moment that the key begins',
      change: { at: new Date(validity.not_before) },
      want: /has to begin later/,
    },
  ])('refuses $what', ({ change, want }) => {
    expect(() => rotateKeys(KEYRING, { ...rotation, ...change })).toThrow(want)
  })

  it('refuses a second successor', () => {
    const once = rotateKeys(KEYRING, { ...rotation, use: 'ack', leadMs: DAY }).keyring
    expect(() => rotateKeys(once, { ...rotation, use: 'ack', leadMs: DAY })).toThrow(/is to take over at/)
  })
})

describe('revokeKey', () => {
  it('ends a key whose successor is valid', () => {
    const { keyring } = rotateKeys(KEYRING, rotation)
    const revoked = reread(revokeKey(keyring, 'chain-1', NOW, NOW))
    expect(revoked.keys.map((key) => [key.key_id, keyState(key, NOW)])).toContainEqual(['chain-1', 'revoked'])
    expect(indexKeyring(revoked).activeChainKey(NOW)?.keyId).toBe('chain-2026-11-25')
    expect(reread(revokeKey(KEYRING, 's-a', NOW, NOW)).keys).toHaveLength(4)
  })
  it.each([
    { keyId: 'chain-1', want: /rotate first, then revoke/ },
    { keyId: 'ack-1', want: /rotate first, then revoke/ },
    { keyId: 'x', want: /there is no key/ },
  ])('refuses $keyId', ({ keyId, want }) => {
    expect(() => revokeKey(KEYRING, keyId, NOW, NOW)).toThrow(want)
  })
  it('refuses to do it twice, or from before the key was', () => {
    const once = revokeKey(KEYRING, 's-a', NOW, NOW)
    expect(() => revokeKey(once, 's-a', NOW, NOW)).toThrow(/already/)
    expect(() => revokeKey(KEYRING, 's-b', new Date('2026-10-01T00:00:00.000Z'), NOW)).toThrow(
      /nothing it made would verify/,
    )
  })
})

describe('the archive', () => {
  it('verifies, and signs nothing', () => {
    const archive = reread(archiveKeys(KEYRING, null))
    expect(JSON.stringify(archive)).not.toContain('private_key')
    expect(indexKeyring(archive).chainKey('chain-1')).toBeDefined()
    expect(indexKeyring(archive).ackKey('ack-1')?.privateKey).toBeNull()
  })
  it('keeps what it had, and loses none to another of the name', () => {
    const old: Keyring = {
      version: 1,
      keys: [{ use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-0', secret: secret(9), ...validity }],
    }
    expect(archiveKeys(KEYRING, old).keys.map(({ key_id }) => key_id)).toContain('chain-0')
    const other: Keyring = { version: 1, keys: [{ ...old.keys[0]!, key_id: 'chain-1' }] }
    expect(() => archiveKeys(KEYRING, other)).toThrow(/it would be lost/)
  })
  it('takes private keys from what has ended', () => {
    expect(retirePrivateKeys(KEYRING, NOW).retired).toEqual([])
    const { keyring, retired } = retirePrivateKeys(KEYRING, new Date('2027-01-01T00:00:00.000Z'))
    expect(retired).toEqual(['ack-1'])
    expect(indexKeyring(reread(keyring)).ackKey('ack-1')?.privateKey).toBeNull()
  })
})

describe('a keyring that a later version wrote', () => {
  const keyring = parseKeyring(
    JSON.stringify({ ...KEYRING, keys: [...KEYRING.keys, { use: 'later-use', key_id: 'l1', secret: secret(9) }] }),
  )
  it.each([
    { what: 'rotates nothing', act: () => rotateKeys(keyring, rotation) },
    { what: 'revokes nothing', act: () => revokeKey(keyring, 's-a', NOW, NOW) },
    { what: 'archives nothing', act: () => archiveKeys(keyring, null) },
    { what: 'adds nothing to its archive', act: () => archiveKeys(KEYRING, keyring) },
    { what: 'takes no private keys', act: () => retirePrivateKeys(keyring, NOW) },
  ])('$what of what it would lose', ({ act }) => {
    expect(act).toThrow(/has keys with use "later-use"/)
  })
})
