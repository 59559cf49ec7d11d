import { indexKeyring, type Keyring } from '../keyring/keyring.ts'
import { bytesPayload, digestPayload } from './payload.ts'
import type { Canonicalization, StampClaims } from './schema.ts'
import { signStamp, type SignedStamp } from './sign.ts'
import { targetDigest } from './subject.ts'

const secret = (byte: number): string => Buffer.alloc(32, byte).toString('base64url')
const year2026 = { not_before: '2026-01-01T00:00:00.000Z', not_after: '2027-01-01T00:00:00.000Z' }
const reports = { use: 'stamp', alg: 'HMAC-SHA256', producer_id: 'reports/ledger-api', tenant: 'acme' } as const

/** Fixed keys for tests: never for anything else. */
export const KEYRING: Keyring = {
  version: 1,
  keys: [
    { ...reports, key_id: 'reports-2026', secret: secret(1), ...year2026 },
    { ...reports, key_id: 'reports-revoked', secret: secret(2), ...year2026, revoked_at: '2026-06-01T00:00:00.000Z' },
    { ...reports, key_id: 'billing-2026', secret: secret(3), ...year2026, producer_id: 'billing/api' },
    { ...reports, key_id: 'globex-2026', secret: secret(4), ...year2026, tenant: 'globex' },
    { use: 'chain', alg: 'HMAC-SHA256', key_id: 'chain-2026', secret: secret(5), ...year2026 },
    { use: 'stamp-root', alg: 'HKDF-SHA256', key_id: 'root-2026', secret: secret(6), ...year2026 },
    {
      use: 'stamp-root',
      alg: 'HKDF-SHA256',
      key_id: 'root.revoked',
      secret: secret(7),
      ...year2026,
      revoked_at: '2026-11-23T09:00:00.000Z',
    },
  ],
}
export const KEYS = indexKeyring(KEYRING)

export const TARGET = '/reports/q3?format=json'
export const CLAIMS: StampClaims = {
  stamp_version: 'v1',
  timestamp_utc: '2026-11-23T09:30:00.123Z',
  data_classification: 'internal',
  regulatory_compliance: ['GDPR', 'SOX'],
  approval_status: 'approved',
  data_lineage: {
    producer_id: 'reports/ledger-api',
    source_assets: ['urn:acme:ledger@sha256:abcd'],
    transformations: ['sum'],
    request_id: '01890a5d-ac96-774b-bcce-b302099a8057',
    trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
  },
  subject: {
    tenant: 'acme',
    method: 'GET',
    target_digest: targetDigest(TARGET),
    status: 200,
    media_type: 'application/json',
    channel: 'external',
  },
  policy: { bundle_revision: 'r1', decision_id: 'd1' },
}
export const EXPECTED = {
  tenant: 'acme',
  method: 'GET',
  target_digest: targetDigest(TARGET),
  status: 200,
  channel: 'external',
} as const

/** Signs `CLAIMS` over a payload with a key of `KEYRING`. */
export function stampOf(
  payload: string | Uint8Array,
  options: { claims?: StampClaims; keyId?: string; canonicalization?: Canonicalization } = {},
): SignedStamp {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload
  const canonicalization = options.canonicalization ?? 'bytes'
  const { digest, length } = canonicalization === 'bytes' ? bytesPayload(bytes) : digestPayload(bytes, canonicalization)
  const key = KEYS.stampKey(options.keyId ?? 'reports-2026')
  if (key === undefined) throw new Error('no such key in the fixture')
  return signStamp({
    claims: options.claims ?? CLAIMS,
    canonicalization,
    payloadDigest: digest,
    payloadLength: length,
    key,
  })
}
