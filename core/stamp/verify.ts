import { timingSafeEqual } from 'node:crypto'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { digestText, formatDigest, parseDigest } from '../crypto/digest.ts'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { isValidAt, type ActiveStampKey, type KeyIndex } from '../keyring/keyring.ts'
import { isRealTimestamp } from '../time/timestamp.ts'
import { macMatches } from './mac.ts'
import { digestPayload, type PayloadDigest } from './payload.ts'
import { Stamp, type StampSubject } from './schema.ts'
import { SUBJECT_CHECKS } from './subject.ts'

export type StampToVerify = {
  /** The stamp as it came: its exact bytes. */
  readonly stampBytes: Uint8Array
  /** What it should be the stamp of, or its digest: of the exact bytes or of the canonical form, as the stamp's `canonicalization` has it. */
  readonly payload: Uint8Array | PayloadDigest
  readonly keyring: Pick<KeyIndex, 'stampKey'>
  /** What the verifier knows of the answer; a member that is left out is not checked. */
  readonly expected?: { readonly [Name in keyof StampSubject]?: StampSubject[Name] | undefined }
}

export type VerifiedStamp = {
  readonly stamp: Stamp
  /** `sha256:…` of the stamp's bytes. */
  readonly hash: string
  /** Whether all of `SUBJECT_CHECKS` were expected. If not, the stamp is intact, but may have been moved from another answer. */
  readonly subjectChecked: boolean
  /** Those of `SUBJECT_CHECKS` that were not. */
  readonly unchecked: readonly (keyof StampSubject)[]
}

/** Larger than the schema's members can make it in practice; what is past it is not parsed. */
export const MAX_STAMP_BYTES = 1024 * 1024

const validator = Compile(Stamp)

/**
 * Verifies a stamp, in the order of `docs/reference/stamp.md`. Takes algorithm, producer and tenant from the key, never from the
 * stamp. Members that the schema does not know are allowed; the MAC covers them.
 * @throws SignetError STAMP_INVALID (form), STAMP_KEY_UNKNOWN, STAMP_MAC_MISMATCH, STAMP_KEY_INVALID (another's key, or not valid at
 * the stamp's time), STAMP_PAYLOAD_MISMATCH, STAMP_SUBJECT_MISMATCH; the last three carry both states in `details`
 */
export function verifyStamp(toVerify: StampToVerify): VerifiedStamp {
  const { stampBytes, keyring } = toVerify
  const stamp = readStamp(stampBytes)
  const key = keyring.stampKey(stamp.integrity.key_id)
  if (key === undefined) {
    throw new SignetError('STAMP_KEY_UNKNOWN', `the keyring has no stamp key «${stamp.integrity.key_id}»`, {
      details: { key_id: stamp.integrity.key_id },
    })
  }
  if (!macMatches(stamp, key.secret)) {
    throw new SignetError('STAMP_MAC_MISMATCH', `the stamp was changed, or not made with key «${key.keyId}»`, {
      details: { key_id: key.keyId },
    })
  }
  checkKeyFits(stamp, key)
  return matchStamp(toVerify)
}

/**
 * All that `verifyStamp` checks but the key: form, payload and subject. Alone it proves nothing, as anybody can write such a stamp: for who has another's
 * word that the MAC holds (`verdict.ts`).
 * @throws SignetError STAMP_INVALID, STAMP_PAYLOAD_MISMATCH, STAMP_SUBJECT_MISMATCH
 */
export function matchStamp({ stampBytes, payload, expected }: Omit<StampToVerify, 'keyring'>): VerifiedStamp {
  const stamp = readStamp(stampBytes)
  checkPayload(stamp, payload)
  const unchecked = checkSubject(stamp.subject, expected ?? {})
  return { stamp, hash: digestText(stampBytes), subjectChecked: unchecked.length === 0, unchecked }
}

/**
 * A stamp in its one encoding; no key is asked.
 * @throws SignetError STAMP_INVALID when the bytes are not the canonical form of a stamp of schema v1
 */
export function readStamp(stampBytes: Uint8Array): Stamp {
  if (stampBytes.byteLength > MAX_STAMP_BYTES)
    throw new SignetError('STAMP_INVALID', `a stamp has ${MAX_STAMP_BYTES} bytes at most`)
  let value: unknown
  let canonical: Buffer
  try {
    value = parseStrict(stampBytes)
    canonical = Buffer.from(canonicalize(value))
  } catch (cause) {
    throw new SignetError('STAMP_INVALID', 'the stamp is not strict JSON', { cause })
  }
  if (!canonical.equals(stampBytes))
    throw new SignetError('STAMP_INVALID', 'the stamp is not in canonical form (RFC 8785)')
  if (!validator.Check(value)) {
    const { path, allowed } = firstFault(validator.Errors(value))
    throw new SignetError('STAMP_INVALID', `the stamp at ${path}: ${allowed}`, { details: { path, allowed } })
  }
  if (!isRealTimestamp(value.timestamp_utc)) {
    throw new SignetError('STAMP_INVALID', 'the stamp at /timestamp_utc: must be a time that exists', {
      details: { path: '/timestamp_utc' },
    })
  }
  return value
}

function checkKeyFits(stamp: Stamp, key: ActiveStampKey): void {
  const { keyId, producerId, tenant } = key
  const stated = { producer_id: stamp.data_lineage.producer_id, tenant: stamp.subject.tenant }
  if (stated.producer_id !== producerId || stated.tenant !== tenant) {
    throw new SignetError(
      'STAMP_KEY_INVALID',
      `key «${keyId}» signs for producer «${producerId}» and tenant «${tenant}», not for «${stated.producer_id}» and «${stated.tenant}»`,
      { details: { key: { producer_id: producerId, tenant }, stamp: stated } },
    )
  }
  if (!isValidAt(key, stamp.timestamp_utc)) {
    throw new SignetError(
      'STAMP_KEY_INVALID',
      `key «${keyId}» was not valid, or was revoked, at ${stamp.timestamp_utc}`,
      {
        details: {
          key: { not_before: key.notBefore, not_after: key.notAfter, revoked_at: key.revokedAt },
          stamp: { timestamp_utc: stamp.timestamp_utc },
        },
      },
    )
  }
}

function checkPayload(stamp: Stamp, payload: Uint8Array | PayloadDigest): void {
  const { canonicalization, payload_digest, payload_length } = stamp.integrity
  const stamped = { payload_digest, payload_length, canonicalization }
  let found: PayloadDigest
  try {
    found = payload instanceof Uint8Array ? digestPayload(payload, canonicalization) : payload
  } catch (cause) {
    // `jcs` only: it has no canonical form, so it cannot be what was stamped.
    throw new SignetError('STAMP_PAYLOAD_MISMATCH', 'the payload has no canonical form, which its stamp is over', {
      cause,
      details: { stamped },
    })
  }
  if (found.length === payload_length && timingSafeEqual(found.digest, parseDigest(payload_digest))) return
  throw new SignetError(
    'STAMP_PAYLOAD_MISMATCH',
    `the payload is not what was stamped: ${found.length} bytes with digest ${formatDigest(found.digest)}, where the stamp is over ${payload_length} with ${payload_digest}`,
    { details: { stamped, found: { payload_digest: formatDigest(found.digest), payload_length: found.length } } },
  )
}

/** Gives the `SUBJECT_CHECKS` that were not expected. */
function checkSubject(subject: StampSubject, expected: NonNullable<StampToVerify['expected']>): (keyof StampSubject)[] {
  const different = (Object.keys(expected) as (keyof StampSubject)[]).filter(
    (name) => expected[name] !== undefined && expected[name] !== subject[name],
  )
  if (different.length > 0) {
    const pick = (from: NonNullable<StampToVerify['expected']>) =>
      Object.fromEntries(different.map((name) => [name, from[name]]))
    throw new SignetError(
      'STAMP_SUBJECT_MISMATCH',
      `the stamp belongs to another response: ${different.map((name) => `${name} is «${subject[name]}», expected «${expected[name]}»`).join('; ')}`,
      { details: { stamped: pick(subject), expected: pick(expected) } },
    )
  }
  return SUBJECT_CHECKS.filter((name) => expected[name] === undefined)
}
