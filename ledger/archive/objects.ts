import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { ArchiveObject } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ObjectStore } from '#runtime/archive/object-store.ts'
import type { ArchivedRow } from '../store/archive.ts'
import type { WrittenObject } from '../store/unfinished.ts'

/** Bytes of rows after which an object is closed. */
const OBJECT_BYTES = 8 * 1024 * 1024
const zip = promisify(gzip)

export type WriterDeps = {
  readonly store: ObjectStore
  /** Ends with a slash. */
  readonly folder: string
  /** Called before each object; what it throws ends the snapshot. */
  readonly onObject: () => Promise<void>
  /** What an attempt that was interrupted wrote. */
  readonly written: readonly WrittenObject[]
  /** Keeps what was written, for the next attempt. */
  readonly save: (written: WrittenObject) => Promise<void>
}

/** Rows of one kind, which an attempt that was interrupted may have begun. */
export type Section = {
  /** Unlike that of any other of the snapshot. */
  readonly section: string
  /** A part of the objects' names. */
  readonly name: string
  readonly retainUntil: Date
}

/** Writes rows as objects of a snapshot, and reads them back. Holds one object at a time in memory. */
export class ObjectWriter {
  readonly #deps: WriterDeps
  readonly #used: ArchiveObject[] = []
  #number: number

  constructor(deps: WriterDeps) {
    this.#deps = deps
    this.#number = Math.max(0, ...deps.written.map(({ number }) => number))
  }

  /** All that the snapshot is made of. */
  get used(): readonly ArchiveObject[] {
    return this.#used
  }

  /**
   * Rows that come in the order of their places, from behind a place on; `from`: before the first. What an interrupted attempt wrote of them
   * is not written again. @throws SignetError ARCHIVE_UNAVAILABLE
   */
  async write(
    of: Section,
    from: number,
    rowsAfter: (place: number) => AsyncIterable<ArchivedRow>,
  ): Promise<ArchiveObject[]> {
    const written = this.#deps.written.filter(({ section }) => section === of.section)
    const objects = written.map(({ object }) => object)
    this.#used.push(...objects)
    return [...objects, ...(await this.#writeRows(of, rowsAfter(written.at(-1)?.lastAt ?? from)))]
  }

  /** Rows of a small table, which have no places: all of them each time. @throws SignetError ARCHIVE_UNAVAILABLE */
  writeWhole(of: Section, rows: AsyncIterable<ArchivedRow>): Promise<ArchiveObject[]> {
    return this.#writeRows(of, rows)
  }

  async #writeRows(of: Section, rows: AsyncIterable<ArchivedRow>): Promise<ArchiveObject[]> {
    const objects: ArchiveObject[] = []
    let lines: string[] = []
    let length = 0
    let lastAt: number | null = null
    const close = async (): Promise<void> => {
      if (lines.length === 0) return
      objects.push(await this.#put(of, lines, lastAt))
      lines = []
      length = 0
    }
    for await (const { line, at } of rows) {
      lines.push(line)
      length += line.length
      lastAt = at
      if (length >= OBJECT_BYTES) await close()
    }
    await close()
    return objects
  }

  async #put({ section, name, retainUntil }: Section, lines: readonly string[], lastAt: number | null) {
    const { store, folder, onObject, save } = this.#deps
    await onObject()
    const body = await zip(lines.map((line) => `${line}\n`).join(''))
    const number = ++this.#number
    const key = `${folder}${String(number).padStart(6, '0')}-${name}.ndjson.gz`
    const object: ArchiveObject = {
      key,
      version: await store.put(key, body, retainUntil),
      sha256: sha256(body),
      bytes: body.length,
      rows: lines.length,
      retain_until: retainUntil.toISOString(),
    }
    this.#used.push(object)
    if (lastAt !== null) await save({ number, section, lastAt, object })
    return object
  }

  /** @throws SignetError ARCHIVE_INVALID where the store has something else, or has it unlocked */
  async readBack(): Promise<void> {
    const { store, onObject } = this.#deps
    for (const object of this.#used) {
      await onObject()
      const { key, bytes: maxBytes, version } = object
      const bytes = await store.get(key, { maxBytes, ...(version === undefined ? {} : { versionId: version }) })
      if (sha256(bytes) !== object.sha256)
        throw new SignetError('ARCHIVE_INVALID', `${key} is not what was written to it`)
      await requireLocked(store, key, new Date(object.retain_until), version)
    }
  }
}

/** @throws SignetError ARCHIVE_INVALID unless the version (undefined: of an archive that does not say it, the newest) is locked in compliance mode for that long */
export async function requireLocked(
  store: ObjectStore,
  key: string,
  until: Date,
  versionId: string | undefined,
): Promise<void> {
  const locked = await store.lockedUntil(key, versionId)
  if (locked !== null && locked.getTime() >= until.getTime()) return
  throw new SignetError(
    'ARCHIVE_INVALID',
    `${key} is ${locked === null ? 'not locked' : `locked until ${locked.toISOString()}`}, it has to be until ${until.toISOString()}`,
  )
}

export function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
