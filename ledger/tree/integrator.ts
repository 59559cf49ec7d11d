import type { KeyObject } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { signCheckpoint } from '#core/tree/checkpoint.ts'
import { leafHash } from '#core/tree/hash.ts'
import { TILE_WIDTH } from '#core/tree/tile.ts'
import type { Client, Pool } from '#runtime/postgres/transaction.ts'
import {
  insertGrowth,
  readBacklogs,
  readCheckpoint,
  readLeaves,
  readTileRoots,
  readTreeLeaves,
  tryLockTree,
  withTree,
  type Leaf,
  type Run,
  type StoredCheckpoint,
} from '../store/tree.ts'
import { allotLeaves, type LinkRange } from './allot.ts'
import { partialTiles, TreeEdge, type FullTile } from './edge.ts'

export type IntegratorDeps = {
  readonly wall: Pool
  /** Name of the log in its checkpoints. */
  readonly origin: string
  /** The key that signs a checkpoint made at a time. */
  readonly signingKey: (at: Date) => KeyObject
  readonly clock: () => Date
}

/** What one round did. `busy`: another process has the tree. `more`: there is a backlog left. */
export type Round =
  | { readonly outcome: 'busy' | 'nothing' }
  | { readonly outcome: 'grown'; readonly leaves: number; readonly size: number; readonly more: boolean }

/** Leaves that one transaction adds: 64 bytes each to read, 300 ms of work. */
export const MAX_ROUND_LEAVES = 20_000
/** Leaves that are hashed before others have their turn: appends, whose producers wait. 3 ms. */
const LEAVES_A_TURN = 1_000

/**
 * Puts links that are committed into the tree, in rounds of one transaction each; one process at a time, whichever comes first.
 * A round covers each chain from where the tree left it, without holes, so that a checkpoint is a statement about whole chains.
 */
export class Integrator {
  readonly #deps: IntegratorDeps
  /** The edge as of the last round that this process made; anything else is read from the store. */
  #edge: TreeEdge | null = null
  /** The largest tree that this process knows to be signed. */
  #known: { readonly size: number; readonly root: Buffer } | null = null

  constructor(deps: IntegratorDeps) {
    this.#deps = deps
  }

  /** @throws SignetError DATABASE_UNAVAILABLE; CHAIN_BROKEN where links are gone or the store holds less than was signed */
  async round(): Promise<Round> {
    const grown = await withTree(this.#deps.wall, async (client) => {
      if (!(await tryLockTree(client))) return 'busy'
      const last = await readCheckpoint(client)
      this.#checkNotRolledBack(last)
      const backlogs = await readBacklogs(client)
      const ranges = allotLeaves(backlogs, MAX_ROUND_LEAVES)
      if (ranges.length === 0) return 'nothing'
      const edge = await this.#edgeAt(client, last)
      const leaves = await readLeaves(client, ranges)
      checkWhole(leaves, ranges)
      const growth = await grow(edge, leaves, ranges)
      const checkpoint = this.#sign(edge)
      await insertGrowth(client, { ...growth, checkpoint })
      const waiting = backlogs.reduce((sum, { head, integrated }) => sum + head - integrated, 0)
      return { edge, checkpoint, leaves: leaves.length, more: waiting > leaves.length }
    }).catch((error: unknown) => {
      // Whether a failed commit happened is not known: the store says it next time.
      this.#edge = null
      throw error
    })
    if (typeof grown === 'string') return { outcome: grown }
    this.#edge = grown.edge
    this.#known = grown.checkpoint
    return { outcome: 'grown', leaves: grown.leaves, size: grown.checkpoint.size, more: grown.more }
  }

  #sign(edge: TreeEdge): StoredCheckpoint {
    const madeAt = this.#deps.clock()
    const { size, root } = edge
    const note = signCheckpoint(
      { origin: this.#deps.origin, size, root, extensions: [] },
      this.#deps.signingKey(madeAt),
    )
    return { size, root, note, madeAt }
  }

  async #edgeAt(client: Client, last: StoredCheckpoint | null): Promise<TreeEdge> {
    const size = last?.size ?? 0
    if (this.#edge?.size === size) return this.#edge.copy()
    const edge = await readEdge(client, size)
    if (last !== null && !edge.root.equals(last.root)) {
      throw new SignetError(
        'CHAIN_BROKEN',
        `the links do not give the root that was signed for ${size} leaves: ${edge.root.toString('hex')} instead of ${last.root.toString('hex')}`,
      )
    }
    return edge
  }

  /** A database that was set back must not be signed over: outsiders hold checkpoints that it contradicts. */
  #checkNotRolledBack(last: StoredCheckpoint | null): void {
    const known = this.#known
    if (known === null) return
    const size = last?.size ?? 0
    if (size > known.size || (size === known.size && last?.root.equals(known.root) === true)) return
    throw new SignetError(
      'CHAIN_BROKEN',
      `the store holds a tree of ${size} leaves, but one of ${known.size} with root ${known.root.toString('hex')} was signed: it was set back`,
    )
  }
}

/** The right edge of the tree as stored: the links of the last partial tile, and the roots of the full tiles below each other one. */
export async function readEdge(client: Client, size: number): Promise<TreeEdge> {
  const levels: Buffer[][] = []
  for (const { level, index, width } of partialTiles(size)) {
    const first = index * TILE_WIDTH
    if (level === 0) {
      levels.push((await readTreeLeaves(client, first, first + width)).map(hashOf))
    } else {
      const roots = await readTileRoots(client, level - 1, first, first + width)
      if (roots.length !== width)
        throw new SignetError('CHAIN_BROKEN', `${width - roots.length} full tiles of level ${level - 1} are missing`)
      levels.push(roots)
    }
  }
  return new TreeEdge(size, levels)
}

/** A leaf's hash: RFC 6962 over commitment ‖ link hash, which reveal nothing of the record. */
export function hashOf(leaf: Pick<Leaf, 'commitment' | 'linkHash'>): Buffer {
  return leafHash(leafBytes(leaf))
}

export function leafBytes({ commitment, linkHash }: Pick<Leaf, 'commitment' | 'linkHash'>): Buffer {
  return Buffer.concat([commitment, linkHash])
}

async function grow(
  edge: TreeEdge,
  leaves: readonly Leaf[],
  ranges: readonly LinkRange[],
): Promise<{ runs: Run[]; tiles: FullTile[] }> {
  let firstLeaf = edge.size
  const runs = ranges.map(({ tenant, first, last }): Run => {
    const run = { firstLeaf, tenant, firstSeq: first, count: last - first + 1 }
    firstLeaf += run.count
    return run
  })
  const tiles: FullTile[] = []
  for (const [index, leaf] of leaves.entries()) {
    for (const tile of edge.add(hashOf(leaf))) tiles.push(tile)
    if (index % LEAVES_A_TURN === LEAVES_A_TURN - 1) await nextTurn()
  }
  return { runs, tiles }
}

/** A hole in a chain is somebody's doing: the tree must not step over it. */
function checkWhole(leaves: readonly Leaf[], ranges: readonly LinkRange[]): void {
  let at = 0
  for (const { tenant, first, last } of ranges) {
    for (let seq = first; seq <= last; seq++, at++) {
      if (leaves[at]?.tenant !== tenant || leaves[at]?.seq !== seq) {
        throw new SignetError('CHAIN_BROKEN', `link ${seq} of tenant ${tenant} is missing; the tree stops before it`)
      }
    }
  }
}
