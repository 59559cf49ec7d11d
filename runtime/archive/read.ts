import { createHash, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { readArchiveManifest, type ArchiveManifest, type ArchiveObject } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { claimedOrigin, logVerifier, openLogCheckpoint } from '#core/tree/log-key.ts'
import type { TreeHead } from '#core/tree/checkpoint.ts'
import { orNull, type ObjectStore } from './object-store.ts'

/** Objects are cut at 8 MiB of rows; a single row may be larger. */
export const MAX_OBJECT_BYTES = 64 * 1024 * 1024
export const MAX_MANIFEST_BYTES = 256 * 1024 * 1024
const unzip = promisify(gunzip)

export type Row = Readonly<Record<string, unknown>>

/** The rows of an object, compared with what the manifest says of it. @throws SignetError ARCHIVE_INVALID */
export async function readRows(store: ObjectStore, object: ArchiveObject): Promise<Row[]> {
  const bytes = await fetchObject(store, object)
  const text = (await unzip(bytes, { maxOutputLength: MAX_OBJECT_BYTES * 8 })).toString('utf8')
  const lines = text.split('\n').filter((line) => line !== '')
  if (lines.length !== object.rows)
    throw new SignetError('ARCHIVE_INVALID', `${object.key} has ${lines.length} rows, the manifest says ${object.rows}`)
  return lines.map((line) => JSON.parse(line) as Row)
}

/**
 * The version of an object that was archived, by its name; by its digest where a copy of the archive names versions otherwise. What came later
 * under its key hides nothing. @throws SignetError ARCHIVE_INVALID
 */
export async function fetchObject(store: ObjectStore, object: ArchiveObject): Promise<Buffer> {
  const maxBytes = Math.min(object.bytes, MAX_OBJECT_BYTES)
  const { key, version } = object
  const named = await orNull(store.get(key, { maxBytes, ...(version === undefined ? {} : { versionId: version }) }))
  if (named !== null && isObject(named, object)) return named
  let found = named !== null
  for (const versionId of await store.versions(key)) {
    found = true
    const bytes = await orNull(store.get(key, { maxBytes, versionId }))
    if (bytes !== null && isObject(bytes, object)) return bytes
  }
  throw new SignetError(
    'ARCHIVE_INVALID',
    found ? `${key} is not what the manifest names: it was changed` : `${key} is missing`,
  )
}

function isObject(bytes: Buffer, { bytes: length, sha256 }: ArchiveObject): boolean {
  return bytes.length === length && `sha256:${createHash('sha256').update(bytes).digest('hex')}` === sha256
}

export type FoundManifest = { readonly key: string; readonly bytes: Buffer; readonly manifest: ArchiveManifest }

/** Keys of the manifests, the oldest first. */
export async function listManifests(store: ObjectStore): Promise<string[]> {
  return (await store.list('snapshots/')).filter((key) => key.endsWith('/manifest.json'))
}

/** The first version under the key that one of the keys signed. @throws SignetError ARCHIVE_INVALID */
export async function readManifest(
  store: ObjectStore,
  key: string,
  publicKeys: readonly KeyObject[],
): Promise<FoundManifest> {
  let fault: unknown = new SignetError('ARCHIVE_INVALID', `${key} is not in the store`)
  for (const versionId of await store.versions(key)) {
    try {
      const bytes = await store.get(key, { maxBytes: MAX_MANIFEST_BYTES, versionId })
      return { key, bytes, manifest: readArchiveManifest(bytes, publicKeys) }
    } catch (error) {
      if (!(error instanceof SignetError) || error.code !== 'ARCHIVE_INVALID') throw error
      fault = error
    }
  }
  throw fault
}

/** @throws SignetError NOTE_INVALID, NOTE_UNTRUSTED */
export function openArchivedCheckpoint(note: string, publicKeys: readonly KeyObject[]): TreeHead {
  const origin = claimedOrigin(note)
  return openLogCheckpoint(
    note,
    publicKeys.map((key) => logVerifier(origin, key)),
  )
}
