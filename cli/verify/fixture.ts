import { createSecretKey } from 'node:crypto'
import { sha256 } from '#core/crypto/digest.ts'
import { scanStructure } from '#core/json/scan.ts'
import type { Keyring } from '#core/keyring/schema.ts'
import type { StampClaims, StampSubject } from '#core/stamp/schema.ts'
import { signStamp, type SignedStamp } from '#core/stamp/sign.ts'
import { embedStamp } from '#core/stamp/splice.ts'
import { targetDigest } from '#core/stamp/subject.ts'

/** For tests: answers stamped as the proxy stamps them, and the keyring to verify them with. */
const SECRET = Buffer.alloc(32, 7)
const VALIDITY = { not_before: '2020-01-01T00:00:00.000Z', not_after: '2100-01-01T00:00:00.000Z' }

export const KEYRING: Keyring = {
  version: 1,
  keys: [
    {
      use: 'stamp',
      alg: 'HMAC-SHA256',
      key_id: 'stamp-1',
      producer_id: 'demo/api',
      tenant: 'acme',
      secret: SECRET.toString('base64url'),
      ...VALIDITY,
    },
  ],
}

export function subject(target: string, changes: Partial<StampSubject> = {}): StampSubject {
  return {
    tenant: 'acme',
    method: 'GET',
    target_digest: targetDigest(target),
    status: 200,
    media_type: 'application/json',
    channel: 'external',
    ...changes,
  }
}

export function stampOf(payload: Buffer, of: StampSubject): SignedStamp {
  const claims: StampClaims = {
    stamp_version: 'v1',
    timestamp_utc: '2026-11-23T09:30:00.123Z',
    data_classification: 'confidential',
    regulatory_compliance: ['GDPR', 'SOX'],
    approval_status: 'approved',
    data_lineage: {
      producer_id: 'demo/api',
      source_assets: [],
      transformations: [],
      request_id: '0197a0b0-0000-7000-8000-000000000001',
      trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
    },
    subject: of,
    policy: { bundle_revision: '1-0123456789abcdef', decision_id: 'd-1' },
  }
  return signStamp({
    claims,
    canonicalization: 'bytes',
    payloadDigest: sha256(payload),
    payloadLength: payload.length,
    key: {
      keyId: 'stamp-1',
      producerId: 'demo/api',
      tenant: 'acme',
      secret: createSecretKey(SECRET),
      notBefore: VALIDITY.not_before,
      notAfter: VALIDITY.not_after,
      revokedAt: null,
    },
  })
}

/** A JSON object with its stamp inside. */
export function stampedJson(value: object, of: StampSubject): Buffer {
  const payload = Buffer.from(JSON.stringify(value))
  const { closeBrace, isEmpty } = scanStructure(payload)
  return embedStamp(payload, closeBrace, isEmpty, stampOf(payload, of).jcs)
}
