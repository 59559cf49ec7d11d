import { generateKeyPairSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { ledgerKeys } from './keys.ts'

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
