import Type from 'typebox'
import { digestText, parseDigest } from '../crypto/digest.ts'
import { SignetError } from '../error/signet-error.ts'
import type { KeyIndex } from '../keyring/keyring.ts'
import { Digest } from './schema.ts'
import { readStamp, verifyStamp } from './verify.ts'

/**
 * The contract of `POST /api/audit/stamps/verify`: the body is a stamp, its exact bytes; the answer says whether its MAC holds, by a key that may
 * have made it, for the tenant of who asks. A proxy has no key but its own. What the stamp is of is for who asks to check (`matchStamp`).
 * Both sides ignore members that they do not know.
 */
export const STAMP_VERDICT_PATH = '/api/audit/stamps/verify'
/** Of a stamp that is sent; ordinary ones have one or two thousand. */
export const MAX_VERDICT_BYTES = 64 * 1024

export const StampVerdict = Type.Object({
  version: Type.Literal(1),
  /** Of the bytes that were sent. */
  stamp_hash: Digest,
  verified: Type.Boolean(),
  /** Where not: what `verifyStamp` says. */
  code: Type.Optional(Type.String({ maxLength: 64 })),
})
export type StampVerdict = Type.Static<typeof StampVerdict>

/** What a holder of the keys says of a stamp; of anything else it says that it is none. */
export function judgeStamp(stampBytes: Uint8Array, keyring: Pick<KeyIndex, 'stampKey'>, tenant: string): StampVerdict {
  const stated = { version: 1, stamp_hash: digestText(stampBytes) } as const
  try {
    // Only who asks has the payload: the stamp's word on it is taken here.
    const { payload_digest: digest, payload_length: length } = readStamp(stampBytes).integrity
    verifyStamp({ stampBytes, payload: { digest: parseDigest(digest), length }, keyring, expected: { tenant } })
    return { ...stated, verified: true }
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    return { ...stated, verified: false, code: error.code }
  }
}
