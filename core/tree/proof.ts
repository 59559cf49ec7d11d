import { SignetError } from '../error/signet-error.ts'
import { EMPTY_ROOT, half, nodeHash } from './hash.ts'

/**
 * The hash of the complete subtree over leaves `index * 2^level` to `(index + 1) * 2^level - 1`: level 0 is a leaf's hash.
 * Only complete subtrees are ever asked for: they never change once the tree has grown past them.
 */
export type NodeReader = (level: number, index: number) => Buffer

/** A run of leaves [start, end), as the recursion of RFC 6962, section 2.1 splits them. */
type Run = { readonly start: number; readonly end: number }

/** Root over the first `size` leaves. @throws RangeError for a size that is no count */
export function rootHash(size: number, read: NodeReader): Buffer {
  checkSize(size)
  return size === 0 ? EMPTY_ROOT : runHash({ start: 0, end: size }, read)
}

/** Audit path of leaf `index` in the tree of `size` leaves, from the leaf up (RFC 6962, section 2.1.1). @throws RangeError */
export function inclusionProof(index: number, size: number, read: NodeReader): Buffer[] {
  checkSize(size)
  checkSize(index)
  if (index >= size) throw new RangeError(`leaf ${index} is not in a tree of ${size} leaves`)
  const path: Buffer[] = []
  let run: Run = { start: 0, end: size }
  while (run.end - run.start > 1) {
    const middle = run.start + largestPowerBelow(run.end - run.start)
    const left = { start: run.start, end: middle }
    const right = { start: middle, end: run.end }
    path.unshift(runHash(index < middle ? right : left, read))
    run = index < middle ? left : right
  }
  return path
}

/** Proof that the tree of `size` leaves begins with that of `oldSize` (RFC 6962, section 2.1.2). @throws RangeError */
export function consistencyProof(oldSize: number, size: number, read: NodeReader): Buffer[] {
  checkSize(size)
  checkSize(oldSize)
  if (oldSize > size) throw new RangeError(`a tree of ${size} leaves has not ${oldSize} of them`)
  if (oldSize === 0 || oldSize === size) return []
  const path: Buffer[] = []
  let run: Run = { start: 0, end: size }
  // The verifier knows the old root itself: it is left out as long as the old tree is a complete left edge.
  let known = true
  while (run.end !== oldSize) {
    const middle = run.start + largestPowerBelow(run.end - run.start)
    const left = { start: run.start, end: middle }
    const right = { start: middle, end: run.end }
    if (oldSize <= middle) {
      path.unshift(runHash(right, read))
      run = left
    } else {
      path.unshift(runHash(left, read))
      run = right
      known = false
    }
  }
  if (!known) path.unshift(runHash(run, read))
  return path
}

export type InclusionClaim = {
  readonly index: number
  readonly size: number
  readonly leafHash: Uint8Array
  readonly root: Uint8Array
  readonly path: readonly Uint8Array[]
}

/** Checks an audit path as RFC 9162, section 2.1.3.2 does. @throws SignetError TREE_PROOF_INVALID */
export function verifyInclusion({ index, size, leafHash: leaf, root, path }: InclusionClaim): void {
  if (!isCount(index) || !isCount(size) || index >= size)
    throw invalid(`leaf ${index} is not in a tree of ${size} leaves`)
  let node = index
  let last = size - 1
  let hash: Uint8Array = leaf
  for (const sibling of path) {
    if (sibling.byteLength !== 32) throw invalid('a hash of the path has not 32 bytes')
    if (last === 0) throw invalid('the inclusion path is too long')
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash)
      while (node % 2 === 0 && node !== 0) {
        node = half(node)
        last = half(last)
      }
    } else {
      hash = nodeHash(hash, sibling)
    }
    node = half(node)
    last = half(last)
  }
  if (last !== 0) throw invalid('the inclusion path is too short')
  if (!Buffer.from(hash).equals(root))
    throw invalid(`leaf ${index} is not in the tree of ${size} leaves with this root`)
}

export type ConsistencyClaim = {
  readonly oldSize: number
  readonly oldRoot: Uint8Array
  readonly size: number
  readonly root: Uint8Array
  readonly path: readonly Uint8Array[]
}

/** Checks that one tree continues the other as RFC 9162, section 2.1.4.2 does. @throws SignetError TREE_PROOF_INVALID */
export function verifyConsistency({ oldSize, oldRoot, size, root, path }: ConsistencyClaim): void {
  if (!isCount(oldSize) || !isCount(size) || oldSize > size)
    throw invalid(`a tree of ${size} leaves cannot continue one of ${oldSize}`)
  if (path.some((hash) => hash.byteLength !== 32)) throw invalid('a hash of the path has not 32 bytes')
  if (oldSize === size || oldSize === 0) {
    if (path.length > 0) throw invalid('the consistency path must be empty here')
    if (!Buffer.from(oldSize === 0 ? EMPTY_ROOT : root).equals(oldRoot)) throw invalid('the roots differ')
    return
  }
  const [first, ...rest] = isPowerOfTwo(oldSize) ? [oldRoot, ...path] : path
  if (first === undefined) throw invalid('the consistency path is too short')
  let node = oldSize - 1
  let last = size - 1
  while (node % 2 === 1) {
    node = half(node)
    last = half(last)
  }
  let oldHash: Uint8Array = first
  let hash: Uint8Array = first
  for (const sibling of rest) {
    if (last === 0) throw invalid('the consistency path is too long')
    if (node % 2 === 1 || node === last) {
      oldHash = nodeHash(sibling, oldHash)
      hash = nodeHash(sibling, hash)
      while (node % 2 === 0 && node !== 0) {
        node = half(node)
        last = half(last)
      }
    } else {
      hash = nodeHash(hash, sibling)
    }
    node = half(node)
    last = half(last)
  }
  if (last !== 0) throw invalid('the consistency path is too short')
  if (!Buffer.from(oldHash).equals(oldRoot) || !Buffer.from(hash).equals(root)) {
    throw invalid(`the tree of ${size} leaves does not continue that of ${oldSize}`)
  }
}

/** A run's hash from its complete subtrees: one for each bit of its length. */
function runHash({ start, end }: Run, read: NodeReader): Buffer {
  let width = 1
  let level = 0
  while (width * 2 <= end - start) {
    width *= 2
    level++
  }
  const hash = read(level, start / width)
  return start + width === end ? hash : nodeHash(hash, runHash({ start: start + width, end }, read))
}

/** Largest power of two smaller than `n`, for n of 2 or more. */
function largestPowerBelow(n: number): number {
  let power = 1
  while (power * 2 < n) power *= 2
  return power
}

function isPowerOfTwo(n: number): boolean {
  while (n % 2 === 0) n = half(n)
  return n === 1
}

function isCount(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0
}

function checkSize(n: number): void {
  if (!isCount(n)) throw new RangeError(`${n} is not a count of leaves`)
}

function invalid(what: string): SignetError {
  return new SignetError('TREE_PROOF_INVALID', what)
}
