import { SignetError } from '#core/error/signet-error.ts'
import { findStamps } from '#core/stamp/content.ts'
import type { Channel } from '#core/stamp/schema.ts'
import { targetDigest } from '#core/stamp/subject.ts'
import type { VerifiedStamp } from '#core/stamp/verify.ts'
import type { StampAuthority } from './authority.ts'

/** Content as it came, without Content-Encoding, and the stamps that came beside it. */
export type StampedContent = {
  readonly content: Uint8Array
  /** A `Compliance-Stamp` value. */
  readonly header?: string | undefined
  /** The bytes of `NAME.stamp.json`, or of what a `Link` points to. */
  readonly sidecar?: Uint8Array | undefined
}

/** Which answer it has to be the stamp of: all of it, so that a stamp cannot be moved here from elsewhere. */
export type StampExpectation = {
  readonly tenant: string
  readonly channel: Channel
  readonly method: string
  /** Path and query as they were sent, byte for byte. */
  readonly target: string
  readonly status: number
  /** `type/subtype` of the Content-Type, lower case, empty where there is none. Not checked where it is left out. */
  readonly mediaType?: string | undefined
  /** Any producer of the tenant where it is left out. */
  readonly producerId?: string | undefined
}

/** The stamp that was verified, and what it is over: the content without the stamp inside. */
export type VerifiedContent = VerifiedStamp & { readonly payload: Uint8Array }

const AUTHORITY_TIMEOUT_MS = 5_000

/**
 * Verifies content against every stamp that came with it, in it and beside it, and against the answer that it should be
 * (docs/reference/stamp.md). Gives the last of them.
 * @throws SignetError STAMP_MISSING, STAMP_INVALID, JSON_INVALID, STAMP_KEY_UNKNOWN, STAMP_MAC_MISMATCH, STAMP_KEY_INVALID,
 * STAMP_PAYLOAD_MISMATCH, STAMP_SUBJECT_MISMATCH; LEDGER_… where the authority could not be asked
 */
export async function verifyStamp(
  { content, header, sidecar }: StampedContent,
  expectation: StampExpectation,
  authority: StampAuthority,
  signal: AbortSignal = AbortSignal.timeout(AUTHORITY_TIMEOUT_MS),
): Promise<VerifiedContent> {
  const { payload, stamps } = findStamps(content, { header, sidecar })
  const { tenant, channel, method, target, status, mediaType, producerId } = expectation
  const expected = {
    tenant,
    channel,
    method,
    status,
    target_digest: targetDigest(Buffer.from(target, 'latin1')),
    media_type: mediaType,
  }
  let verified: VerifiedStamp | undefined
  for (const stampBytes of stamps) {
    verified = await authority({ stampBytes, payload, expected }, signal)
    requireProducer(verified, producerId)
  }
  if (verified === undefined || !verified.subjectChecked)
    throw new SignetError('STAMP_SUBJECT_MISMATCH', 'not all of the subject of the stamp was checked')
  return { ...verified, payload }
}

function requireProducer({ stamp }: VerifiedStamp, wanted: string | undefined): void {
  const found = stamp.data_lineage.producer_id
  if (wanted === undefined || found === wanted) return
  throw new SignetError('STAMP_SUBJECT_MISMATCH', `the stamp is of producer «${found}», expected «${wanted}»`, {
    details: { stamped: { producer_id: found }, expected: { producer_id: wanted } },
  })
}
