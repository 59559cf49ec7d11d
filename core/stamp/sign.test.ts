import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize } from '../canonical/jcs.ts'
import { digestText, sha256 } from '../crypto/digest.ts'
import type { StampClaims } from './schema.ts'
import { CLAIMS, KEYS, stampOf } from './stamp.fixture.ts'
import { verifyStamp } from './verify.ts'

describe('signStamp', () => {
  it('gives the canonical form of the stamp, its hash, and the MAC that the design writes down', () => {
    const signed = stampOf('{"a":1}')
    expect(signed.jcs).toBe(canonicalize(signed.stamp))
    expect(signed.hash).toBe(digestText(signed.jcs))

    // Framed by hand, so that neither pae() nor the splice of `mac` is taken on trust.
    const { mac, ...integrity } = signed.stamp.integrity
    const parts = [
      Buffer.from('SignetV1'),
      Buffer.from('application/vnd.signet.stamp.v1+json'),
      sha256('{"a":1}'),
      Buffer.from(canonicalize({ ...signed.stamp, integrity })),
    ]
    const hmac = createHmac('sha256', Buffer.alloc(32, 1))
    for (const part of parts) {
      const length = Buffer.alloc(8)
      length.writeBigUInt64BE(BigInt(part.length))
      hmac.update(length).update(part)
    }
    expect(mac).toBe(hmac.digest('hex'))
  })

  it('holds for claims with members that nobody knows, wherever they sort', () => {
    const name = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.constantFrom('__proto__', 'integrit', 'integritz', 'mac', 'integrity.mac', 'constructor'),
    )
    fc.assert(
      fc.property(fc.dictionary(name, fc.jsonValue({ stringUnit: 'binary' })), (extra) => {
        delete extra['integrity']
        const claims = { ...extra, ...CLAIMS } as StampClaims
        const signed = stampOf('{}', { claims })
        expect(signed.jcs).toBe(canonicalize(signed.stamp))
        expect(
          verifyStamp({ stampBytes: Buffer.from(signed.jcs), payload: Buffer.from('{}'), keyring: KEYS }).hash,
        ).toBe(signed.hash)
      }),
    )
  })

  it('puts the MAC into the right `integrity`, whatever the claims say', () => {
    const decoy = { alg: 'HMAC-SHA256', key_id: 'k', payload_digest: digestText('{}'), payload_length: 2 }
    const claims = { ...CLAIMS, a: { integrity: decoy }, z: { integrity: decoy } }
    const signed = stampOf('{}', { claims })
    expect(signed.jcs).toBe(canonicalize(signed.stamp))
  })

  it.each([
    { what: "another producer's key", keyId: 'billing-2026', claims: CLAIMS, wantCode: 'STAMP_KEY_INVALID' },
    { what: "another tenant's key", keyId: 'globex-2026', claims: CLAIMS, wantCode: 'STAMP_KEY_INVALID' },
    { what: 'a revoked key', keyId: 'reports-revoked', claims: CLAIMS, wantCode: 'STAMP_KEY_INVALID' },
    {
      what: 'a time past the key',
      keyId: 'reports-2026',
      claims: { ...CLAIMS, timestamp_utc: '2027-01-01T00:00:00.000Z' },
      wantCode: 'STAMP_KEY_INVALID',
    },
    {
      what: 'no regulation',
      keyId: 'reports-2026',
      claims: { ...CLAIMS, regulatory_compliance: [] },
      wantCode: 'STAMP_INVALID',
    },
    {
      what: 'a lower-case method',
      keyId: 'reports-2026',
      claims: { ...CLAIMS, subject: { ...CLAIMS.subject, method: 'get' } },
      wantCode: 'STAMP_INVALID',
    },
    {
      what: 'a lone surrogate',
      keyId: 'reports-2026',
      claims: { ...CLAIMS, subject: { ...CLAIMS.subject, media_type: '\ud800' } },
      wantCode: 'CANONICAL_VALUE_INVALID',
    },
  ])('refuses $what', ({ keyId, claims, wantCode }) => {
    expect(() => stampOf('{}', { keyId, claims })).toThrow(expect.objectContaining({ code: wantCode }))
  })

  it('signs with a revoked key for a time before its revocation', () => {
    expect(() =>
      stampOf('{}', { keyId: 'reports-revoked', claims: { ...CLAIMS, timestamp_utc: '2026-05-31T23:59:59.999Z' } }),
    ).not.toThrow()
  })
})
