import { promisify } from 'node:util'
import { gunzip, gzip } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'
import { sha256Hex } from '#engine/bundle/canonical.ts'
import { objectLabels, type NewObject, type ObjectStore, type StoredObject } from './objects.ts'

/** A ConfigMap holds 1 MiB; what is around the content needs some of it. */
const MAX_CHUNK_BYTES = 900 * 1024
const MAX_BLOB_BYTES = 64 << 20
const MAX_CHUNKS = 64
const CHUNKS = 'signet.dev/blob-chunks'
/** When a writer last counted on this blob; collecting garbage leaves young ones alone. */
const USED_AT = 'signet.dev/used-at'
const CONTENT = 'content'

const compress = promisify(gzip)
const decompress = promisify(gunzip)

/** Bytes under their SHA-256, compressed, in as many immutable ConfigMaps as they need. */
export type Blobs = {
  /** Makes sure that they are stored; resolves to their SHA-256 (hex) and their size as stored. */
  put(bytes: Buffer): Promise<{ readonly sha256: string; readonly packedBytes: number }>
  /** Throws BUNDLE_UNAVAILABLE when a part is missing, BUNDLE_INVALID when the bytes are others. */
  get(sha256: string): Promise<Buffer>
  /** Of these, those that are not stored whole any more, or as somebody else's objects: to be put again. */
  damaged(used: Iterable<string>): Promise<ReadonlySet<string>>
  /** Removes those that are not in `used` and that no writer has counted on within the grace; resolves to their number. */
  collect(used: ReadonlySet<string>): Promise<number>
}

export function createBlobs(objects: ObjectStore, options: { now: () => Date; graceMs: number }): Blobs {
  const { now, graceMs } = options
  /** When we last saw it whole; within half the grace it is not asked for again. */
  const seen = new Map<string, { atMs: number; packedBytes: number }>()
  /** By chunk: the object whose bytes we wrote or found right. They cannot be changed in it, only another can take its place. */
  const right = new Map<string, string>()
  const chunkName = (sha256: string, index: number): string => `signet-bundle-blob-${sha256}-${index}`

  function remember({ name, uid }: StoredObject): void {
    if (right.size >= 20_000) right.clear()
    right.set(name, uid)
  }

  async function putChunk(object: NewObject): Promise<void> {
    for (let attempt = 0; attempt < 5; attempt++) {
      const found = await objects.read(object.name)
      if (found === null) {
        const made = await objects.create(object)
        if (made !== null) return remember(made)
        continue
      }
      const isRight = found.binaryData[CONTENT]?.equals(object.binaryData[CONTENT]!) === true
      if (!isRight) {
        await objects.remove(found)
        continue
      }
      // So that a collection that has already looked lets it be: its removal names the version that it saw.
      const replaced = await objects.replace(found, { ...object, immutable: true })
      if (replaced !== null) return remember(replaced)
    }
    throw new SignetError('BUNDLE_UNAVAILABLE', `ConfigMap ${object.name} cannot be written: it changes all the time`)
  }

  async function readChunk(sha256: string, index: number): Promise<StoredObject> {
    const found = await objects.read(chunkName(sha256, index))
    if (found === null) throw new SignetError('BUNDLE_UNAVAILABLE', `ConfigMap ${chunkName(sha256, index)} is missing`)
    return found
  }

  return {
    async put(bytes) {
      const sha256 = sha256Hex(bytes)
      const nowMs = now().getTime()
      const before = seen.get(sha256)
      if (before !== undefined && nowMs - before.atMs < graceMs / 2) return { sha256, packedBytes: before.packedBytes }
      const packed = await compress(bytes, { level: 9 })
      packed[9] = 255
      const chunks = Math.ceil(packed.length / MAX_CHUNK_BYTES)
      // From the last to the first: whoever finds the first one finds them all.
      for (let index = chunks - 1; index >= 0; index--) {
        await putChunk({
          name: chunkName(sha256, index),
          labels: objectLabels('blob'),
          annotations: { [CHUNKS]: String(chunks), [USED_AT]: now().toISOString() },
          data: {},
          binaryData: { [CONTENT]: packed.subarray(index * MAX_CHUNK_BYTES, (index + 1) * MAX_CHUNK_BYTES) },
          immutable: true,
        })
      }
      if (seen.size >= 10_000) seen.clear()
      seen.set(sha256, { atMs: nowMs, packedBytes: packed.length })
      return { sha256, packedBytes: packed.length }
    },

    async get(sha256) {
      const first = await readChunk(sha256, 0)
      const chunks = Number(first.annotations[CHUNKS])
      if (!Number.isInteger(chunks) || chunks < 1 || chunks > MAX_CHUNKS) throw changed(sha256)
      const rest = await Promise.all(Array.from({ length: chunks - 1 }, (_, index) => readChunk(sha256, index + 1)))
      const packed = Buffer.concat([first, ...rest].map((object) => object.binaryData[CONTENT] ?? Buffer.alloc(0)))
      const bytes = await decompress(packed, { maxOutputLength: MAX_BLOB_BYTES }).catch((cause: unknown) => {
        throw changed(sha256, cause)
      })
      if (sha256Hex(bytes) !== sha256) throw changed(sha256)
      return bytes
    },

    async damaged(used) {
      const heads = new Map((await objects.listHeads(objectLabels('blob'))).map((head) => [head.name, head]))
      const isRight = (name: string): boolean => {
        const uid = heads.get(name)?.uid
        return uid !== undefined && (right.get(name) ?? uid) === uid
      }
      const found = new Set<string>()
      for (const sha256 of used) {
        const chunks = Number(heads.get(chunkName(sha256, 0))?.annotations[CHUNKS])
        const names =
          chunks >= 1 && chunks <= MAX_CHUNKS ? Array.from({ length: chunks }, (_, i) => chunkName(sha256, i)) : []
        if (names.length > 0 && names.every(isRight)) continue
        seen.delete(sha256)
        found.add(sha256)
      }
      return found
    },

    async collect(used) {
      let removed = 0
      for (const object of await objects.listHeads(objectLabels('blob'))) {
        const sha256 = /^signet-bundle-blob-([0-9a-f]{64})-\d+$/.exec(object.name)?.[1]
        if (sha256 !== undefined && used.has(sha256)) continue
        const usedAtMs = Date.parse(object.annotations[USED_AT] ?? '')
        const lastMs = Math.max(object.createdAt.getTime(), Number.isNaN(usedAtMs) ? 0 : usedAtMs)
        if (now().getTime() - lastMs < graceMs) continue
        if (sha256 !== undefined) seen.delete(sha256)
        if (await objects.remove(object)) removed++
      }
      return removed
    },
  }
}

function changed(sha256: string, cause?: unknown): SignetError {
  return new SignetError('BUNDLE_INVALID', `The stored blob ${sha256} does not hold these bytes any more`, { cause })
}
