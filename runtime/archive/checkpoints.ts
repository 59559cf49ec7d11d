import type { KeyObject } from 'node:crypto'
import type { RestoreStatement } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { checkpointFolder, checkpointKey, greatestSize, sizeAfter, sizeOfKey } from './checkpoint-search.ts'
import { orNull, type ListedVersion, type ObjectStore } from './object-store.ts'
import { openArchivedCheckpoint } from './read.ts'
import { readRestores } from './restores.ts'

export type ArchivedDeps = {
  readonly store: ObjectStore
  /** Of the log, as they are at the time. */
  readonly publicKeys: () => readonly KeyObject[]
  /** Of the log; null: that of the newest checkpoint. */
  readonly origin: string | null
  readonly clock: () => Date
}

/** What the archive holds a tree to. */
export type ArchivedHeads = {
  /** Checkpoints that the tree must contain, by size; at most some 1,300. */
  readonly heads: readonly TreeHead[]
  /** The last of the history in force: what comes after it is not proven. Null where there is none. */
  readonly newest: TreeHead | null
  /** Restores that were stated, the first first. */
  readonly restores: readonly RestoreStatement[]
  /** Objects among those read that no known key signed. */
  readonly unsigned: number
}

/** Where the history in force has come to. `newest` may be what a restore continues from. */
export type ArchivedEnd = {
  readonly branch: number
  readonly newest: TreeHead | null
  readonly restores: readonly RestoreStatement[]
}

/** A folder with no more versions than this is read whole; of a larger one, so many spread evenly over it, and the newest. */
const READ_WHOLE = 1_000
const SPREAD = 256
const SPREAD_EVERY_MS = 60 * 60_000
/** Objects that nobody signed, one below the other, that are looked behind. */
const MAX_UNSIGNED = 50
const MAX_NOTE_BYTES = 64 * 1024
const MAX_KEPT = 5_000
const AT_ONCE = 8

/**
 * The checkpoints of an archive, of which there may be millions: bounded in requests and in memory. Every version of a key counts, and those
 * that no key signed hide none that one did. Keeps what it verified; a version never changes.
 */
export class ArchivedCheckpoints {
  readonly #deps: ArchivedDeps
  readonly #opened = new Map<string, TreeHead>()
  readonly #spread = new Map<number, { readonly at: number; readonly heads: readonly TreeHead[] }>()
  readonly #hints = new Map<number, number>()
  #unsigned = 0

  constructor(deps: ArchivedDeps) {
    this.#deps = deps
  }

  /**
   * Has to be called before the tree is read: what is archived meanwhile is in neither, or in the tree alone.
   * @throws SignetError ARCHIVE_UNAVAILABLE; ARCHIVE_INVALID where what is there cannot be told apart
   */
  async read(): Promise<ArchivedHeads> {
    this.#unsigned = 0
    const restores = await this.#restores()
    // What a restore continued from may have been given up by a later one.
    const all = restores.filter(({ continues }, index) => continues.size <= boundOf(index + 1, restores)).map(stated)
    let newest = all.at(-1) ?? null
    for (let branch = 0; branch <= restores.length; branch++) {
      const found = await this.#readBranch(branch, boundOf(branch, restores))
      all.push(...found)
      if (branch === restores.length) newest = greatest(found) ?? newest
    }
    const origin = this.#deps.origin ?? newest?.origin
    const heads = all.filter((head) => head.origin === origin).toSorted((a, b) => a.size - b.size)
    this.#unsigned += all.length - heads.length
    return { heads, newest: newest?.origin === origin ? newest : null, restores, unsigned: this.#unsigned }
  }

  /** Where it ends, for who writes to it: the newest only. @throws as `read` */
  async end(): Promise<ArchivedEnd> {
    const restores = await this.#restores()
    const branch = restores.length
    const [found] = await this.#newestSigned(branch, Number.MAX_SAFE_INTEGER)
    const last = restores.at(-1)
    return { branch, newest: found ?? (last === undefined ? null : stated(last)), restores }
  }

  /**
   * The smallest checkpoint of a history that is above `size` and below `before`, all that was signed of this size; null where there is none.
   * @throws as `read`
   */
  async after(branch: number, size: number, before: number): Promise<readonly TreeHead[] | null> {
    let at = size
    for (let tries = 0; tries < MAX_UNSIGNED; tries++) {
      const next = await sizeAfter(this.#deps.store, checkpointFolder(branch), at)
      if (next === null || next >= before) return null
      const heads = await this.#signedAt(branch, next)
      if (heads.length > 0) return heads
      at = next
    }
    throw unsignedOnly(checkpointFolder(branch))
  }

  #restores(): Promise<readonly RestoreStatement[]> {
    return readRestores(this.#deps.store, this.#deps.publicKeys())
  }

  async #readBranch(branch: number, atMost: number): Promise<readonly TreeHead[]> {
    const folder = checkpointFolder(branch)
    const { found, more } = await this.#deps.store.listAfter(folder, '', READ_WHOLE)
    if (!more) {
      const versions = found.filter(({ key }) => (sizeOfKey(folder, key) ?? Infinity) <= atMost)
      return (await inParallel(versions, (version) => this.#open(folder, version))).flatMap((head) => head ?? [])
    }
    const newest = await this.#newestSigned(branch, atMost)
    const end = newest[0]?.size
    return end === undefined ? [] : [...newest, ...(await this.#readSpread(branch, end))]
  }

  async #readSpread(branch: number, end: number): Promise<readonly TreeHead[]> {
    const now = this.#deps.clock().getTime()
    const known = this.#spread.get(branch)
    if (known !== undefined && now - known.at < SPREAD_EVERY_MS && now >= known.at)
      return known.heads.filter(({ size }) => size <= end)
    const folder = checkpointFolder(branch)
    const marks = Array.from({ length: SPREAD }, (_, index) => Math.floor((end / SPREAD) * index))
    const sizes = await inParallel(marks, (mark) => sizeAfter(this.#deps.store, folder, mark))
    const wanted = new Set(sizes.filter((size) => size !== null && size <= end) as number[])
    const heads = (await inParallel([...wanted], (size) => this.#signedAt(branch, size))).flat()
    this.#spread.set(branch, { at: now, heads })
    return heads
  }

  /** All that was signed of the greatest size; none where there is no checkpoint. */
  async #newestSigned(branch: number, atMost: number): Promise<readonly TreeHead[]> {
    const { store } = this.#deps
    const folder = checkpointFolder(branch)
    let limit = atMost
    for (let tries = 0; tries < MAX_UNSIGNED; tries++) {
      const hint = Math.min(this.#hints.get(branch) ?? 0, limit)
      const size = await greatestSize(store, folder, { atMost: limit, hint })
      if (size === null) return []
      const heads = await this.#signedAt(branch, size)
      if (heads.length > 0) {
        this.#hints.set(branch, size)
        return heads
      }
      limit = size - 1
    }
    throw unsignedOnly(folder)
  }

  async #signedAt(branch: number, size: number): Promise<readonly TreeHead[]> {
    const key = checkpointKey(branch, size)
    const heads: TreeHead[] = []
    for (const versionId of await this.#deps.store.versions(key)) {
      const head = await this.#open(checkpointFolder(branch), { key, versionId })
      if (head !== null) heads.push(head)
    }
    return heads
  }

  /** Null for what no key signed, what is of another log, or under the key of another size. */
  async #open(folder: string, { key, versionId }: ListedVersion): Promise<TreeHead | null> {
    const size = sizeOfKey(folder, key)
    if (size === null) return null
    const name = `${key} ${versionId}`
    const known = this.#opened.get(name)
    if (known !== undefined) return known
    const bytes = await orNull(this.#deps.store.get(key, { maxBytes: MAX_NOTE_BYTES, versionId }))
    const head = bytes === null ? null : openOrNull(bytes.toString('utf8'), this.#deps.publicKeys())
    const { origin } = this.#deps
    if (head === null || head.size !== size || (origin !== null && head.origin !== origin)) {
      this.#unsigned += 1
      return null
    }
    if (this.#opened.size >= MAX_KEPT) this.#opened.clear()
    this.#opened.set(name, head)
    return head
  }
}

/** Up to where a history counts: later restores gave up the rest. */
export function boundOf(branch: number, restores: readonly RestoreStatement[]): number {
  return Math.min(Number.MAX_SAFE_INTEGER, ...restores.slice(branch).map(({ continues }) => continues.size))
}

/** What a restore continues from, as a head that the tree must contain. */
export function stated({ origin, continues: { size, root } }: RestoreStatement): TreeHead {
  return { origin, size, root: Buffer.from(root, 'hex'), extensions: [] }
}

function greatest(heads: readonly TreeHead[]): TreeHead | null {
  return heads.reduce<TreeHead | null>((last, head) => (last === null || head.size >= last.size ? head : last), null)
}

function openOrNull(note: string, publicKeys: readonly KeyObject[]): TreeHead | null {
  try {
    return openArchivedCheckpoint(note, publicKeys)
  } catch (error) {
    if (error instanceof SignetError && (error.code === 'NOTE_INVALID' || error.code === 'NOTE_UNTRUSTED')) return null
    throw error
  }
}

function unsignedOnly(folder: string): SignetError {
  return new SignetError(
    'ARCHIVE_INVALID',
    `${folder} has ${MAX_UNSIGNED} objects one after the other that no key known here signed: its checkpoints cannot be told`,
  )
}

async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = Array.from<R>({ length: items.length })
  let next = 0
  const one = async (): Promise<void> => {
    for (let at = next++; at < items.length; at = next++) results[at] = await work(items[at]!)
  }
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, one))
  return results
}
