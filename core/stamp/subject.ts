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

/**
 * `subject.media_type`: the lower-case `type/subtype` of a Content-Type value, without parameters; empty where there is none, more than
 * one, or none that RFC 9110 §8.3.1 allows (a list, a wildcard, a bare word, `unknown/unknown`): clients guess then.
 */
export function mediaTypeOf(contentType: string | readonly string[] | undefined): string {
  if (typeof contentType !== 'string') return ''
  const end = contentType.indexOf(';')
  const mediaType = (end === -1 ? contentType : contentType.slice(0, end)).trim().toLowerCase()
  return MEDIA_TYPE.test(mediaType) ? mediaType : ''
}

const MEDIA_TYPE = /^(?!unknown\/|application\/unknown$)[a-z0-9!#$&^_.+-]{1,127}\/[a-z0-9!#$&^_.+-]{1,127}$/
