import { generateKeyPairSync } from 'node:crypto'
import { SignetError } from '../error/signet-error.ts'
import { indexKeyring, type Keyring } from './keyring.ts'
import { unknownUses } from './omission.ts'

export type KeyEntry = Keyring['keys'][number]
/** Uses whose keys are made here. A workload CA is made where its certificate is. */
export const ROTATED_USES = ['chain', 'ack', 'stamp', 'stamp-root', 'seal-master'] as const
export type RotatedUse = (typeof ROTATED_USES)[number]

/** `waiting`: not yet valid; `ended`: not valid any more, and still needed to verify what it made. */
export type KeyState = 'waiting' | 'valid' | 'ended' | 'revoked'

export type Rotation = {
  readonly use: RotatedUse
  readonly at: Date
  /** From `at` until the new key takes over: time for verifiers to learn of it. 0 or more. */
  readonly leadMs: number
  /** How long the former key stays valid after that. */
  readonly overlapMs: number
  /** How long the new key is valid, from where it takes over. */
  readonly lifetimeMs: number
  readonly randomBytes: (length: number) => Buffer
}

const SECRET_BYTES = 32
const HOUR_MS = 3_600_000

export function keyState(key: KeyEntry, at: Date): KeyState {
  const now = at.toISOString()
  if (key.revoked_at !== undefined && key.revoked_at <= now) return 'revoked'
  if (now < key.not_before) return 'waiting'
  return now < key.not_after ? 'valid' : 'ended'
}

/**
 * Adds a successor for the keys of a use that are valid (a stamp key has one for each tenant and producer), ahead of them, since the
 * first valid key of a file signs; for a keyring from before there was sealing, its first "seal-master". The former keys stay, and are valid until `overlapMs` after the successor takes over.
 * @throws SignetError KEYRING_INVALID where there is nothing to rotate, or a successor is waiting already
 */
export function rotateKeys(keyring: Keyring, rotation: Rotation): { keyring: Keyring; added: readonly KeyEntry[] } {
  const { use, at, leadMs, overlapMs, lifetimeMs } = rotation
  checkWhole(keyring)
  const from = new Date(at.getTime() + leadMs).toISOString()
  const former = keyring.keys.filter((key) => key.use === use && keyState(key, at) === 'valid')
  if (use === 'seal-master' && !keyring.keys.some((key) => key.use === use)) {
    const first = firstSealMaster(rotation, keyring)
    return { keyring: { ...keyring, keys: [...keyring.keys, first] }, added: [first] }
  }
  if (former.length === 0)
    throw refused(`no key with use "${use}" is valid at ${at.toISOString()}: there is none to follow`)
  const heirs = new Map<string, KeyEntry>()
  const taken = new Set(keyring.keys.map(({ key_id }) => key_id))
  for (const key of former) {
    const purpose = purposeOf(key)
    if (heirs.has(purpose)) continue
    const waiting = keyring.keys.find((other) => purposeOf(other) === purpose && keyState(other, at) === 'waiting')
    if (waiting !== undefined)
      throw refused(`the key «${waiting.key_id}» is to take over at ${waiting.not_before}: rotate again after that`)
    if (key.not_before >= from)
      throw refused(`the key «${key.key_id}» is valid from ${key.not_before}: its successor has to begin later`)
    const keyId = freeId(use, from, taken)
    taken.add(keyId)
    heirs.set(
      purpose,
      makeKey(key, { ...rotation, keyId, from, to: new Date(Date.parse(from) + lifetimeMs).toISOString() }),
    )
  }
  const last = new Date(Date.parse(from) + overlapMs).toISOString()
  const kept = keyring.keys.map((key) =>
    former.includes(key) && key.not_after > last ? { ...key, not_after: last } : key,
  )
  const next = { ...keyring, keys: [...heirs.values(), ...kept] }
  checkFollows(keyring, next, at)
  return { keyring: next, added: [...heirs.values()] }
}

/**
 * Ends a key at a moment: what it made before still verifies.
 * @throws SignetError KEYRING_INVALID for an unknown or revoked key, and where none would be left to sign in its place
 */
export function revokeKey(keyring: Keyring, keyId: string, revokedAt: Date, now: Date): Keyring {
  checkWhole(keyring)
  const key = keyring.keys.find(({ key_id }) => key_id === keyId)
  if (key === undefined) throw refused(`there is no key «${keyId}»`)
  if (key.revoked_at !== undefined) throw refused(`the key «${keyId}» was revoked already, at ${key.revoked_at}`)
  if (revokedAt.toISOString() < key.not_before)
    throw refused(
      `the key «${keyId}» is valid from ${key.not_before}: revoked before that, nothing it made would verify`,
    )
  const next = {
    ...keyring,
    keys: keyring.keys.map((other) => (other === key ? { ...key, revoked_at: revokedAt.toISOString() } : other)),
  }
  const signs = key.use === 'chain' || key.use === 'ack'
  const later = revokedAt > now ? revokedAt : now
  const left = next.keys.some(
    (other) => other.use === key.use && other !== key && keyState(other, later) === 'valid' && canSign(other),
  )
  if (signs && !left) throw refused(`no other key with use "${key.use}" would be valid: rotate first, then revoke`)
  checkFollows(keyring, next, now)
  return next
}

/**
 * What verifies all that a keyring's keys have made, and signs nothing it need not: private keys are left out, secrets of HMAC keys
 * are not, since nothing else verifies what they made; what opens personal fields verifies nothing, and is left out. `former`: the archive so far, of which all is kept.
 * @throws SignetError KEYRING_INVALID where the two have one key_id for two keys
 */
export function archiveKeys(keyring: Keyring, former: Keyring | null): Keyring {
  checkWhole(keyring)
  if (former !== null) checkWhole(former)
  const archived = keyring.keys.filter(({ use }) => use !== 'seal-master').map(withoutPrivateKey)
  const old = (former?.keys ?? []).flatMap((key) => {
    const now = archived.find(({ key_id }) => key_id === key.key_id)
    if (now === undefined) return [key]
    if (materialOf(now) !== materialOf(key))
      throw refused(`the archive has another key by the name «${key.key_id}»: it would be lost`)
    return []
  })
  return { version: 1, keys: [...archived, ...old] }
}

/** The same keyring, its ended and revoked keys without their private keys: they have nothing to sign any more. */
export function retirePrivateKeys(keyring: Keyring, at: Date): { keyring: Keyring; retired: readonly string[] } {
  checkWhole(keyring)
  const retired = keyring.keys.filter((key) => 'private_key' in key && ['ended', 'revoked'].includes(keyState(key, at)))
  const next = { ...keyring, keys: keyring.keys.map((key) => (retired.includes(key) ? withoutPrivateKey(key) : key)) }
  return { keyring: next, retired: retired.map(({ key_id }) => key_id) }
}

/** What this version does not know it would not write again. @throws SignetError KEYRING_INVALID */
function checkWhole(keyring: Keyring): void {
  const uses = unknownUses(keyring)
  if (uses.length > 0)
    throw refused(
      `the keyring has keys with use ${uses.map((use) => `"${use}"`).join(', ')}, which this version does not know and would lose: change it with the version that made them`,
    )
}

/**
 * That a keyring can follow another without anything of the past becoming unverifiable: every key is still there, with the same
 * secret, and the first chain key, which marks are made with, is the first. @throws SignetError KEYRING_INVALID
 */
function checkFollows(former: Keyring, next: Keyring, at: Date): void {
  indexKeyring(next)
  for (const key of former.keys) {
    const now = next.keys.find(({ key_id }) => key_id === key.key_id)
    if (now === undefined || materialOf(now) !== materialOf(key))
      throw refused(`the key «${key.key_id}» would be lost, and what it made could not be verified any more`)
  }
  const [was, is] = [firstChain(former), firstChain(next)]
  if (was !== is) throw refused(`the first chain key would be «${is}», and has to stay «${was}»`)
  for (const use of ['chain', 'ack'] as const) {
    const signedBefore = former.keys.some((key) => key.use === use && keyState(key, at) === 'valid')
    if (signedBefore && !next.keys.some((key) => key.use === use && keyState(key, at) === 'valid'))
      throw refused(`no key with use "${use}" would be valid now`)
  }
}

function firstChain(keyring: Keyring): string | undefined {
  return keyring.keys.filter(({ use }) => use === 'chain').toSorted((a, b) => (a.not_before < b.not_before ? -1 : 1))[0]
    ?.key_id
}

/** What decides whether a key verifies what another by its name made. */
function materialOf(key: KeyEntry): string {
  if ('secret' in key) return `${key.use} ${key.secret}`
  return `${key.use} ${'public_key' in key ? key.public_key : key.certificate}`
}

/** Keys of one purpose follow each other. */
function purposeOf(key: KeyEntry): string {
  return key.use === 'stamp' ? JSON.stringify([key.use, key.tenant, key.producer_id]) : key.use
}

function canSign(key: KeyEntry): boolean {
  return 'secret' in key || key.private_key !== undefined
}

function withoutPrivateKey(key: KeyEntry): KeyEntry {
  if (!('private_key' in key)) return key
  const { private_key: _, ...shown } = key
  return shown
}

function makeKey(
  former: KeyEntry,
  { keyId, from, to, randomBytes }: Rotation & { keyId: string; from: string; to: string },
): KeyEntry {
  const validity = { key_id: keyId, not_before: from, not_after: to }
  switch (former.use) {
    case 'stamp': {
      const { use, alg, tenant, producer_id } = former
      return { use, alg, tenant, producer_id, secret: randomBytes(SECRET_BYTES).toString('base64url'), ...validity }
    }
    case 'chain':
      return { use: 'chain', alg: 'HMAC-SHA256', secret: randomBytes(SECRET_BYTES).toString('base64url'), ...validity }
    case 'seal-master':
      return sealMaster(keyId, from, to, randomBytes)
    case 'stamp-root':
      return {
        use: 'stamp-root',
        alg: 'HKDF-SHA256',
        secret: randomBytes(SECRET_BYTES).toString('base64url'),
        ...validity,
      }
    case 'ack': {
      const { publicKey, privateKey } = generateKeyPairSync('ed25519')
      return {
        use: 'ack',
        alg: 'Ed25519',
        public_key: publicKey.export({ type: 'spki', format: 'der' }).toString('base64url'),
        private_key: privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64url'),
        ...validity,
      }
    }
    default:
      throw refused(`keys with use "${former.use}" are not made here`)
  }
}

/** From an hour ago: the ledger's clock may be behind, and there is nothing before it to take over from. */
function firstSealMaster({ at, lifetimeMs, randomBytes }: Rotation, keyring: Keyring): KeyEntry {
  const from = new Date(at.getTime() - HOUR_MS).toISOString()
  const keyId = freeId('seal-master', from, new Set(keyring.keys.map(({ key_id }) => key_id)))
  return sealMaster(keyId, from, new Date(at.getTime() + lifetimeMs).toISOString(), randomBytes)
}

function sealMaster(keyId: string, from: string, to: string, randomBytes: (length: number) => Buffer): KeyEntry {
  const secret = randomBytes(SECRET_BYTES).toString('base64url')
  return { use: 'seal-master', alg: 'XAES-256-GCM', secret, key_id: keyId, not_before: from, not_after: to }
}

function freeId(use: string, from: string, taken: ReadonlySet<string>): string {
  const base = `${use}-${from.slice(0, 10)}`
  let id = base
  for (let count = 2; taken.has(id); count++) id = `${base}-${count}`
  return id
}

function refused(what: string): SignetError {
  return new SignetError('KEYRING_INVALID', what)
}
