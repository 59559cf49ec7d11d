import { createHash, hash as digest, type KeyObject } from 'node:crypto'
import { HmacFrame } from '../crypto/hmac.ts'
import { pae } from '../crypto/pae.ts'

const CONTEXT = 'SignetV1'
const LINK_TYPE = 'application/vnd.signet.link.v1'

/** Stands for the hash of a predecessor that does not exist: 32 zero bytes. */
export const NO_PREDECESSOR: Buffer = Buffer.alloc(32)

/** One link of a tenant's chain, as kept for ever. Hashes and HMACs are 32 raw bytes. */
export type Link = {
  readonly tenant: string
  /** 1 for the first, then without holes. */
  readonly seq: number
  readonly event_id: string
  readonly commitment: Buffer
  readonly hash: Buffer
  /** `hash` of the link with `seq - 1`; zeros for the first. */
  readonly previous_hash: Buffer
  /** `hash` of the last link before this one with the same `trace_hmac`; zeros for the first of a trace. */
  readonly previous_trace_hash: Buffer
  readonly key_id: string
  readonly trace_hmac: Buffer
  readonly received_hmac: Buffer
}

/** A link as it lies in a block of memory: where each of its parts of 32 bytes begins. */
export type PlacedLink = {
  bytes: Buffer
  seq: number
  keyId: string
  commitment: number
  hash: number
  previousHash: number
  previousTraceHash: number
  traceHmac: number
}

/** What a link commits to: a random nonce (32 bytes) and the exact sealed bytes. */
export type RecordBytes = { readonly nonce: Buffer; readonly bytes: Buffer }

/** SHA-256(nonce ‖ exact sealed bytes). The nonce keeps a public commitment from being guessed. `nonce`: 32 bytes. */
export function commitment(nonce: Uint8Array, sealedBytes: Uint8Array): Buffer {
  return Buffer.from(commitmentHex(nonce, sealedBytes), 'hex')
}

/** `commitment` as 64 lowercase hex digits: to compare with, at little more than half the time. */
export function commitmentHex(nonce: Uint8Array, sealedBytes: Uint8Array): string {
  if (nonce.byteLength !== 32) throw new RangeError(`a nonce has 32 bytes, not ${nonce.byteLength}`)
  // A verifier reads the two as one piece of memory: hashed at once, that takes half the time.
  if (nonce.buffer === sealedBytes.buffer && nonce.byteOffset + 32 === sealedBytes.byteOffset)
    return digest('sha256', new Uint8Array(nonce.buffer, nonce.byteOffset, 32 + sealedBytes.byteLength), 'hex')
  return createHash('sha256').update(nonce).update(sealedBytes).digest('hex')
}

export type LinkHashInput = {
  readonly key: KeyObject
  readonly previousHash: Uint8Array
  readonly previousTraceHash: Uint8Array
  readonly commitment: Uint8Array
  readonly seq: number
  readonly tenant: string
}

/** HMAC-SHA256 over PAE("SignetV1", "application/vnd.signet.link.v1", previous hash, previous trace hash, commitment, seq as 64-bit big-endian, tenant). */
export function linkHash(input: LinkHashInput): Buffer {
  const { seq } = input
  if (!Number.isSafeInteger(seq) || seq < 1)
    throw new RangeError(`a sequence number is an integer from 1 to 2^53 - 1, not ${seq}`)
  for (const part of [input.previousHash, input.previousTraceHash, input.commitment]) {
    if (part.byteLength !== 32) throw new RangeError(`hashes and commitments have 32 bytes, not ${part.byteLength}`)
  }
  const frame = frameOf(input.key)
  const { message } = frame
  message.set(input.previousHash, PREVIOUS_AT)
  message.set(input.previousTraceHash, PREVIOUS_TRACE_AT)
  message.set(input.commitment, COMMITMENT_AT)
  message.writeUInt32BE(Math.floor(seq / 2 ** 32), SEQ_AT)
  message.writeUInt32BE(seq % 2 ** 32, SEQ_AT + 4)
  const written = message.write(input.tenant, TENANT_AT, 'utf8')
  if (written === MAX_TENANT_BYTES) throw new RangeError(`a tenant has fewer than ${MAX_TENANT_BYTES} bytes`)
  message.writeUInt32BE(written, TENANT_AT - 4)
  return Buffer.from(frame.mac(TENANT_AT + written), 'hex')
}

/** Compares link hashes of one tenant and key with what lies in memory: as `linkHash`, and without an object for a link. */
export class LinkHashCheck {
  readonly #frame: HmacFrame
  readonly #length: number

  constructor(key: KeyObject, tenant: string) {
    const framed = pae(CONTEXT, LINK_TYPE, NO_PREDECESSOR, NO_PREDECESSOR, NO_PREDECESSOR, Buffer.alloc(8), tenant)
    this.#frame = new HmacFrame(key, framed)
    this.#length = framed.length
  }

  /** Whether the hash of a link is the one that the key makes of it. `seq`: a safe integer from 1 on. */
  isSound(link: PlacedLink): boolean {
    const { message } = this.#frame
    const { bytes, previousHash, previousTraceHash, commitment: committed, hash, seq } = link
    for (let index = 0; index < 32; index++) {
      message[PREVIOUS_AT + index] = bytes[previousHash + index] as number
      message[PREVIOUS_TRACE_AT + index] = bytes[previousTraceHash + index] as number
      message[COMMITMENT_AT + index] = bytes[committed + index] as number
    }
    message.writeUInt32BE(Math.floor(seq / 2 ** 32), SEQ_AT)
    message.writeUInt32BE(seq % 2 ** 32, SEQ_AT + 4)
    return isDigestAt(this.#frame.macLatin1(this.#length), bytes, hash)
  }
}

/**
 * Whether a commitment is that of the nonce and record that lie end to end, `from` to before `to`. The nonce has the first 32 bytes.
 */
export function isCommitmentOf(bytes: Buffer, from: number, to: number, commitments: Buffer, at: number): boolean {
  const both = new Uint8Array(bytes.buffer, bytes.byteOffset + from, to - from)
  return isDigestAt(digest('sha256', both, 'binary'), commitments, at)
}

/** `latin1`: 32 characters, each the code of a byte. */
function isDigestAt(latin1: string, bytes: Buffer, at: number): boolean {
  for (let index = 0; index < 32; index++) if (latin1.charCodeAt(index) !== bytes[at + index]) return false
  return true
}

/** A frame for each key that is in use: a verifier makes millions of these. */
const frames = new WeakMap<KeyObject, HmacFrame>()
function frameOf(key: KeyObject): HmacFrame {
  let frame = frames.get(key)
  if (frame === undefined) {
    frame = new HmacFrame(key, Buffer.concat([FRAME, Buffer.alloc(MAX_TENANT_BYTES)]))
    frames.set(key, frame)
  }
  return frame
}

/** Names have 512 characters at most. */
const MAX_TENANT_BYTES = 4_096
// All parts but the tenant have fixed lengths, so that the framing is made once and filled in.
const FRAME = pae(CONTEXT, LINK_TYPE, NO_PREDECESSOR, NO_PREDECESSOR, NO_PREDECESSOR, Buffer.alloc(8), '')
const LENGTH_BYTES = 8
const TENANT_AT = FRAME.length
const SEQ_AT = TENANT_AT - LENGTH_BYTES - 8
const COMMITMENT_AT = SEQ_AT - LENGTH_BYTES - 32
const PREVIOUS_TRACE_AT = COMMITMENT_AT - LENGTH_BYTES - 32
const PREVIOUS_AT = PREVIOUS_TRACE_AT - LENGTH_BYTES - 32
