import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatDerivedKeyId, parseDerivedKeyId } from './derived.ts'
import { indexKeyring, isValidAt } from './keyring.ts'

const rootEntry = (keyId: string, byte: number, more: object = {}) => ({
  use: 'stamp-root' as const,
  alg: 'HKDF-SHA256' as const,
  key_id: keyId,
  secret: Buffer.alloc(32, byte).toString('base64url'),
  not_before: '2026-01-01T00:00:00.000Z',
  not_after: '2027-01-01T00:00:00.000Z',
  ...more,
})
const index = indexKeyring({
  version: 1,
  keys: [rootEntry('root-1', 1), rootEntry('root.2', 2, { revoked_at: '2026-11-25T12:00:00.000Z' })],
})
const ID = 'd1.root-1.20261125.acme.demo%2Fapi'

describe('ids of derived keys', () => {
  it('go to text and back, in one spelling', () => {
    const text = fc.string({ unit: 'binary', minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(text, text, text, (rootKeyId, tenant, producerId) => {
        const id = { rootKeyId, day: '20261125', tenant, producerId }
        expect(parseDerivedKeyId(formatDerivedKeyId(id))).toEqual(id)
      }),
    )
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('d', '1', '.', '%', '2', 'F', 'a', '/', '0', '6', '~') }),
        (rest) => {
          const parsed = parseDerivedKeyId(`d1.${rest}`)
          if (parsed !== null) expect(formatDerivedKeyId(parsed)).toBe(`d1.${rest}`)
        },
      ),
    )
  })
  it('is readable', () => {
    expect(parseDerivedKeyId(ID)).toEqual({
      rootKeyId: 'root-1',
      day: '20261125',
      tenant: 'acme',
      producerId: 'demo/api',
    })
  })
  it.each([
    'd2.root-1.20261125.acme.demo%2Fapi',
    'd1.root-1.20261125.acme.demo/api',
    'd1.root-1.20261125.acme.demo%2fapi',
    'd1.root-1.20261125.acme.%64emo',
    'd1.root-1.20261125.acme.%FF',
    'd1.root-1.20261131.acme.demo',
    'd1.root-1.00010101.acme.demo',
    'd1.root-1.2026112.acme.demo',
    'd1.root-1.20261125..demo',
    'd1.root-1.20261125.acme',
    'd1.root-1.20261125.acme.demo.api',
    'd1.root-1.20261125.acme.demo\n',
    `d1.root-1.20261125.acme.${'a'.repeat(500)}`,
  ])('%j is none', (keyId) => {
    expect(parseDerivedKeyId(keyId)).toBeNull()
    expect(index.stampKey(keyId)).toBeUndefined()
  })
  it('refuses names that are too long together', () => {
    const parts = { rootKeyId: 'r', day: '20261125', tenant: 'é'.repeat(60), producerId: 'é'.repeat(60) }
    expect(() => formatDerivedKeyId(parts)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
  })
})

describe('derived keys', () => {
  it('are found by their id, and fix tenant and producer', () => {
    const key = index.stampKey(ID)
    expect(key).toMatchObject({
      keyId: ID,
      tenant: 'acme',
      producerId: 'demo/api',
      notBefore: '2026-11-24T23:50:00.000Z',
      notAfter: '2026-11-27T00:00:00.000Z',
      revokedAt: null,
    })
    expect(index.stampKey(ID)).toBe(key)
  })
  it('are what HKDF makes of the root (RFC 5869), as docs/reference/stamp.md has it', () => {
    expect(index.stampKey(ID)?.secret.export().toString('hex')).toBe(
      '85693019db083085c3290ba818c5c6bfa5b16ee46cd4cb829a6496822b1ae0d4',
    )
  })
  it.each([
    'd1.root-1.20261126.acme.demo%2Fapi',
    'd1.root-1.20261125.globex.demo%2Fapi',
    'd1.root-1.20261125.acme.demo%2Fother',
    'd1.root%2E2.20261125.acme.demo%2Fapi',
    'd1.root-1.20261125.demo%2Fapi.acme',
  ])('%s is another key', (keyId) => {
    const [one, other] = [index.stampKey(ID), index.stampKey(keyId)]
    expect(other).toBeDefined()
    expect(one?.secret.export().equals(other?.secret.export() ?? Buffer.alloc(0))).toBe(false)
  })
  it('end with their root', () => {
    const key = index.stampKey('d1.root%2E2.20261125.acme.demo')
    expect(key !== undefined && isValidAt(key, '2026-11-25T11:59:59.999Z')).toBe(true)
    expect(key !== undefined && isValidAt(key, '2026-11-25T12:00:00.000Z')).toBe(false)
    expect(index.stampKey('d1.root-1.20261231.acme.demo')?.notAfter).toBe('2027-01-01T00:00:00.000Z')
    expect(index.stampKey('d1.root-1.20260101.acme.demo')?.notBefore).toBe('2026-01-01T00:00:00.000Z')
  })
  it('of an unknown root are unknown', () => expect(index.stampKey('d1.root-9.20261125.acme.demo')).toBeUndefined())
  it('does not grow with the ids asked for', () => {
    for (let count = 0; count < 3_000; count += 1) index.stampKey(`d1.root-1.20261125.acme.p${count}`)
    expect(index.stampKey(ID)).toBeDefined()
  })
})
