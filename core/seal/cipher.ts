import { createCipheriv, createDecipheriv, createHmac, createSecretKey, type KeyObject } from 'node:crypto'
import { pae } from '../crypto/pae.ts'
import { SignetError } from '../error/signet-error.ts'

export const SEAL_KEY_BYTES = 32
export const SEAL_NONCE_BYTES = 24
const GCM_NONCE_BYTES = 12
const TAG_BYTES = 16
const BLOCK_BYTES = 16

/**
 * A key of 32 bytes for XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key derived from this one and the first half of a nonce of
 * 24 bytes. Random nonces never have to be counted: two meet after some 2^80 messages (ADR 70).
 */
export class SealKey {
  // Ciphers and HMACs take a KeyObject at a sixth of what they take a Buffer at (10 µs, Node 24).
  readonly #secret: KeyObject
  /** K1 of the derivation (CMAC, NIST SP 800-38B); most keys never seal more than a name. */
  #mask: Buffer | undefined

  /** @throws RangeError unless `secret` has 32 bytes */
  constructor(secret: Buffer) {
    if (secret.length !== SEAL_KEY_BYTES) throw new RangeError(`a sealing key has ${SEAL_KEY_BYTES} bytes`)
    this.#secret = createSecretKey(secret)
  }

  /** A key that takes all of these to have, in this order: of one key, itself. `keys`: one or more. */
  static joint(keys: readonly SealKey[]): SealKey {
    const [first, ...others] = keys
    if (first === undefined) throw new RangeError('a joint key has one key or more')
    if (others.length === 0) return first
    const parts = others.map((key) => key.export())
    return new SealKey(
      createHmac('sha256', first.#secret)
        .update(pae('SignetV1', 'application/vnd.signet.joint-key.v1', ...parts))
        .digest(),
    )
  }

  /** nonce ‖ ciphertext ‖ tag. `nonce`: 24 random bytes. `bound`: what the ciphertext belongs to; it does not open elsewhere. */
  seal(plain: Uint8Array, bound: Uint8Array, nonce: Buffer): Buffer {
    if (nonce.length !== SEAL_NONCE_BYTES) throw new RangeError(`a nonce has ${SEAL_NONCE_BYTES} bytes`)
    const cipher = createCipheriv('aes-256-gcm', this.#derived(nonce), nonce.subarray(GCM_NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
    cipher.setAAD(bound)
    const text = cipher.update(plain)
    return Buffer.concat([nonce, text, cipher.final(), cipher.getAuthTag()])
  }

  /** @throws SignetError SEAL_INVALID when it was not sealed with this key for this place, or was changed */
  open(sealed: Buffer, bound: Uint8Array): Buffer {
    if (sealed.length < SEAL_NONCE_BYTES + TAG_BYTES)
      throw new SignetError('SEAL_INVALID', 'what is sealed is cut short')
    const nonce = sealed.subarray(0, SEAL_NONCE_BYTES)
    const decipher = createDecipheriv('aes-256-gcm', this.#derived(nonce), nonce.subarray(GCM_NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAAD(bound)
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
    const text = decipher.update(sealed.subarray(SEAL_NONCE_BYTES, -TAG_BYTES))
    try {
      return Buffer.concat([text, decipher.final()])
    } catch {
      // The cause is left out: nothing of a key is to show in a log.
      throw new SignetError('SEAL_INVALID', 'what is sealed does not open with this key, or was changed or moved')
    }
  }

  /** HMAC-SHA256 under this key: names something for who has the key, and nobody else. */
  mark(message: Uint8Array): Buffer {
    return createHmac('sha256', this.#secret).update(message).digest()
  }

  /** For whoever wraps it. */
  export(): Buffer {
    return this.#secret.export()
  }

  #derived(nonce: Buffer): KeyObject {
    const mask = (this.#mask ??= doubled(this.#block(Buffer.alloc(BLOCK_BYTES))))
    const blocks = Buffer.alloc(2 * BLOCK_BYTES)
    for (let index = 0; index < 2; index++) {
      const at = index * BLOCK_BYTES
      blocks[at + 1] = index + 1
      blocks[at + 2] = 0x58
      nonce.copy(blocks, at + 4, 0, GCM_NONCE_BYTES)
      for (let byte = 0; byte < BLOCK_BYTES; byte++) blocks[at + byte] = (blocks[at + byte] ?? 0) ^ (mask[byte] ?? 0)
    }
    return createSecretKey(this.#block(blocks))
  }

  #block(blocks: Buffer): Buffer {
    return createCipheriv('aes-256-ecb', this.#secret, null).setAutoPadding(false).update(blocks)
  }
}

/** Times x in GF(2^128), as CMAC has it. */
function doubled(block: Buffer): Buffer {
  const twice = Buffer.alloc(BLOCK_BYTES)
  for (let at = 0; at < BLOCK_BYTES; at++) twice[at] = ((block[at] ?? 0) << 1) | ((block[at + 1] ?? 0) >> 7)
  if (((block[0] ?? 0) & 0x80) !== 0) twice[BLOCK_BYTES - 1] = (twice[BLOCK_BYTES - 1] ?? 0) ^ 0x87
  return twice
}
