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

function digestOfScratch(): Buffer {
  // By way of hex: a digest as a Buffer has memory of its own outside of the heap, which costs more than both conversions.
  return Buffer.from(hash('sha256', scratch, 'hex'), 'hex')
}

/** Floor of half, for sizes past 2^32, where `>>` does not reach. */
export function half(n: number): number {
  return Math.floor(n / 2)
}
