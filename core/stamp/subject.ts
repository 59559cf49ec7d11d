import { digestText } from '../crypto/digest.ts'
import type { StampSubject } from './schema.ts'

/** What a verifier has to expect before it can say that a stamp belongs to the answer it came with. */
export const SUBJECT_CHECKS = [
  'tenant',
  'method',
  'target_digest',
  'status',
  'channel',
] as const satisfies readonly (keyof StampSubject)[]

/**
 * `subject.target_digest`: of the request target as the proxy received it, path and query, without authority, byte for byte
 * (neither decoded nor normalised). A string stands for its UTF-8 bytes.
 */
export function targetDigest(target: string | Uint8Array): string {
  return digestText(target)
}
