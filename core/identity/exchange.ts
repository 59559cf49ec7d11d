import { createPublicKey, sign, verify, type KeyObject } from 'node:crypto'
import Type from 'typebox'
import { sha256 } from '../crypto/digest.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { AckKey } from '../keyring/schema.ts'
import { TimestampUtc } from '../stamp/schema.ts'

/**
 * The contract of `POST /v1/identity`, version 1 (`docs/identity.md`): a workload exchanges the token that the platform gave it for its
 * stamp key and a certificate for the Ed25519 key that it made. Both sides ignore members that they do not know.
 */
export const IDENTITY_PATH = '/v1/identity'
/** Headers of any other call to the ledger with a workload's token: which of its identities it wants (`namespace-map.ts`). */
export const TENANT_HEADER = 'signet-tenant'
export const PRODUCER_HEADER = 'signet-producer-id'
/** With each answer: the stamp root in force. Who holds a key of another one renews it. */
export const STAMP_ROOT_HEADER = 'signet-stamp-root'
/** How far the time of a proof may be from the ledger's, either way. */
export const PROOF_TOLERANCE_MS = 300_000

const Name = Type.String({ minLength: 1, maxLength: 512 })
const Base64Url = (maxLength: number) => Type.String({ pattern: '^[A-Za-z0-9_-]+$', maxLength })

export const IdentityRequest = Type.Object({
  version: Type.Literal(1),
  /** SPKI DER of an Ed25519 key. */
  public_key: Base64Url(256),
  producer_id: Type.Optional(Name),
  tenant: Type.Optional(Name),
  /** The time of the proof, by the workload's clock. */
  signed_at: TimestampUtc,
  /** Ed25519 over `proofBytes`. */
  proof: Base64Url(86),
})
export type IdentityRequest = Type.Static<typeof IdentityRequest>

export const IdentityAnswer = Type.Object({
  version: Type.Literal(1),
  tenant: Name,
  producer_id: Name,
  stamp_key: Type.Object({
    key_id: Name,
    secret: Base64Url(1_024),
    not_before: TimestampUtc,
    not_after: TimestampUtc,
  }),
  /** PEM, the workload's certificate first, its authority last. */
  certificate: Type.String({ maxLength: 65_536 }),
  /** Keys with use `ack`, as a keyring has them, without private parts. */
  ack_keys: Type.Array(Type.Omit(AckKey, ['private_key']), { maxItems: 1_000 }),
  renew_at: TimestampUtc,
})
export type IdentityAnswer = Type.Static<typeof IdentityAnswer>

/**
 * What proves that the sender holds the private key and means this token, now: PAE("SignetV1", "application/vnd.signet.identity-proof.v1",
 * SHA-256 of the token, SPKI DER, time). Without a challenge: a proof that was used is refused by the ledger's own record of it.
 */
function proofBytes(token: string, publicKeyDer: Buffer, signedAt: string): Buffer {
  return pae('SignetV1', 'application/vnd.signet.identity-proof.v1', sha256(token), publicKeyDer, signedAt)
}

/** The members of a request that carry the proof. */
export function proveKey(
  token: string,
  pair: { readonly publicKey: KeyObject; readonly privateKey: KeyObject },
  at: Date,
): Pick<IdentityRequest, 'public_key' | 'signed_at' | 'proof'> {
  const der = pair.publicKey.export({ format: 'der', type: 'spki' })
  const signedAt = at.toISOString()
  const proof = sign(null, proofBytes(token, der, signedAt), pair.privateKey).toString('base64url')
  return { public_key: der.toString('base64url'), signed_at: signedAt, proof }
}

/**
 * The public key of a request whose proof holds for the token that came with it, and a digest of what was proved, the same for every
 * signature over it (Ed25519 has several that verify).
 * @throws SignetError IDENTITY_PROOF_INVALID
 */
export function checkProof(
  request: Pick<IdentityRequest, 'public_key' | 'signed_at' | 'proof'>,
  token: string,
  at: Date,
): { publicKey: KeyObject; publicKeyDer: Buffer; proofDigest: Buffer } {
  const publicKeyDer = Buffer.from(request.public_key, 'base64url')
  const publicKey = readEd25519(publicKeyDer)
  if (!publicKey.export({ format: 'der', type: 'spki' }).equals(publicKeyDer))
    throw invalid('public_key is not the one encoding (DER) of its key')
  const signature = Buffer.from(request.proof, 'base64url')
  if (!verify(null, proofBytes(token, publicKeyDer, request.signed_at), publicKey, signature))
    throw invalid('proof is not a signature by public_key over this token, this key and signed_at')
  const offMs = Math.abs(at.getTime() - Date.parse(request.signed_at))
  if (!(offMs <= PROOF_TOLERANCE_MS)) {
    throw invalid(
      `signed_at is ${request.signed_at}, which is more than ${PROOF_TOLERANCE_MS / 1_000} s from the ledger's clock`,
    )
  }
  return { publicKey, publicKeyDer, proofDigest: sha256(proofBytes(token, publicKeyDer, request.signed_at)) }
}

function readEd25519(der: Buffer): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey({ key: der, format: 'der', type: 'spki' })
  } catch {
    throw invalid('public_key is not SPKI DER in base64url')
  }
  if (key.asymmetricKeyType !== 'ed25519') throw invalid('public_key is not an Ed25519 key')
  return key
}

function invalid(what: string): SignetError {
  return new SignetError('IDENTITY_PROOF_INVALID', `the proof of possession does not hold: ${what}`)
}
