import { hash } from 'node:crypto'

const LEAF = 0
const NODE = 1
const HASH_BYTES = 32
// What is hashed of a tree has two hashes of 32 bytes (a leaf: commitment and link hash): one digest over memory that is used again
// takes a third of what a `Hash` object does, and a verifier makes two for each record.
const scratch = Buffer.alloc(1 + 2 * HASH_BYTES)

/** Root of the tree without leaves: SHA-256 of nothing (RFC 6962, section 2.1). */
export const EMPTY_ROOT: Buffer = hash('sha256', '', 'buffer')

/** SHA-256(0x00 ‖ leaf). RFC 6962, section 2.1: the prefixes keep a node from being passed off as a leaf. */
export function leafHash(leaf: Uint8Array): Buffer {
  if (leaf.byteLength !== 2 * HASH_BYTES) return hash('sha256', Buffer.concat([Buffer.of(LEAF), leaf]), 'buffer')
  scratch[0] = LEAF
  scratch.set(leaf, 1)
  return digestOfScratch()
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  if (left.byteLength !== HASH_BYTES || right.byteLength !== HASH_BYTES)
    return hash('sha256', Buffer.concat([Buffer.of(NODE), left, right]), 'buffer')
  scratch[0] = NODE
  scratch.set(left, 1)
  scratch.set(right, 1 + HASH_BYTES)
  return digestOfScratch()
}

/** As `leafHash` of the 64 bytes at `at`, written to where it belongs: a verifier makes two of these for each record. */
export function writeLeafHash(bytes: Uint8Array, at: number, out: Uint8Array, outAt: number): void {
  scratch[0] = LEAF
  for (let index = 0; index < 2 * HASH_BYTES; index++) scratch[1 + index] = bytes[at + index] as number
  writeDigestOfScratch(out, outAt)
}

/** As `nodeHash` of the hashes at `leftAt` and `rightAt`. */
export function writeNodeHash(
  left: Uint8Array,
  leftAt: number,
  right: Uint8Array,
  rightAt: number,
  out: Uint8Array,
  outAt: number,
): void {
  scratch[0] = NODE
  for (let index = 0; index < HASH_BYTES; index++) {
    scratch[1 + index] = left[leftAt + index] as number
    scratch[1 + HASH_BYTES + index] = right[rightAt + index] as number
  }
  writeDigestOfScratch(out, outAt)
}

function writeDigestOfScratch(out: Uint8Array, outAt: number): void {
  const latin1 = hash('sha256', scratch, 'binary')
  for (let index = 0; index < HASH_BYTES; index++) out[outAt + index] = latin1.charCodeAt(index)
}

function digestOfScratch(): Buffer {
  // By way of hex: a digest as a Buffer has memory of its own outside of the heap, which costs more than both conversions.
  return Buffer.from(hash('sha256', scratch, 'hex'), 'hex')
}

/** Floor of half, for sizes past 2^32, where `>>` does not reach. */
export function half(n: number): number {
  return Math.floor(n / 2)
}
