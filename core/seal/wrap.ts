import { pae } from '../crypto/pae.ts'
import { SealKey } from './cipher.ts'

/** The row of a data subject, as the work database has it: nothing in it tells who it is without the master key. */
export type WrappedSubject = {
  readonly subjectId: string
  readonly masterKeyId: string
  /** The subject's key under the master key, and the name under the subject's key: nonce ‖ ciphertext ‖ tag. */
  readonly wrappedKey: Buffer
  readonly sealedName: Buffer
}

const bound = (what: string, ...parts: readonly string[]): Buffer =>
  pae('SignetV1', `application/vnd.signet.${what}.v1`, ...parts)

export function wrapSubjectKey(
  master: SealKey,
  tenant: string,
  subjectId: string,
  key: SealKey,
  nonce: Buffer,
): Buffer {
  return master.seal(key.export(), bound('subject-key', tenant, subjectId), nonce)
}

/** @throws SignetError SEAL_INVALID: another master key, another tenant's or subject's row, or a row that was changed */
export function unwrapSubjectKey(master: SealKey, tenant: string, subjectId: string, wrapped: Buffer): SealKey {
  return new SealKey(master.open(wrapped, bound('subject-key', tenant, subjectId)))
}

export function sealName(key: SealKey, tenant: string, subjectId: string, name: string, nonce: Buffer): Buffer {
  return key.seal(Buffer.from(name, 'utf8'), bound('subject-name', tenant, subjectId), nonce)
}

/** @throws SignetError SEAL_INVALID */
export function openName(key: SealKey, tenant: string, subjectId: string, sealed: Buffer): string {
  return key.open(sealed, bound('subject-name', tenant, subjectId)).toString('utf8')
}

/** The key of a tenant's blind index under the master key. */
export function wrapIndexKey(master: SealKey, tenant: string, key: SealKey, nonce: Buffer): Buffer {
  return master.seal(key.export(), bound('index-key', tenant), nonce)
}

/** @throws SignetError SEAL_INVALID */
export function unwrapIndexKey(master: SealKey, tenant: string, wrapped: Buffer): SealKey {
  return new SealKey(master.open(wrapped, bound('index-key', tenant)))
}

/** What a person's name is looked up by: 32 bytes that only who has the tenant's index key can make from the name. */
export function nameIndex(indexKey: SealKey, tenant: string, name: string): Buffer {
  return indexKey.mark(bound('name-index', tenant, canonicalName(name)))
}

/**
 * Names that are one person's: in Unicode's composed form, and an e-mail address in lower case, since no mail system in use tells
 * `Alice@` from `alice@`.
 */
export function canonicalName(name: string): string {
  // Filters are compared with columns, which hold no U+0000 (`columnText`).
  const composed = name.replaceAll('\0', '\u2400').normalize('NFC')
  return isEmail(composed) ? composed.toLowerCase() : composed
}

/** A whole text that is one e-mail address, by form. */
export function isEmail(text: string): boolean {
  const at = text.indexOf('@')
  return (
    text.length <= 320 &&
    at > 0 &&
    at <= 64 &&
    text.indexOf('@', at + 1) === -1 &&
    !/[\s<>()[\]{},;:"'\\/?&=#|]/.test(text) &&
    /^[\p{L}\p{N}-]+(\.[\p{L}\p{N}-]+)+$/u.test(text.slice(at + 1))
  )
}
