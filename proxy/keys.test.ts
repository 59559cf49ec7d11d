import { describe, expect, test } from 'vitest'
import { indexKeyring, parseKeyring } from '#core/keyring/keyring.ts'
import { StampKeys } from './keys.ts'

const T0 = Date.parse('2026-06-01T00:00:00.000Z')

function keyring(keys: { id: string; from: number; to: number; revoked?: number }[]) {
  const iso = (ms: number): string => new Date(T0 + ms).toISOString()
  return indexKeyring(
    parseKeyring(
      JSON.stringify({
        version: 1,
        keys: keys.map(({ id, from, to, revoked }) => ({
          use: 'stamp',
          alg: 'HMAC-SHA256',
          key_id: id,
          producer_id: 'p',
          tenant: 't',
          secret: Buffer.alloc(32, 1).toString('base64url'),
          not_before: iso(from),
          not_after: iso(to),
          ...(revoked === undefined ? {} : { revoked_at: iso(revoked) }),
        })),
      }),
    ),
  )
}

describe('StampKeys', () => {
  test.each([
    { name: 'at its end, the next one signs at once', at: [0, 999, 1_000], want: ['a', 'a', 'b'] },
    { name: 'also when it was looked up a moment before', at: [995, 1_001], want: ['a', 'b'] },
    { name: 'when the clock steps back', at: [1_500, 500], want: ['b', 'a'] },
  ])('$name', ({ at, want }) => {
    const keys = new StampKeys(
      keyring([
        { id: 'a', from: -1_000, to: 1_000 },
        { id: 'b', from: 900, to: 9_000 },
      ]),
      'p',
      't',
    )
    expect(at.map((ms) => keys.active(T0 + ms).keyId)).toEqual(want)
  })

  test('a revoked key stops signing at once, and without any nothing is signed', () => {
    const keys = new StampKeys(keyring([{ id: 'a', from: -1_000, to: 9_000, revoked: 500 }]), 'p', 't')
    expect(keys.hasActive(T0 + 499)).toBe(true)
    expect(keys.hasActive(T0 + 500)).toBe(false)
    expect(() => keys.active(T0 + 501)).toThrow(expect.objectContaining({ code: 'PROXY_NOT_READY' }))
  })

  test('another producer, or another tenant, has none', () => {
    expect(new StampKeys(keyring([{ id: 'a', from: 0, to: 9_000 }]), 'q', 't').hasActive(T0 + 1)).toBe(false)
    expect(new StampKeys(keyring([{ id: 'a', from: 0, to: 9_000 }]), 'p', 'u').hasActive(T0 + 1)).toBe(false)
  })
})
