import { hash } from 'node:crypto'
import { SignetError } from '../error/signet-error.ts'

const PREFIX = 'sha256:'
const FORM = /^sha256:[0-9a-f]{64}$/

/** SHA-256 of bytes, or of a string's UTF-8: 32 bytes. */
export function sha256(data: Uint8Array | string): Buffer {
  return hash('sha256', data, 'buffer')
}

/** The same as 64 lowercase hex digits, without the Buffer between. */
export function sha256Hex(data: Uint8Array | string): string {
  return hash('sha256', data, 'hex')
}

/** `sha256:` and 64 lowercase hex digits. `digest`: 32 bytes. */
export function formatDigest(digest: Buffer): string {
  if (digest.length !== 32) throw new RangeError(`a SHA-256 digest has 32 bytes, not ${digest.length}`)
  return PREFIX + digest.toString('hex')
}

/** The digest of `sha256(data)` as text. */
export function digestText(data: Uint8Array | string): string {
  return PREFIX + sha256Hex(data)
}

/**
 * The 32 bytes of a digest text.
 * @throws SignetError STAMP_INVALID when it is anything but `sha256:` and 64 lowercase hex digits
 */
export function parseDigest(text: string): Buffer {
  if (!FORM.test(text)) throw new SignetError('STAMP_INVALID', 'a digest is `sha256:` and 64 lowercase hex digits')
  return Buffer.from(text.slice(PREFIX.length), 'hex')
}
