import { describe, expect, it } from 'vitest'
import { digestText } from '../crypto/digest.ts'
import { formatDerivedKeyId } from '../keyring/derived.ts'
import type { ActiveStampKey } from '../keyring/keyring.ts'
import { bytesPayload } from './payload.ts'
import type { StampClaims } from './schema.ts'
import { signStamp } from './sign.ts'
import { CLAIMS, KEYS, stampOf } from './stamp.fixture.ts'
import { judgeStamp } from './verdict.ts'

const PAYLOAD = '{"a":1}'
const derived = formatDerivedKeyId({
  rootKeyId: 'root-2026',
  day: '20261123',
  tenant: 'acme',
  producerId: 'reports/ledger-api',
})
/** Made with a key that is not the claims', or not valid at their time: `signStamp` makes no such stamp, others may. */
function made(keyId: string, over: Partial<ActiveStampKey> = {}, claims: StampClaims = CLAIMS): Buffer {
  const { digest, length } = bytesPayload(Buffer.from(PAYLOAD))
  const lax = { notBefore: '2000-01-01T00:00:00.000Z', notAfter: '2100-01-01T00:00:00.000Z', revokedAt: null }
  const key = { ...KEYS.stampKey(keyId)!, ...lax, ...over }
  const signed = signStamp({ claims, canonicalization: 'bytes', payloadDigest: digest, payloadLength: length, key })
  return Buffer.from(signed.jcs)
}
const bytesOf = ({ jcs }: { jcs: string }): Buffer => Buffer.from(jcs)
const text = (bytes: Buffer, from: string, to: string): Buffer => Buffer.from(bytes.toString().replace(from, to))

describe('judgeStamp', () => {
  it.each([
    { what: 'made with a key of the keyring', bytes: bytesOf(stampOf(PAYLOAD)) },
    { what: 'made with a derived key', bytes: bytesOf(stampOf(PAYLOAD, { keyId: derived })) },
    { what: 'over a canonical form', bytes: bytesOf(stampOf(PAYLOAD, { canonicalization: 'jcs' })) },
  ])('vouches for a stamp $what', ({ bytes }) =>
    expect(judgeStamp(bytes, KEYS, 'acme')).toEqual({ version: 1, stamp_hash: digestText(bytes), verified: true }),
  )

  const bytes = bytesOf(stampOf(PAYLOAD))
  it.each([
    { what: 'changed', bytes: text(bytes, '"internal"', '"public"'), want: 'STAMP_MAC_MISMATCH' },
    { what: 'of another tenant', bytes, tenant: 'globex', want: 'STAMP_SUBJECT_MISMATCH' },
    {
      what: "with another's key",
      bytes: made('billing-2026', { producerId: 'reports/ledger-api' }),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'after its key was revoked',
      bytes: made('reports-revoked'),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'with a key that nobody has',
      bytes: text(bytes, 'reports-2026', 'reports-2027'),
      want: 'STAMP_KEY_UNKNOWN',
    },
    {
      what: 'before its day',
      bytes: made(derived, {}, { ...CLAIMS, timestamp_utc: '2026-11-20T00:00:00.000Z' }),
      want: 'STAMP_KEY_INVALID',
    },
    { what: 'in another encoding', bytes: Buffer.from(` ${bytes.toString()}`), want: 'STAMP_INVALID' },
    { what: 'that is none', bytes: Buffer.from('null'), want: 'STAMP_INVALID' },
    { what: 'that is nothing', bytes: Buffer.alloc(0), want: 'STAMP_INVALID' },
  ])('does not vouch for a stamp $what', ({ bytes: given, tenant = 'acme', want }) =>
    expect(judgeStamp(given, KEYS, tenant)).toEqual({
      version: 1,
      stamp_hash: digestText(given),
      verified: false,
      code: want,
    }),
  )
})
