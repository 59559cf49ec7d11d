import { createHash } from 'node:crypto'

const LEAF = Buffer.of(0)
const NODE = Buffer.of(1)

/** Root of the tree without leaves: SHA-256 of nothing (RFC 6962, section 2.1). */
export const EMPTY_ROOT: Buffer = createHash('sha256').digest()

/** SHA-256(0x00 ‖ leaf). RFC 6962, section 2.1: the prefixes keep a node from being passed off as a leaf. */
export function leafHash(leaf: Uint8Array): Buffer {
  return createHash('sha256').update(LEAF).update(leaf).digest()
}

/** SHA-256(0x01 ‖ left ‖ right). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return createHash('sha256').update(NODE).update(left).update(right).digest()
}

/** Floor of half, for sizes past 2^32, where `>>` does not reach. */
export function half(n: number): number {
  return Math.floor(n / 2)
}
