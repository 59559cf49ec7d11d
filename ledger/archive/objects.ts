import { createHash } from 'node:crypto'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import type { ArchiveObject } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { ObjectStore } from '#runtime/archive/object-store.ts'

/** Bytes of rows after which an object is closed. */
const OBJECT_BYTES = 8 * 1024 * 1024
const zip = promisify(gzip)

/** Writes rows as objects of a snapshot, and reads them back. Holds one object at a time in memory. */
export class ObjectWriter {
  readonly #store: ObjectStore
  readonly #folder: string
  readonly #onObject: () => Promise<void>
  readonly #written: ArchiveObject[] = []

  /** `folder`: ends with a slash. `onObject`: called before each object; what it throws ends the snapshot. */
  constructor(store: ObjectStore, folder: string, onObject: () => Promise<void>) {
    this.#store = store
    this.#folder = folder
    this.#onObject = onObject
  }

  get written(): readonly ArchiveObject[] {
    return this.#written
  }

  /** `lines`: rows as JSON, without line feeds. @throws SignetError ARCHIVE_UNAVAILABLE */
  async write(name: string, retainUntil: Date, lines: AsyncIterable<string>): Promise<ArchiveObject[]> {
    const objects: ArchiveObject[] = []
    let rows: string[] = []
    let length = 0
    const close = async (): Promise<void> => {
      if (rows.length === 0) return
      objects.push(await this.#put(name, retainUntil, rows))
      rows = []
      length = 0
    }
    for await (const line of lines) {
      rows.push(line)
      length += line.length
      if (length >= OBJECT_BYTES) await close()
    }
    await close()
    return objects
  }

  async #put(name: string, retainUntil: Date, rows: readonly string[]): Promise<ArchiveObject> {
    await this.#onObject()
    const body = await zip(rows.map((row) => `${row}\n`).join(''))
    const number = String(this.#written.length + 1).padStart(6, '0')
    const key = `${this.#folder}${number}-${name}.ndjson.gz`
    const object: ArchiveObject = {
      key,
      version: await this.#store.put(key, body, retainUntil),
      sha256: sha256(body),
      bytes: body.length,
      rows: rows.length,
      retain_until: retainUntil.toISOString(),
    }
    this.#written.push(object)
    return object
  }

  /** @throws SignetError ARCHIVE_INVALID where the store has something else, or has it unlocked */
  async readBack(objects: readonly ArchiveObject[] = this.#written): Promise<void> {
    for (const object of objects) {
      await this.#onObject()
      const bytes = await this.#store.get(object.key, { maxBytes: object.bytes, ...pinned(object) })
      if (sha256(bytes) !== object.sha256)
        throw new SignetError('ARCHIVE_INVALID', `${object.key} is not what was written to it`)
      await requireLocked(this.#store, object.key, new Date(object.retain_until), object.version)
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

function pinned({ version }: ArchiveObject): { versionId?: string } {
  return version === undefined ? {} : { versionId: version }
}

export function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`
}
