import { sign, verify } from 'node:crypto'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { isValidAt, type ActiveAckKey } from '../keyring/keyring.ts'
import type { IngestAck } from './wire.ts'

const CONTEXT = 'SignetV1'
const ACK_TYPE = 'application/vnd.signet.ack.v1+json'
/** base64url of the 64 bytes of an Ed25519 signature. */
const SIGNATURE = /^[A-Za-z0-9_-]{86}$/

/**
 * Signs an acknowledgement: Ed25519 over PAE("SignetV1", "application/vnd.signet.ack.v1+json", JCS(ack without `signature`)).
 * @throws SignetError KEYRING_INVALID when the key has no private part or is not the one that `key_id` names
 */
export function signAck(unsigned: Omit<IngestAck, 'signature'>, key: ActiveAckKey): IngestAck {
  if (key.privateKey === null)
    throw new SignetError('KEYRING_INVALID', `ack key «${key.keyId}» has no private_key to sign with`)
  if (unsigned.key_id !== key.keyId) {
    throw new SignetError(
      'KEYRING_INVALID',
      `the acknowledgement names key «${unsigned.key_id}», not the signing key «${key.keyId}»`,
    )
  }
  return { ...unsigned, signature: sign(null, signedBytes(unsigned), key.privateKey).toString('base64url') }
}

/**
 * Checks an acknowledgement as received, members that this version does not know included: they are signed too.
 * @throws SignetError LEDGER_RESPONSE_INVALID when it is not signed with this key, or when the key was not valid at the time of
 * its checkpoint
 */
export function verifyAck(ack: IngestAck, key: ActiveAckKey): void {
  if (ack.key_id !== key.keyId) throw untrusted(`is signed with key «${ack.key_id}», not with «${key.keyId}»`)
  const { signature, ...unsigned } = ack
  const authentic =
    SIGNATURE.test(signature) && verify(null, signedBytes(unsigned), key.publicKey, Buffer.from(signature, 'base64url'))
  if (!authentic) throw untrusted(`does not verify with key «${key.keyId}»`)
  const at = ack.checkpoint.timestamp_utc
  if (!isValidAt(key, at)) throw untrusted(`is of ${at}, when key «${key.keyId}» was not valid`)
}

function signedBytes(unsigned: Omit<IngestAck, 'signature'>): Buffer {
  return pae(CONTEXT, ACK_TYPE, canonicalize(unsigned))
}

function untrusted(what: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `the acknowledgement ${what}`)
}
