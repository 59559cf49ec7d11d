import { createPrivateKey, createPublicKey, createSecretKey, X509Certificate, type KeyObject } from 'node:crypto'
import { Compile } from 'typebox/compile'
import { SignetError } from '../error/signet-error.ts'
import { parseStrict } from '../json/strict.ts'
import { isRealTimestamp } from '../time/timestamp.ts'
import { SealKey, SEAL_KEY_BYTES } from '../seal/cipher.ts'
import { deriveStampKey, parseDerivedKeyId } from './derived.ts'
import { noteOmission, omissionOf, omitUnknown } from './omission.ts'
import { Keyring, type AckKey, type WorkloadCa } from './schema.ts'

export type { Keyring } from './schema.ts'

/** When a key may sign: from `notBefore`, before `notAfter`, before `revokedAt` (null: not revoked). All `TimestampUtc`. */
export type KeyValidity = {
  readonly keyId: string
  readonly notBefore: string
  readonly notAfter: string
  readonly revokedAt: string | null
}
export type ActiveStampKey = KeyValidity & {
  readonly producerId: string
  readonly tenant: string
  readonly secret: KeyObject
}
export type ActiveChainKey = KeyValidity & { readonly secret: KeyObject }
/** `privateKey` is null where the keyring can only verify. */
export type ActiveAckKey = KeyValidity & { readonly publicKey: KeyObject; readonly privateKey: KeyObject | null }
export type ActiveStampRoot = KeyValidity & { readonly secret: KeyObject }
/** `privateKey` is null where the keyring can only verify. */
export type ActiveWorkloadCa = KeyValidity & {
  readonly certificate: X509Certificate
  readonly privateKey: KeyObject | null
}

export type ActiveSealMaster = KeyValidity & { readonly key: SealKey }

/** The keys of a keyring, decoded. The look-ups by id give a key whatever its validity: check that with `isValidAt`. */
export type KeyIndex = {
  /** A key of the file, or one that is derived from a root of the file. */
  stampKey(keyId: string): ActiveStampKey | undefined
  chainKey(keyId: string): ActiveChainKey | undefined
  ackKey(keyId: string): ActiveAckKey | undefined
  /** The key that signs at a time: the first of the file that is valid then. `activeAckKey` takes those with a private key only. */
  activeStampKey(wanted: { producerId: string; tenant: string; at: Date }): ActiveStampKey | undefined
  activeChainKey(at: Date): ActiveChainKey | undefined
  activeAckKey(at: Date): ActiveAckKey | undefined
  stampRoot(keyId: string): ActiveStampRoot | undefined
  /** The first that is valid at a time and still at a later one; where none is, the first that is valid now. */
  activeStampRoot(at: Date, lastsUntil: Date): ActiveStampRoot | undefined
  /** The same, with a private key. */
  activeWorkloadCa(at: Date, lastsUntil: Date): ActiveWorkloadCa | undefined
  sealMaster(keyId: string): ActiveSealMaster | undefined
  activeSealMaster(at: Date): ActiveSealMaster | undefined
}

/** Derived keys that are kept, since deriving one costs as much as several MACs. */
const MAX_DERIVED = 1_000
const MIN_SECRET_BYTES = 32
const validator = Compile(Keyring)

/**
 * Reads a keyring file (JSON, version 1; `docs/reference/stamp.md`). Keys with a use that is not known here are left out, so that a version
 * that knows more can be rolled out, and back, beside this one; nothing else of them is looked at but that their `key_id` is nobody else's.
 * @throws SignetError KEYRING_INVALID, naming the place, never a secret: not strict JSON, not of the schema, a key id twice, a
 * secret under 32 bytes, a key that is no key, `not_before` not before `not_after`, a time that does not exist
 */
export function parseKeyring(text: string): Keyring {
  const keyring = readKeyring(text)
  indexKeyring(keyring)
  return keyring
}

function readKeyring(text: string): Keyring {
  let value: unknown
  try {
    value = parseStrict(Buffer.from(text))
  } catch (cause) {
    throw new SignetError('KEYRING_INVALID', 'the keyring is not strict JSON', { cause })
  }
  const omission = omitUnknown(value)
  if (omission !== null) value = omission.keyring
  if (validator.Check(value)) {
    if (omission !== null) noteOmission(value, omission)
    return value
  }
  const version = typeof value === 'object' && value !== null && 'version' in value ? value.version : undefined
  if (version !== 1)
    throw new SignetError('KEYRING_INVALID', 'the keyring must be an object with `version` 1 and `keys`')
  const paths = [...new Set(validator.Errors(value).map(({ instancePath }) => instancePath || '/'))]
  // The deepest place is the one at fault: the union of key forms reports its every level.
  const found = paths.sort((a, b) => b.split('/').length - a.split('/').length)[0] ?? '/'
  const place = found.replace(
    /^\/keys\/(\d+)/,
    (_, index: string) => `/keys/${omission?.places[Number(index)] ?? index}`,
  )
  throw new SignetError('KEYRING_INVALID', `the keyring is not of the form of version 1 at ${place}`, {
    details: { path: place },
  })
}

/** @throws SignetError KEYRING_INVALID as `parseKeyring` does for what a schema cannot say */
export function indexKeyring(keyring: Keyring): KeyIndex {
  const stampKeys = new Map<string, ActiveStampKey>()
  const chainKeys = new Map<string, ActiveChainKey>()
  const ackKeys = new Map<string, ActiveAckKey>()
  const stampRoots = new Map<string, ActiveStampRoot>()
  const workloadCas = new Map<string, ActiveWorkloadCa>()
  const sealMasters = new Map<string, ActiveSealMaster>()
  const seen = new Set<string>()
  const derived = createDerivedKeys()
  for (const [index, key] of keyring.keys.entries()) {
    const place = `/keys/${omissionOf(keyring)?.places[index] ?? index}`
    if (seen.has(key.key_id)) throw invalid(place, 'has the key_id of a key before it; a key_id names one key')
    seen.add(key.key_id)
    const validity = readValidity(key, place)
    switch (key.use) {
      case 'stamp':
        stampKeys.set(key.key_id, {
          ...validity,
          producerId: key.producer_id,
          tenant: key.tenant,
          secret: readSecret(key.secret, place),
        })
        break
      case 'chain':
        chainKeys.set(key.key_id, { ...validity, secret: readSecret(key.secret, place) })
        break
      case 'ack':
        ackKeys.set(key.key_id, { ...validity, ...readKeyPair(key, place) })
        break
      case 'stamp-root':
        stampRoots.set(key.key_id, { ...validity, secret: readSecret(key.secret, place) })
        break
      case 'workload-ca':
        workloadCas.set(key.key_id, { ...validity, ...readCertified(key, place) })
        break
      case 'seal-master':
        sealMasters.set(key.key_id, { ...validity, key: readSealKey(key.secret, place) })
        break
    }
  }
  return {
    stampKey: (keyId) => stampKeys.get(keyId) ?? derived(stampRoots, keyId),
    chainKey: (keyId) => chainKeys.get(keyId),
    ackKey: (keyId) => ackKeys.get(keyId),
    activeStampKey: ({ producerId, tenant, at }) =>
      firstValid(stampKeys, at, (key) => key.producerId === producerId && key.tenant === tenant),
    activeChainKey: (at) => firstValid(chainKeys, at, () => true),
    activeAckKey: (at) => firstValid(ackKeys, at, (key) => key.privateKey !== null),
    stampRoot: (keyId) => stampRoots.get(keyId),
    activeStampRoot: (at, lastsUntil) => firstLasting(stampRoots, at, lastsUntil, () => true),
    activeWorkloadCa: (at, lastsUntil) => firstLasting(workloadCas, at, lastsUntil, (key) => key.privateKey !== null),
    sealMaster: (keyId) => sealMasters.get(keyId),
    activeSealMaster: (at) => firstValid(sealMasters, at, () => true),
  }
}

/** Whether a key may sign at a time, `TimestampUtc`. Texts of that form are in order of time. */
export function isValidAt(key: KeyValidity, timestamp: string): boolean {
  return key.notBefore <= timestamp && timestamp < key.notAfter && (key.revokedAt === null || timestamp < key.revokedAt)
}

function firstValid<K extends KeyValidity>(
  keys: ReadonlyMap<string, K>,
  at: Date,
  fits: (key: K) => boolean,
): K | undefined {
  const timestamp = at.toISOString()
  for (const key of keys.values()) if (isValidAt(key, timestamp) && fits(key)) return key
  return undefined
}

function firstLasting<K extends KeyValidity>(
  keys: ReadonlyMap<string, K>,
  at: Date,
  lastsUntil: Date,
  fits: (key: K) => boolean,
): K | undefined {
  const until = lastsUntil.toISOString()
  return firstValid(keys, at, (key) => fits(key) && isValidAt(key, until)) ?? firstValid(keys, at, fits)
}

function createDerivedKeys() {
  const kept = new Map<string, ActiveStampKey>()
  return (roots: ReadonlyMap<string, ActiveStampRoot>, keyId: string): ActiveStampKey | undefined => {
    const found = kept.get(keyId)
    if (found !== undefined) return found
    const root = roots.size === 0 ? undefined : roots.get(parseDerivedKeyId(keyId)?.rootKeyId ?? '')
    const key = root === undefined ? undefined : deriveStampKey(root, keyId)
    if (key === undefined) return undefined
    // The oldest goes: whoever asks for ids of his own making makes room for nothing but them.
    if (kept.size >= MAX_DERIVED) kept.delete(kept.keys().next().value ?? '')
    kept.set(keyId, key)
    return key
  }
}

function readValidity(key: Keyring['keys'][number], place: string): KeyValidity {
  for (const name of ['not_before', 'not_after', 'revoked_at'] as const) {
    const time = key[name]
    if (time !== undefined && !isRealTimestamp(time)) throw invalid(`${place}/${name}`, 'is not a time that exists')
  }
  if (key.not_before >= key.not_after) throw invalid(place, 'must have a not_before that is before its not_after')
  return { keyId: key.key_id, notBefore: key.not_before, notAfter: key.not_after, revokedAt: key.revoked_at ?? null }
}

function readSecret(text: string, place: string): KeyObject {
  const bytes = readBase64Url(text, `${place}/secret`)
  if (bytes.length < MIN_SECRET_BYTES) throw invalid(`${place}/secret`, `must have ${MIN_SECRET_BYTES} bytes or more`)
  // A KeyObject spares the import of the key at each HMAC: four times as fast as a Buffer on Node 24.
  return createSecretKey(bytes)
}

function readSealKey(text: string, place: string): SealKey {
  const bytes = readBase64Url(text, `${place}/secret`)
  if (bytes.length !== SEAL_KEY_BYTES) throw invalid(`${place}/secret`, `must have ${SEAL_KEY_BYTES} bytes`)
  return new SealKey(bytes)
}

function readKeyPair(key: AckKey, place: string): { publicKey: KeyObject; privateKey: KeyObject | null } {
  const publicKey = readEd25519(`${place}/public_key`, () =>
    createPublicKey({ key: readBase64Url(key.public_key, `${place}/public_key`), format: 'der', type: 'spki' }),
  )
  if (key.private_key === undefined) return { publicKey, privateKey: null }
  const bytes = readBase64Url(key.private_key, `${place}/private_key`)
  const privateKey = readEd25519(`${place}/private_key`, () =>
    createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' }),
  )
  if (!createPublicKey(privateKey).equals(publicKey))
    throw invalid(place, 'must have a private_key that belongs to its public_key')
  return { publicKey, privateKey }
}

function readCertified(key: WorkloadCa, place: string): { certificate: X509Certificate; privateKey: KeyObject | null } {
  const der = readBase64Url(key.certificate, `${place}/certificate`)
  let certificate: X509Certificate
  try {
    certificate = new X509Certificate(der)
  } catch {
    throw invalid(`${place}/certificate`, 'is not a DER certificate in base64url')
  }
  if (!certificate.ca || certificate.publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1')
    throw invalid(`${place}/certificate`, 'is not the certificate of a certificate authority with a P-256 key')
  if (key.private_key === undefined) return { certificate, privateKey: null }
  let privateKey: KeyObject
  try {
    const bytes = readBase64Url(key.private_key, `${place}/private_key`)
    privateKey = createPrivateKey({ key: bytes, format: 'der', type: 'pkcs8' })
  } catch {
    throw invalid(`${place}/private_key`, 'is not a DER key (PKCS#8) in base64url')
  }
  if (!certificate.checkPrivateKey(privateKey))
    throw invalid(place, 'must have a private_key that belongs to its certificate')
  return { certificate, privateKey }
}

/** The cause is left out on purpose: an error of the crypto library may describe the key. */
function readEd25519(place: string, read: () => KeyObject): KeyObject {
  let key: KeyObject
  try {
    key = read()
  } catch {
    throw invalid(place, 'is not a DER key (SPKI for public_key, PKCS#8 for private_key) in base64url')
  }
  if (key.asymmetricKeyType !== 'ed25519') throw invalid(place, 'is not an Ed25519 key')
  return key
}

function readBase64Url(text: string, place: string): Buffer {
  const bytes = Buffer.from(text, 'base64url')
  // Buffer.from drops what it cannot read.
  if (bytes.toString('base64url') !== text) throw invalid(place, 'is not base64url without padding')
  return bytes
}

function invalid(place: string, what: string): SignetError {
  return new SignetError('KEYRING_INVALID', `in the keyring, ${place} ${what}`, { details: { path: place } })
}
