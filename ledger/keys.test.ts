import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ledgerKeys, replaceableKeys } from './keys.ts'

const pair = generateKeyPairSync('ed25519')
const chain = (keyId: string, from: string, to: string) => ({
  use: 'chain',
  alg: 'HMAC-SHA256',
  key_id: keyId,
  secret: Buffer.alloc(32, keyId).toString('base64url'),
  not_before: `${from}-01-01T00:00:00.000Z`,
  not_after: `${to}-01-01T00:00:00.000Z`,
})
const ack = {
  use: 'ack',
  alg: 'Ed25519',
  key_id: 'ack',
  public_key: pair.publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
  private_key: pair.privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
  not_before: '2026-01-01T00:00:00.000Z',
  not_after: '2027-01-01T00:00:00.000Z',
}
const keyring = (...keys: object[]): string => JSON.stringify({ version: 1, keys })

describe('marks', () => {
  test('stay the same when a key is added, wherever it stands in the file', () => {
    const before = ledgerKeys(keyring(chain('a', '2026', '2027'), ack)).mark('trace', 'acme', 't')
    const after = ledgerKeys(keyring(chain('b', '2027', '2028'), chain('a', '2026', '2027'), ack)).mark(
      'trace',
      'acme',
      't',
    )
    expect(after).toEqual(before)
  })

  test('differ by use, and by where one part ends', () => {
    const { mark } = ledgerKeys(keyring(chain('a', '2026', '2027'), ack))
    const marks = [mark('trace', 'ab', 'c'), mark('received', 'ab', 'c'), mark('trace', 'a', 'bc')].map((bytes) =>
      bytes.toString('hex'),
    )
    expect(new Set(marks).size).toBe(3)
  })
})

test('the key of the day chains; where none is valid, that is an error', () => {
  const keys = ledgerKeys(keyring(chain('a', '2026', '2027'), chain('b', '2027', '2028'), ack))
  expect(keys.activeChainKey(new Date('2026-06-01')).keyId).toBe('a')
  expect(keys.activeChainKey(new Date('2027-06-01')).keyId).toBe('b')
  expect(() => keys.activeChainKey(new Date('2028-06-01'))).toThrow(
    expect.objectContaining({ code: 'LEDGER_KEY_UNAVAILABLE' }),
  )
  expect(() => keys.ackKey(new Date('2027-06-01'))).toThrow(expect.objectContaining({ code: 'LEDGER_KEY_UNAVAILABLE' }))
})

test.each([
  { name: 'no chain key', text: keyring(ack) },
  { name: 'no ack key', text: keyring(chain('a', '2026', '2027')) },
  {
    name: 'an ack key that can only verify',
    text: keyring(chain('a', '2026', '2027'), { ...ack, private_key: undefined }),
  },
])('$name: refused', ({ text }) => {
  expect(() => ledgerKeys(text)).toThrow(expect.objectContaining({ code: 'KEYRING_INVALID' }))
})

describe('replaceableKeys', () => {
  const root = (keyId: string) => ({ ...chain(keyId, '2026', '2027'), use: 'stamp-root', alg: 'HKDF-SHA256' })
  const AT = new Date('2026-06-01T00:00:00.000Z')
  const first = keyring(chain('a', '2026', '2027'), ack, root('r1'))

  test('take another keyring over for all who hold them', () => {
    const keys = replaceableKeys(first)
    const id = 'd1.r2.20260601.acme.demo'
    expect([keys.stampRoot(AT)?.keyId, keys.stampKey(id)]).toEqual(['r1', undefined])
    keys.replace(keyring(chain('a', '2026', '2027'), chain('b', '2027', '2028'), ack, root('r2'), root('r1')))
    expect([keys.stampRoot(AT)?.keyId, keys.stampKey(id)?.keyId]).toEqual(['r2', id])
    expect(keys.publicAckKeys()).toEqual([expect.objectContaining({ key_id: 'ack', public_key: ack.public_key })])
    expect(keys.publicAckKeys()[0]).not.toHaveProperty('private_key')
  })

  test.each([
    { name: 'no keyring', text: '{' },
    { name: 'a chain key gone', text: keyring(chain('b', '2027', '2028'), ack) },
    {
      name: 'a chain key changed',
      text: keyring({ ...chain('a', '2026', '2027'), secret: Buffer.alloc(32, 9).toString('base64url') }, ack),
    },
    { name: 'another first', text: keyring(chain('a', '2026', '2027'), chain('z', '2025', '2026'), ack) },
    { name: 'no ack key', text: keyring(chain('a', '2026', '2027')) },
  ])('keep the former for $name', ({ text }) => {
    const keys = replaceableKeys(first)
    const mark = keys.mark('trace', 'x')
    expect(() => keys.replace(text)).toThrow(expect.objectContaining({ code: 'KEYRING_INVALID' }))
    expect(keys.mark('trace', 'x')).toEqual(mark)
    expect(keys.stampRoot(AT)?.keyId).toBe('r1')
  })

  test('derive from the root that lasts, before the other ends', () => {
    const short = { ...root('r1'), not_after: '2026-06-01T12:00:00.000Z' }
    const keys = replaceableKeys(keyring(chain('a', '2026', '2027'), ack, short, root('r2')))
    expect(keys.stampRoot(new Date('2026-05-31T11:59:00.000Z'))?.keyId).toBe('r1')
    expect(keys.stampRoot(AT)?.keyId).toBe('r2')
    // Where there is no other, it serves to its end.
    keys.replace(keyring(chain('a', '2026', '2027'), ack, short))
    expect(keys.stampRoot(AT)?.keyId).toBe('r1')
    expect(keys.stampRoot(new Date('2026-06-01T12:00:00.000Z'))).toBeNull()
  })

  test('have no authority to issue with unless the keyring has one', () => {
    expect(() => replaceableKeys(first).workloadCa(AT)).toThrow(
      expect.objectContaining({ code: 'LEDGER_KEY_UNAVAILABLE' }),
    )
  })
})
