import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { parseStampHeader } from '#core/stamp/header.ts'
import type { StampSubject } from '#core/stamp/schema.ts'
import { extractStamp } from '#core/stamp/splice.ts'

/** What is verified: a stamp, what it should be the stamp of, and what is known of the answer. */
export type Evidence = {
  readonly stampBytes: Uint8Array
  readonly payload: Uint8Array
  /** Where the stamp was: for the report. */
  readonly place: string
  readonly expected: Partial<StampSubject>
}

const OPEN_OBJECT = 0x7b
const WHITE_SPACE = new Set([0x20, 0x09, 0x0a, 0x0d])

/**
 * The stamp inside a JSON object, or null when there is none. Content that does not read as JSON has none; where another place has
 * no stamp either, `problem` says why.
 * @throws SignetError STAMP_INVALID for a `_compliance` that no Signet wrote
 */
export function embeddedStamp(
  bytes: Buffer,
): { found: { payload: Buffer; stampBytes: Buffer }; problem: null } | { found: null; problem: SignetError | null } {
  const first = bytes.find((byte) => !WHITE_SPACE.has(byte))
  if (first !== OPEN_OBJECT) return { found: null, problem: null }
  try {
    const found = extractStamp(bytes)
    return found === null ? { found: null, problem: null } : { found, problem: null }
  } catch (error) {
    if (error instanceof SignetError && error.code === 'JSON_INVALID') return { found: null, problem: error }
    throw error
  }
}

/** The stamp in a `Compliance-Stamp` header value, or its hash alone. @throws SignetError STAMP_INVALID */
export function headerStamp(value: string): { hash: string; stampBytes: Buffer | null } {
  const { hash, stampBytes } = parseStampHeader(value)
  return { hash, stampBytes: stampBytes ?? null }
}

/** @throws SignetError STAMP_INVALID when bytes fetched for a hash are not the ones it names */
export function requireHash(stampBytes: Uint8Array, hash: string, place: string): void {
  const found = digestText(stampBytes)
  if (found === hash) return
  throw new SignetError('STAMP_INVALID', `the stamp ${place} has the hash ${found}, where the header states ${hash}`, {
    details: { stated: hash, found },
  })
}
