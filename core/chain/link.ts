import { createHash, createHmac, type KeyObject } from 'node:crypto'
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

/** What a link commits to: a random nonce (32 bytes) and the exact sealed bytes. */
export type RecordBytes = { readonly nonce: Buffer; readonly bytes: Buffer }

/** SHA-256(nonce ‖ exact sealed bytes). The nonce keeps a public commitment from being guessed. `nonce`: 32 bytes. */
export function commitment(nonce: Uint8Array, sealedBytes: Uint8Array): Buffer {
  if (nonce.byteLength !== 32) throw new RangeError(`a nonce has 32 bytes, not ${nonce.byteLength}`)
  return createHash('sha256').update(nonce).update(sealedBytes).digest()
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
  const seqBytes = Buffer.allocUnsafe(8)
  seqBytes.writeBigUInt64BE(BigInt(seq))
  return createHmac('sha256', input.key)
    .update(
      pae(CONTEXT, LINK_TYPE, input.previousHash, input.previousTraceHash, input.commitment, seqBytes, input.tenant),
    )
    .digest()
}
