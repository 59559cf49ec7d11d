import { createHmac } from 'node:crypto'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { canonicalize } from '../canonical/jcs.ts'
import { digestText, formatDigest } from '../crypto/digest.ts'
import { pae } from '../crypto/pae.ts'
import { firstFault } from '../error/schema-fault.ts'
import { SignetError } from '../error/signet-error.ts'
import { isValidAt, type ActiveStampKey } from '../keyring/keyring.ts'
import { STAMP_PAYLOAD_TYPE, SIGNET_CONTEXT } from './mac.ts'
import { Stamp, type Canonicalization, type StampClaims } from './schema.ts'

export type StampToSign = {
  readonly claims: StampClaims
  readonly canonicalization: Canonicalization
  /** SHA-256, 32 bytes, of the exact payload (`bytes`) or of its canonical form (`jcs`: see `payload.ts`). */
  readonly payloadDigest: Buffer
  /** Bytes of what was digested. */
  readonly payloadLength: number
  readonly key: ActiveStampKey
}

/** A complete stamp. `jcs`: the text whose bytes are the stamp, everywhere. `hash`: `sha256:…` of them. */
export type SignedStamp = { readonly stamp: Stamp; readonly jcs: string; readonly hash: string }

const claimsValidator = Compile(Type.Omit(Stamp, ['integrity']))

/**
 * Signs claims. What it signs verifies: a stamp that nobody would accept is not made.
 * @throws SignetError STAMP_INVALID when a claim is not as the schema has it; STAMP_KEY_INVALID when the key is another producer's
 * or tenant's or not valid at `timestamp_utc`; CANONICAL_VALUE_INVALID when a claim has no canonical form
 */
export function signStamp(toSign: StampToSign): SignedStamp {
  const { claims, key } = toSign
  if (!claimsValidator.Check(claims)) {
    const { path, allowed } = firstFault(claimsValidator.Errors(claims))
    throw new SignetError('STAMP_INVALID', `the claims to stamp at ${path}: ${allowed}`, { details: { path, allowed } })
  }
  if (claims.data_lineage.producer_id !== key.producerId || claims.subject.tenant !== key.tenant) {
    throw new SignetError(
      'STAMP_KEY_INVALID',
      `key «${key.keyId}» signs for producer «${key.producerId}» and tenant «${key.tenant}» only`,
    )
  }
  if (!isValidAt(key, claims.timestamp_utc)) {
    throw new SignetError('STAMP_KEY_INVALID', `key «${key.keyId}» is not valid at ${claims.timestamp_utc}`)
  }
  const integrity = {
    alg: 'HMAC-SHA256',
    canonicalization: toSign.canonicalization,
    key_id: key.keyId,
    payload_digest: formatDigest(toSign.payloadDigest),
    payload_length: toSign.payloadLength,
  } as const

  const { text, integrityEnd } = writeUnsigned(claims, canonicalize(integrity))
  const mac = createHmac('sha256', key.secret)
    .update(pae(SIGNET_CONTEXT, STAMP_PAYLOAD_TYPE, toSign.payloadDigest, text))
    .digest('hex')

  // `mac` sorts between `key_id` and `payload_digest`: it goes in before the tail of `integrity`, whose length is known.
  const tailLength = `,"payload_digest":"${integrity.payload_digest}","payload_length":${integrity.payload_length}}`
    .length
  const macAt = integrityEnd - tailLength
  const jcs = `${text.slice(0, macAt)},"mac":"${mac}"${text.slice(macAt)}`
  return { stamp: { ...claims, integrity: { ...integrity, mac } }, jcs, hash: digestText(jcs) }
}

/** The canonical form of claims and `integrity` together, and where in it `integrity` ends. */
function writeUnsigned(claims: StampClaims, integrityJcs: string): { text: string; integrityEnd: number } {
  const { before, after } = Object.keys(claims).length === KNOWN_CLAIMS ? splitKnown(claims) : split(claims)
  // Claims have required members on both sides of `integrity`, so neither part is empty.
  const head = `${canonicalize(before).slice(0, -1)},"integrity":${integrityJcs}`
  return { text: `${head},${canonicalize(after).slice(1)}`, integrityEnd: head.length }
}

/** All of them are required: as many members as these are these. */
const KNOWN_CLAIMS = Object.keys(Stamp.properties).length - 1

/** The members that sort before `integrity` and behind it, in their order. Hot: `split` costs more than all else here. */
function splitKnown(claims: StampClaims): { before: object; after: object } {
  const { approval_status, data_classification, data_lineage } = claims
  const { policy, regulatory_compliance, stamp_version, subject, timestamp_utc } = claims
  return {
    before: { approval_status, data_classification, data_lineage },
    after: { policy, regulatory_compliance, stamp_version, subject, timestamp_utc },
  }
}

/** The same for claims with members that we do not know: they are signed all the same. */
function split(claims: StampClaims): { before: object; after: object } {
  // Without a prototype: `__proto__` is a name like any other.
  const before: Record<string, unknown> = Object.create(null)
  const after: Record<string, unknown> = Object.create(null)
  for (const name of Object.keys(claims)) {
    if (name === 'integrity') continue
    const part = name < 'integrity' ? before : after
    part[name] = claims[name as keyof StampClaims]
  }
  return { before, after }
}
