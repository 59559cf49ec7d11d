import { treeBroken, chainBroken, faultOf } from '#core/chain/fault.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { claimedOrigin, logVerifier, openLogCheckpoint, type LogKeys } from '#core/tree/log-key.ts'
import type { NoteVerifier } from '#core/tree/note.ts'
import { TreeRebuild, type RebuiltTile } from '#core/tree/rebuild.ts'
import { RunsCheck, type TreeRun } from '#core/tree/runs.ts'
import { TILE_HEIGHT, TILE_WIDTH } from '#core/tree/tile.ts'
import type { Client } from '../postgres/transaction.ts'
import { LeafReader } from './leaf-reader.ts'
import type { WallReader } from './reader.ts'
import {
  countTiles,
  readCheckpoints,
  readLastCheckpoint,
  readLastRuns,
  readLeaves,
  readRuns,
  readTileRoots,
  readTiles,
  type StoredLeaves,
  type TreeCheckpoint,
} from './tree.ts'

export type TreeTask = {
  /** What may have signed: a log's keys, and its origin where it is known (else the first checkpoint's). */
  readonly logKeys: LogKeys
  readonly origin: string | null
  /** Checkpoints kept outside of the store, already opened, that the tree must contain. */
  readonly external: readonly TreeHead[]
  /** A size that was signed: what came after it is left out, where the store grows meanwhile. Null: all that is there. */
  readonly upTo: number | null
  readonly signal: AbortSignal
  readonly onProgress: (leaves: number) => void | Promise<void>
}
export type TreeReport = {
  readonly leaves: number
  readonly checkpoints: number
  readonly root: Buffer
  readonly origin: string | null
  /** The last link of each tenant that is in the tree. */
  readonly lastSeq: ReadonlyMap<string, number>
}

const RUNS_AT_ONCE = 2_000
const LEAVES_AT_ONCE = 10_000
const CHECKPOINTS_AT_ONCE = 1_000
const ROOTS_AT_ONCE = 10_000
const TILES_AT_ONCE = 64
const HASH_BYTES = 32

/**
 * Builds the whole tree once more from the links, and compares runs, tiles and checkpoints with it as they are stored; each
 * checkpoint has to be signed. Memory for one batch; one hash a leaf besides the leaf's own.
 * @throws SignetError CHAIN_BROKEN, DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyTree(reader: WallReader, task: TreeTask): Promise<TreeReport> {
  const runs = new RunsCheck({ wholeTree: true })
  const tree = new TreeRebuild()
  const ahead = new LeafReader(reader)
  const external = task.external.toSorted((a, b) => a.size - b.size)
  const checkpoints = createCheckpoints(reader, task)
  const checkRoot = async (): Promise<void> => {
    const { size } = tree
    const stored = await checkpoints.at(size)
    if (stored !== null && !stored.root.equals(tree.root))
      throw treeBroken(
        size,
        'fork',
        `the links do not give the root that was signed for ${size} leaves`,
        statesOf(stored, tree),
      )
    while (external[0]?.size === size) {
      const [head] = external.splice(0, 1)
      if (!head!.root.equals(tree.root))
        throw treeBroken(
          size,
          'fork',
          `the checkpoint kept outside has another root for ${size} leaves`,
          statesOf(head!, tree),
        )
    }
  }
  const full: RebuiltTile[] = []
  const keepTile = (tile: RebuiltTile): unknown => full.push(tile)
  const compareFull = async (): Promise<void> => {
    const tiles = full.splice(0)
    if (tiles.length > 0) await reader.inTree((client) => compareTiles(client, tiles))
  }
  await checkRoot()
  try {
    for (let from = 0; ;) {
      const some = await reader.inTree((client) => readRuns(client, { from, limit: RUNS_AT_ONCE, tenant: null }))
      for (const run of some) {
        if (task.upTo !== null && run.firstLeaf >= task.upTo) continue
        runs.add(run)
        for (const part of partsOf(run)) {
          task.signal.throwIfAborted()
          const leaves = await ahead.read(part.tenant, part.first, part.last)
          checkLeaves(leaves, part, tree.size)
          for (let index = 0; index < leaves.seqs.length; index++) {
            tree.addAt(leaves.hashes, index * HASH_BYTES, keepTile)
            if (checkpoints.isNext(tree.size) || external[0]?.size === tree.size) await checkRoot()
          }
          if (full.length >= TILES_AT_ONCE) await compareFull()
          await task.onProgress(tree.size)
        }
      }
      const last = some.at(-1)
      if (last === undefined || some.length < RUNS_AT_ONCE || last.firstLeaf >= (task.upTo ?? Infinity)) break
      from = last.firstLeaf + 1
    }
  } catch (error) {
    // What is wrong with a tile that was made full before comes first.
    if (faultOf(error) !== null) await compareFull()
    throw error
  }
  await compareFull()
  await checkpoints.end(tree.size)
  if (task.upTo === null) await reader.inTree((client) => checkTileCounts(client, tree.size))
  const [beyond] = external
  if (beyond !== undefined) {
    throw treeBroken(
      tree.size,
      'rollback',
      `the store has a tree of ${tree.size} leaves, but one of ${beyond.size} was signed: it was set back`,
      statesOf(beyond, tree),
    )
  }
  const { root, size } = tree
  return { leaves: size, checkpoints: checkpoints.count, root, origin: checkpoints.origin, lastSeq: runs.lastSeq }
}

function statesOf(head: { size: number; root: Buffer }, tree: TreeRebuild) {
  return {
    expected: { size: head.size, root: head.root.toString('hex') },
    found: { size: tree.size, root: tree.root.toString('hex') },
  }
}

type Part = { readonly tenant: string; readonly first: number; readonly last: number }

function* partsOf({ tenant, firstSeq, count }: TreeRun): Generator<Part> {
  for (let at = 0; at < count; at += LEAVES_AT_ONCE) {
    yield { tenant, first: firstSeq + at, last: firstSeq + Math.min(count, at + LEAVES_AT_ONCE) - 1 }
  }
}

function checkLeaves({ seqs }: StoredLeaves, { first, last }: Part, firstLeaf: number): void {
  for (let index = 0; index <= last - first; index++) {
    const found = seqs[index]
    if (found === first + index) continue
    throw treeBroken(
      firstLeaf + index,
      found !== undefined && found < first + index ? 'insert' : 'delete',
      `the link of leaf ${firstLeaf + index}, link ${first + index} of its chain, is missing`,
    )
  }
}

async function compareTiles(client: Client, rebuilt: readonly RebuiltTile[]): Promise<void> {
  for (const [level, tiles] of Map.groupBy(rebuilt, (tile) => tile.level)) {
    const from = tiles[0]!.index
    const stored = new Map(
      (await readTiles(client, level, from, from + tiles.length)).map((tile) => [tile.index, tile]),
    )
    for (const tile of tiles) {
      const found = stored.get(tile.index)
      const firstLeaf = tile.index * TILE_WIDTH ** (level + 1)
      if (found === undefined) throw treeBroken(firstLeaf, 'delete', `the full tile ${level}/${tile.index} is missing`)
      if (!found.hashes.equals(tile.hashes) || !found.root.equals(tile.root))
        throw treeBroken(firstLeaf, 'edit', `the tile ${level}/${tile.index} is not what the links give`)
    }
  }
}

async function checkTileCounts(client: Client, size: number): Promise<void> {
  for (const [level, count] of await countTiles(client)) {
    const wanted = Math.floor(size / TILE_WIDTH ** (level + 1))
    if (count > wanted)
      throw treeBroken(size, 'insert', `level ${level} has ${count} full tiles, and ${size} leaves give ${wanted}`)
  }
}

/** Stored checkpoints in order of size, each opened when its size comes. */
function createCheckpoints(reader: WallReader, task: Pick<TreeTask, 'logKeys' | 'origin' | 'upTo'>) {
  const queue: TreeCheckpoint[] = []
  let verifiers: readonly NoteVerifier[] = []
  let origin = task.origin
  let read = 0
  let ended = false
  let count = 0
  let lastSize = -1

  async function fill(): Promise<void> {
    if (queue.length > 0 || ended) return
    const more = await reader.inTree((client) => readCheckpoints(client, read, CHECKPOINTS_AT_ONCE))
    ended = more.length < CHECKPOINTS_AT_ONCE
    queue.push(...more)
    read = (more.at(-1)?.size ?? read) + 1
  }

  return {
    get count() {
      return count
    },
    get origin() {
      return origin
    },
    isNext: (size: number): boolean => (queue[0] === undefined ? !ended : queue[0].size <= size),
    /** The checkpoint of this size, verified; null where there is none. */
    async at(size: number): Promise<TreeCheckpoint | null> {
      await fill()
      const next = queue[0]
      if (next === undefined || next.size > size) return null
      if (next.size < size) throw treeBroken(next.size, 'insert', `there are two checkpoints of ${next.size} leaves`)
      queue.shift()
      origin ??= originOf(next)
      if (verifiers.length === 0) verifiers = task.logKeys.map((key) => logVerifier(origin ?? '', key))
      checkCheckpoint(next, verifiers)
      count += 1
      lastSize = size
      await fill()
      return next
    },
    /** Everything that was signed is there, and nothing that was not. */
    async end(size: number): Promise<void> {
      await fill()
      const [next] = queue
      if (next !== undefined && next.size <= (task.upTo ?? Infinity))
        throw treeBroken(size, 'truncate', `the runs end at ${size} leaves, a tree of ${next.size} was signed`)
      if (size > 0 && lastSize !== size)
        throw treeBroken(Math.max(lastSize, 0), 'truncate', `runs go on to ${size} leaves, and no checkpoint says so`)
    },
  }
}

function originOf(checkpoint: TreeCheckpoint): string {
  try {
    return claimedOrigin(checkpoint.note)
  } catch (error) {
    throw treeBroken(checkpoint.size, 'edit', 'the checkpoint is no signed note', { cause: error })
  }
}

/** @throws SignetError CHAIN_BROKEN unless the note is signed, and says what the columns say */
export function checkCheckpoint(checkpoint: TreeCheckpoint, verifiers: readonly NoteVerifier[]): void {
  const { size, root, note } = checkpoint
  let head: TreeHead
  try {
    head = openLogCheckpoint(note, verifiers)
  } catch (cause) {
    if (!(cause instanceof SignetError)) throw cause
    const isUnknown = cause.code === 'NOTE_UNTRUSTED' && !/is wrong/.test(cause.message)
    throw treeBroken(size, isUnknown ? 'wrong-key' : 'edit', `checkpoint of ${size} leaves: ${cause.message}`, {
      cause,
    })
  }
  if (head.size !== size || !head.root.equals(root))
    throw treeBroken(size, 'edit', 'size or root of the checkpoint is not that of its note')
}

/** What became of one tenant's chain in the tree. */
export type TenantTreeReport = {
  /** Leaves of the tree as signed last, of all tenants. */
  readonly size: number
  /** The tenant's links that are in it. */
  readonly inTree: number
}

/**
 * Checks that the tree holds a tenant's chain: its runs cover the chain, each of its leaves is in its tile, and the tiles give the
 * root that was signed last. Reads the tenant's links, the tiles that they are in, and one hash for each other tile.
 * @throws SignetError CHAIN_BROKEN, DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyTenantTree(
  reader: WallReader,
  task: Pick<TreeTask, 'logKeys' | 'origin' | 'signal'> & { readonly tenant: string; readonly headSeq: number },
): Promise<TenantTreeReport> {
  return reader.inTree(async (client) => {
    const { tenant, headSeq, signal } = task
    const checkpoint = await readLastCheckpoint(client)
    const size = checkpoint?.size ?? 0
    const runs = new RunsCheck({ wholeTree: false })
    for (let from = 0; ;) {
      const some = await readRuns(client, { from, limit: RUNS_AT_ONCE, tenant })
      for (const run of some) {
        runs.add(run)
        for (const part of partsOf(run)) {
          signal.throwIfAborted()
          if (part.last > headSeq && part.first <= headSeq + 1) {
            // It may have come since verification began.
            const { seqs: next } = await readLeaves(client, tenant, headSeq + 1, headSeq + 1)
            if (next.length === 0)
              throw chainBroken(
                headSeq + 1,
                'truncate',
                `the links end at ${headSeq}, the tree has them to ${part.last}`,
              )
          }
          const leaves = await readLeaves(client, tenant, part.first, part.last)
          const firstLeaf = run.firstLeaf + part.first - run.firstSeq
          checkLeaves(leaves, part, firstLeaf)
          await compareLeaves(client, leaves, firstLeaf, size)
        }
      }
      const last = some.at(-1)
      if (last === undefined || some.length < RUNS_AT_ONCE) break
      from = last.firstLeaf + 1
    }
    if (runs.leaves > size)
      throw treeBroken(size, 'truncate', `runs go on to ${runs.leaves} leaves, and no checkpoint says so`)
    if (checkpoint !== null) await checkSignedRoot(client, checkpoint, task)
    return { size, inTree: runs.lastSeq.get(tenant) ?? 0 }
  })
}

/** That leaves are what the full tiles say, and that each of these tiles has the root that it is known by one level up. */
async function compareLeaves(
  client: Client,
  { seqs, hashes }: StoredLeaves,
  firstLeaf: number,
  size: number,
): Promise<void> {
  const from = Math.floor(firstLeaf / TILE_WIDTH)
  const to = Math.floor(Math.min(firstLeaf + seqs.length - 1, size - 1) / TILE_WIDTH) + 1
  for (const tile of await readTiles(client, 0, from, to)) {
    const begins = tile.index * TILE_WIDTH
    const rebuilt = new TreeRebuild()
    for (let offset = 0; offset < TILE_WIDTH; offset++) {
      const hash = tile.hashes.subarray(offset * HASH_BYTES, (offset + 1) * HASH_BYTES)
      const own = begins + offset - firstLeaf
      const isOwn = own >= 0 && own < seqs.length
      if (isOwn && !hash.equals(hashes.subarray(own * HASH_BYTES, (own + 1) * HASH_BYTES)))
        throw treeBroken(begins + offset, 'edit', `the tile 0/${tile.index} is not what the links give`)
      rebuilt.add(hash, () => undefined)
    }
    if (!rebuilt.root.equals(tile.root))
      throw treeBroken(begins, 'edit', `the root of tile 0/${tile.index} is not that of its hashes`)
  }
}

async function checkSignedRoot(
  client: Client,
  checkpoint: TreeCheckpoint,
  { logKeys, origin }: Pick<TreeTask, 'logKeys' | 'origin'>,
): Promise<void> {
  const name = origin ?? originOf(checkpoint)
  checkCheckpoint(
    checkpoint,
    logKeys.map((key) => logVerifier(name, key)),
  )
  const { size } = checkpoint
  const upper = await rebuildUpper(client, Math.floor(size / TILE_WIDTH))
  const rest = new TreeRebuild()
  const first = size - (size % TILE_WIDTH)
  for (const run of await readLastRuns(client, first)) {
    const from = run.firstSeq + Math.max(first - run.firstLeaf, 0)
    const to = run.firstSeq + Math.min(run.count, size - run.firstLeaf) - 1
    const { seqs, hashes } = await readLeaves(client, run.tenant, from, to)
    for (let index = 0; index < seqs.length; index++) rest.addAt(hashes, index * HASH_BYTES, () => undefined)
  }
  if (rest.size !== size % TILE_WIDTH)
    throw treeBroken(
      first + rest.size,
      'delete',
      `${(size % TILE_WIDTH) - rest.size} links of the last leaves are missing`,
    )
  const root = upper.rootWith(rest.size === 0 ? null : rest.root)
  if (!root.equals(checkpoint.root))
    throw treeBroken(size, 'fork', `the tiles do not give the root that was signed for ${size} leaves`)
}

/** The levels above the lowest tiles, from the roots of these. */
async function rebuildUpper(client: Client, tiles: number): Promise<TreeRebuild> {
  const tree = new TreeRebuild(TILE_HEIGHT)
  for (let from = 0; from < tiles; from += ROOTS_AT_ONCE) {
    const to = Math.min(tiles, from + ROOTS_AT_ONCE)
    const full: RebuiltTile[] = []
    const roots = await readTileRoots(client, 0, from, to)
    for (let index = from; index < to; index++) {
      const found = roots[index - from]
      if (found?.index !== index) throw treeBroken(index * TILE_WIDTH, 'delete', `the full tile 0/${index} is missing`)
      tree.add(found.root, (tile) => full.push(tile))
    }
    await compareTiles(client, full)
  }
  return tree
}
