import { canonicalize } from '../canonical/jcs.ts'
import { assertNumbersRoundTrip } from '../canonical/number.ts'
import { sha256 } from '../crypto/digest.ts'
import { parseStrict } from '../json/strict.ts'
import type { Canonicalization } from './schema.ts'

/** What a stamp says of its payload: SHA-256 (32 bytes) and length in bytes of what was digested. */
export type PayloadDigest = { readonly digest: Buffer; readonly length: number }

/** The payload as it is. */
export function bytesPayload(payload: Uint8Array): PayloadDigest {
  return { digest: sha256(payload), length: payload.byteLength }
}

/**
 * The payload in its canonical form (RFC 8785).
 * @throws SignetError JSON_INVALID when it is not strict JSON; CANONICAL_VALUE_INVALID when a number does not round-trip
 * (`canonical/number.ts`) or a string has a lone surrogate: such a payload can be stamped as `bytes` only
 */
export function jcsPayload(payload: Uint8Array): PayloadDigest {
  const value = parseStrict(payload)
  assertNumbersRoundTrip(payload)
  return bytesPayload(Buffer.from(canonicalize(value)))
}

/** @throws SignetError as `jcsPayload` does for `jcs` */
export function digestPayload(payload: Uint8Array, canonicalization: Canonicalization): PayloadDigest {
  return canonicalization === 'jcs' ? jcsPayload(payload) : bytesPayload(payload)
}
