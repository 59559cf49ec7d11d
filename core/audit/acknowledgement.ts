import { sign, verify } from 'node:crypto'
import { canonicalize } from '../canonical/jcs.ts'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'
import { isValidAt, type ActiveAckKey } from '../keyring/keyring.ts'
import type { IngestAck, LogAck } from './wire.ts'

const CONTEXT = 'SignetV1'
const ACK_TYPE = 'application/vnd.signet.ack.v1+json'
const CLOSE_BRACE = 0x7d
const COMMA = 0x2c
const LOG_ACK_TYPE = 'application/vnd.signet.log-ack.v1+json'
/** base64url of the 64 bytes of an Ed25519 signature. */
const SIGNATURE = /^[A-Za-z0-9_-]{86}$/

/**
 * Signs an acknowledgement: Ed25519 over PAE("SignetV1", "application/vnd.signet.ack.v1+json", JCS(ack without `signature`)).
 * @throws SignetError KEYRING_INVALID when the key has no private part or is not the one that `key_id` names
 */
export function signAck(unsigned: Omit<IngestAck, 'signature'>, key: ActiveAckKey): IngestAck {
  return { ...unsigned, signature: signatureOf(ACK_TYPE, unsigned, key) }
}

/** The same for the acknowledgement of one event, whose type is `application/vnd.signet.log-ack.v1+json`. */
export function signLogAck(unsigned: Omit<LogAck, 'signature'>, key: ActiveAckKey): LogAck {
  return { ...unsigned, signature: signatureOf(LOG_ACK_TYPE, unsigned, key) }
}

/**
 * Checks an acknowledgement as received, members that this version does not know included: they are signed too.
 * @throws SignetError LEDGER_RESPONSE_INVALID when it is not signed with this key, or when the key was not valid at the time of
 * its checkpoint
 */
export function verifyAck(ack: IngestAck, key: ActiveAckKey): void {
  checkSignature(ACK_TYPE, ack, key)
}

/**
 * The same by the bytes as received, for one that is canonical but for `signature`, which is its last member: spares writing the
 * canonical form anew. False where the bytes are not so, or are not signed so: `verifyAck` then decides.
 * @throws SignetError LEDGER_RESPONSE_INVALID when the key was not valid at the time of its checkpoint
 */
export function verifyAckBytes(bytes: Buffer, ack: Signed, key: ActiveAckKey): boolean {
  const tail = `,"signature":"${ack.signature}"}`
  const end = bytes.length - tail.length
  if (ack.key_id !== key.keyId || !SIGNATURE.test(ack.signature) || bytes.toString('latin1', Math.max(0, end)) !== tail)
    return false
  // In its place, and back: an answer to a batch is long, and copied once is enough.
  bytes[end] = CLOSE_BRACE
  const signed = pae(CONTEXT, ACK_TYPE, bytes.subarray(0, end + 1))
  bytes[end] = COMMA
  if (!verify(null, signed, key.publicKey, Buffer.from(ack.signature, 'base64url'))) return false
  requireValidKey(ack, key)
  return true
}

/** The same for the acknowledgement of one event. */
export function verifyLogAck(ack: LogAck, key: ActiveAckKey): void {
  checkSignature(LOG_ACK_TYPE, ack, key)
}

type Signed = Pick<IngestAck, 'key_id' | 'checkpoint' | 'signature'>

function signatureOf(type: string, unsigned: Omit<Signed, 'signature'>, key: ActiveAckKey): string {
  if (key.privateKey === null)
    throw new SignetError('KEYRING_INVALID', `ack key «${key.keyId}» has no private_key to sign with`)
  if (unsigned.key_id !== key.keyId) {
    throw new SignetError(
      'KEYRING_INVALID',
      `the acknowledgement names key «${unsigned.key_id}», not the signing key «${key.keyId}»`,
    )
  }
  return sign(null, signedBytes(type, unsigned), key.privateKey).toString('base64url')
}

function checkSignature(type: string, ack: Signed, key: ActiveAckKey): void {
  if (ack.key_id !== key.keyId) throw untrusted(`is signed with key «${ack.key_id}», not with «${key.keyId}»`)
  const { signature, ...unsigned } = ack
  const authentic =
    SIGNATURE.test(signature) &&
    verify(null, signedBytes(type, unsigned), key.publicKey, Buffer.from(signature, 'base64url'))
  if (!authentic) throw untrusted(`does not verify with key «${key.keyId}»`)
  requireValidKey(ack, key)
}

function requireValidKey(ack: Signed, key: ActiveAckKey): void {
  const at = ack.checkpoint.timestamp_utc
  if (!isValidAt(key, at)) throw untrusted(`is of ${at}, when key «${key.keyId}» was not valid`)
}

function signedBytes(type: string, unsigned: object): Buffer {
  return pae(CONTEXT, type, canonicalize(unsigned))
}

function untrusted(what: string): SignetError {
  return new SignetError('LEDGER_RESPONSE_INVALID', `the acknowledgement ${what}`)
}
