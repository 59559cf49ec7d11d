import { createSecretKey, hkdfSync, type KeyObject } from 'node:crypto'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import type { ActiveStampKey, ActiveStampRoot } from './keyring.ts'

/**
 * Stamp keys that are derived from a root (`docs/reference/stamp.md`): the id says all that the key depends on, so that who has the
 * root finds the key by its id alone, and the id fixes tenant and producer as an entry of the keyring does.
 *
 *   d1.ROOT.DAY.TENANT.PRODUCER      DAY: YYYYMMDD, UTC; the others percent-encoded as `encodePart` has it
 */
export type DerivedKeyId = {
  readonly rootKeyId: string
  readonly day: string
  readonly tenant: string
  readonly producerId: string
}

const PREFIX = 'd1.'
const KEY_TYPE = 'application/vnd.signet.stamp-key.v1'
const KEY_BYTES = 32
const DAY_MS = 86_400_000
/** A key serves its day and the next, so that one handed out at any time of its day lasts 24 hours. */
const SERVES_MS = 2 * DAY_MS
/** Clocks of proxies may be late by this much when the day begins. */
const EARLY_MS = 600_000
export const MAX_KEY_ID_LENGTH = 512

/** @throws SignetError REQUEST_INVALID when tenant and producer are too long together for a key id */
export function formatDerivedKeyId({ rootKeyId, day, tenant, producerId }: DerivedKeyId): string {
  const id = PREFIX + [rootKeyId, day, tenant, producerId].map(encodePart).join('.')
  if (id.length <= MAX_KEY_ID_LENGTH) return id
  throw new SignetError(
    'REQUEST_INVALID',
    `tenant and producer are too long together: the id of their key has ${id.length} characters, and may have ${MAX_KEY_ID_LENGTH}`,
  )
}

/** The parts of a derived key's id; null for any other id, and for another spelling of one. */
export function parseDerivedKeyId(keyId: string): DerivedKeyId | null {
  if (!keyId.startsWith(PREFIX) || keyId.length > MAX_KEY_ID_LENGTH) return null
  const parts = keyId.slice(PREFIX.length).split('.')
  if (parts.length !== 4) return null
  const [rootKeyId, day, tenant, producerId] = parts.map(decodePart)
  if (!rootKeyId || !day || !tenant || !producerId || dayStart(day) === null) return null
  return { rootKeyId, day, tenant, producerId }
}

/** The day of a moment, as key ids have it. */
export function dayOf(at: Date): string {
  return at.toISOString().slice(0, 10).replaceAll('-', '')
}

/**
 * The key of an id: HKDF-SHA256 (RFC 5869) without salt, `info` = PAE("SignetV1", "application/vnd.signet.stamp-key.v1", tenant,
 * producer, key id), 32 bytes. It is valid where its day and its root both are. Undefined where the id is none of this root.
 */
export function deriveStampKey(root: ActiveStampRoot, keyId: string): ActiveStampKey | undefined {
  const id = parseDerivedKeyId(keyId)
  const start = id === null ? null : dayStart(id.day)
  if (id === null || start === null || id.rootKeyId !== root.keyId) return undefined
  const from = new Date(start - EARLY_MS).toISOString()
  const to = new Date(start + SERVES_MS).toISOString()
  return {
    keyId,
    producerId: id.producerId,
    tenant: id.tenant,
    notBefore: from > root.notBefore ? from : root.notBefore,
    notAfter: to < root.notAfter ? to : root.notAfter,
    revokedAt: root.revokedAt,
    secret: derive(root.secret, id, keyId),
  }
}

function derive(root: KeyObject, { tenant, producerId }: DerivedKeyId, keyId: string): KeyObject {
  const info = pae('SignetV1', KEY_TYPE, tenant, producerId, keyId)
  return createSecretKey(Buffer.from(hkdfSync('sha256', root, Buffer.alloc(0), info, KEY_BYTES)))
}

/** Letters, digits, `-` and `_` stay; every other byte of the UTF-8 becomes `%` and two capital hex digits. */
function encodePart(text: string): string {
  return text.replaceAll(/[^A-Za-z0-9_-]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join(''),
  )
}

function decodePart(part: string): string | null {
  if (!/^([A-Za-z0-9_-]|%[0-9A-F]{2})+$/.test(part)) return null
  try {
    const text = decodeURIComponent(part)
    return encodePart(text) === part ? text : null
  } catch {
    return null
  }
}

/** Milliseconds since the epoch at which a day begins; null for one that does not exist. */
function dayStart(day: string): number | null {
  const [, year, month, date] = /^(\d{4})(\d{2})(\d{2})$/.exec(day) ?? []
  if (year === undefined) return null
  const start = Date.parse(`${year}-${month}-${date}T00:00:00.000Z`)
  // The neighbours have to be in the years that a timestamp has.
  return Number.isNaN(start) || year < '0002' || year > '9998' || dayOf(new Date(start)) !== day ? null : start
}
