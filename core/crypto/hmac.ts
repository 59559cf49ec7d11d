import { hash, type KeyObject } from 'node:crypto'

const BLOCK_BYTES = 64
const DIGEST_BYTES = 32
const INNER = 0x36
const OUTER = 0x5c

/**
 * HMAC-SHA256 (RFC 2104) over a message that is written in place, again and again: as two digests of one call each. An `Hmac` object for
 * every message costs half as much again, and the garbage collector has to finalise it.
 */
export class HmacFrame {
  /** To be filled; a part of a longer buffer that begins with the key's inner block. */
  readonly message: Buffer
  readonly #inner: Buffer
  readonly #outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES)
  /** The part of `#inner` that was asked for last: messages of one kind have one length. */
  #asked: Buffer

  /** `initial`: what the message is at first; it cannot become longer. */
  constructor(secret: KeyObject, initial: Uint8Array) {
    const exported = secret.export()
    const key = exported.length > BLOCK_BYTES ? hash('sha256', exported, 'buffer') : exported
    this.#inner = Buffer.alloc(BLOCK_BYTES + initial.length)
    for (let at = 0; at < BLOCK_BYTES; at++) {
      const byte = key[at] ?? 0
      this.#inner[at] = byte ^ INNER
      this.#outer[at] = byte ^ OUTER
    }
    this.message = this.#inner.subarray(BLOCK_BYTES)
    this.message.set(initial)
    this.#asked = this.#inner
  }

  /** Of the first `length` bytes of the message: 64 lowercase hex digits. */
  mac(length: number): string {
    this.#digestInner(length)
    return hash('sha256', this.#outer, 'hex')
  }

  /** The same as 32 characters, each the code of a byte: to compare with bytes where they lie. */
  macLatin1(length: number): string {
    this.#digestInner(length)
    return hash('sha256', this.#outer, 'binary')
  }

  #digestInner(length: number): void {
    if (this.#asked.length !== BLOCK_BYTES + length) this.#asked = this.#inner.subarray(0, BLOCK_BYTES + length)
    this.#outer.write(hash('sha256', this.#asked, 'binary'), BLOCK_BYTES, 'latin1')
  }
}
