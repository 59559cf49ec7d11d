import type { Readable } from 'node:stream'
import {
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { SignetError } from '#core/error/signet-error.ts'

export type ObjectStoreOptions = {
  readonly bucket: string
  readonly region: string
  /** Of an S3 that is not Amazon's; path-style addresses then. */
  readonly endpoint?: string
  /** Comes before every key; empty, or ends with a slash. */
  readonly prefix: string
  /** As the AWS SDK finds them (AWS_ACCESS_KEY_ID …, a profile, a web identity) unless given. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string }
  /** After which a call is given up, its retries and its body included. */
  readonly timeoutMs?: number
}

export type ListedVersion = { readonly key: string; readonly versionId: string }

/** A bucket with object lock. Keys are without the prefix. All throw SignetError ARCHIVE_UNAVAILABLE where the store refuses, is away, or takes too long. */
export type ObjectStore = {
  /** @throws SignetError ARCHIVE_UNAVAILABLE also for a bucket without object lock */
  requireLock(): Promise<void>
  /**
   * Writes once, locked in compliance mode, and gives the version: that of an equal object which is there and locked for as long, else a
   * new one.
   */
  put(key: string, body: Buffer, retainUntil: Date): Promise<string>
  /** Every version of what was put under a key, the oldest first: a later one, or a delete marker, hides nothing. */
  versions(key: string): Promise<readonly string[]>
  /** @throws SignetError ARCHIVE_INVALID where there is none, or it is larger than `maxBytes` */
  get(key: string, options: { maxBytes: number; versionId?: string }): Promise<Buffer>
  /** Until when a version (else the newest) is locked in compliance mode; null where it is not. @throws SignetError ARCHIVE_INVALID where there is none */
  lockedUntil(key: string, versionId?: string): Promise<Date | null>
  /** Locks a version (else the newest) for longer. */
  extendLock(key: string, versionId: string | undefined, until: Date): Promise<void>
  /** Keys that begin with `prefix`, in order, deleted ones too. */
  list(prefix: string): Promise<readonly string[]>
  /**
   * Versions of keys that begin with `prefix` and come after `after`, in the order of keys, `limit` (1 to 1000) at most; `more`: there are
   * others. What `after` names must be no key.
   */
  listAfter(prefix: string, after: string, limit: number): Promise<{ found: readonly ListedVersion[]; more: boolean }>
  close(): void
}

const TIMEOUT_MS = 60_000
const MAX_ATTEMPTS = 3
/** Versions that one key may have: nobody but who floods the bucket makes so many. */
const MAX_VERSIONS = 1_000
/** Pages of nothing but delete markers, for the same reason. */
const MAX_EMPTY_PAGES = 50
const PAGE = 1_000
/** Stores that begin a page with the last version of the one before do not come on with pages of one. */
const MIN_PAGE = 100

type Limit = { readonly abortSignal: AbortSignal }
type Page = { readonly found: ListedVersion[]; readonly times: number[]; readonly next: Marker | null }
type Marker = { KeyMarker?: string; VersionIdMarker?: string }

export function openObjectStore(options: ObjectStoreOptions): ObjectStore {
  const { bucket: Bucket, prefix, timeoutMs = TIMEOUT_MS } = options
  const s3 = new S3Client({
    region: options.region,
    maxAttempts: MAX_ATTEMPTS,
    // What comes is compared with a digest or a signature of our own; the SDK's wrapper would keep a body that is given up from being closed.
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint, forcePathStyle: true }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  })
  let conditional = true

  async function readPage(start: string, marker: Marker, limit: number): Promise<Page> {
    const page = await withLimit(timeoutMs, (signal) =>
      s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: prefix + start, MaxKeys: limit, ...marker }), signal),
    )
    const found: ListedVersion[] = []
    const times: number[] = []
    for (const { Key, VersionId, LastModified } of page.Versions ?? []) {
      if (Key === undefined || VersionId === undefined || !Key.startsWith(prefix)) continue
      found.push({ key: Key.slice(prefix.length), versionId: VersionId })
      times.push(LastModified?.getTime() ?? 0)
    }
    if (page.IsTruncated !== true) return { found, times, next: null }
    const { NextKeyMarker: KeyMarker, NextVersionIdMarker: VersionIdMarker } = page
    if (!KeyMarker)
      throw new SignetError('ARCHIVE_UNAVAILABLE', `listing ${start}: the store does not say where its list goes on`)
    if (KeyMarker === marker.KeyMarker && VersionIdMarker === marker.VersionIdMarker)
      throw new SignetError('ARCHIVE_UNAVAILABLE', `listing ${start}: the store gives the same page again and again`)
    return { found, times, next: { KeyMarker, ...(VersionIdMarker ? { VersionIdMarker } : {}) } }
  }

  async function write(key: string, body: Buffer, retainUntil: Date, once: boolean): Promise<string> {
    const { VersionId } = await withLimit(timeoutMs, (signal) =>
      s3.send(
        new PutObjectCommand({
          Bucket,
          Key: prefix + key,
          Body: body,
          ChecksumAlgorithm: 'SHA256',
          ObjectLockMode: 'COMPLIANCE',
          ObjectLockRetainUntilDate: retainUntil,
          ...(once ? { IfNoneMatch: '*' } : {}),
        }),
        signal,
      ),
    )
    if (!VersionId)
      throw new SignetError('ARCHIVE_UNAVAILABLE', `writing ${key}: the store does not say which version it wrote`)
    return VersionId
  }

  /** The version that is equal and locked for as long: of an attempt whose answer was lost. */
  async function findEqual(key: string, body: Buffer, retainUntil: Date): Promise<string | null> {
    for (const versionId of await store.versions(key)) {
      const there = await orNull(store.get(key, { maxBytes: body.length, versionId }))
      if (there?.equals(body) !== true) continue
      const until = await orNull(store.lockedUntil(key, versionId))
      if (until !== null && until >= retainUntil) return versionId
    }
    return null
  }

  const store: ObjectStore = {
    requireLock: () =>
      guarded(`the bucket ${Bucket}`, async () => {
        const { ObjectLockConfiguration: lock } = await withLimit(timeoutMs, (signal) =>
          s3.send(new GetObjectLockConfigurationCommand({ Bucket }), signal),
        )
        if (lock?.ObjectLockEnabled !== 'Enabled')
          throw new SignetError(
            'ARCHIVE_UNAVAILABLE',
            `the bucket ${Bucket} has no object lock: nothing is archived to it`,
          )
      }),
    put: (key, body, retainUntil) =>
      guarded(`writing ${key}`, async () => {
        if (!conditional) return write(key, body, retainUntil, false)
        try {
          return await write(key, body, retainUntil, true)
        } catch (error) {
          const name = error instanceof Error ? error.name : ''
          // 501: the store does not know the condition. A key that somebody took before must not keep ours from being written.
          if (name === 'NotImplemented') conditional = false
          else if (name !== 'PreconditionFailed' && name !== 'ConditionalRequestConflict') throw error
          return (await findEqual(key, body, retainUntil)) ?? (await write(key, body, retainUntil, false))
        }
      }),
    versions: (key) =>
      guarded(`listing ${key}`, async () => {
        const all = new Map<string, number>()
        for (let marker: Marker | null = {}; marker !== null;) {
          const { found, times, next }: Page = await readPage(key, marker, PAGE)
          for (const [index, version] of found.entries()) {
            if (version.key === key) all.set(version.versionId, times[index] ?? 0)
          }
          if (all.size > MAX_VERSIONS)
            throw new SignetError('ARCHIVE_UNAVAILABLE', `listing ${key}: it has more than ${MAX_VERSIONS} versions`)
          // Keys come in order: those that only begin with this one come after it.
          if (found.some((version) => version.key !== key)) break
          marker = next
        }
        // Versions come with the newest first; the sort keeps the order of what has the same second.
        return [...all]
          .toReversed()
          .toSorted(([, a], [, b]) => a - b)
          .map(([versionId]) => versionId)
      }),
    get: (key, { maxBytes, versionId }) =>
      guarded(`reading ${key}`, () =>
        withLimit(timeoutMs, async (signal) => {
          const command = new GetObjectCommand({ Bucket, Key: prefix + key, ...versionOf(versionId) })
          const { Body, ContentLength } = await s3.send(command, signal)
          return readBody(Body as Readable, { key, maxBytes, length: ContentLength, signal: signal.abortSignal })
        }),
      ),
    lockedUntil: (key, versionId) =>
      guarded(`the lock of ${key}`, async () => {
        const head = await withLimit(timeoutMs, (signal) =>
          s3.send(new HeadObjectCommand({ Bucket, Key: prefix + key, ...versionOf(versionId) }), signal),
        )
        return head.ObjectLockMode === 'COMPLIANCE' ? (head.ObjectLockRetainUntilDate ?? null) : null
      }),
    extendLock: (key, versionId, until) =>
      guarded(`the lock of ${key}`, async () => {
        const Retention = { Mode: 'COMPLIANCE', RetainUntilDate: until } as const
        await withLimit(timeoutMs, (signal) =>
          s3.send(
            new PutObjectRetentionCommand({ Bucket, Key: prefix + key, ...versionOf(versionId), Retention }),
            signal,
          ),
        )
      }),
    list: (start) =>
      guarded(`listing ${start}`, async () => {
        const keys = new Set<string>()
        for (let marker: Marker | null = {}; marker !== null;) {
          const { found, next }: Page = await readPage(start, marker, PAGE)
          for (const { key } of found) keys.add(key)
          marker = next
        }
        return [...keys].toSorted()
      }),
    listAfter: (start, after, limit) =>
      guarded(`listing ${start}`, async () => {
        let marker: Marker = after === '' ? {} : { KeyMarker: prefix + after }
        for (let pages = 0; pages < MAX_EMPTY_PAGES; pages++) {
          const { found, next } = await readPage(start, marker, Math.max(limit, MIN_PAGE))
          if (found.length > 0 || next === null)
            return { found: found.slice(0, limit), more: next !== null || found.length > limit }
          marker = next
        }
        throw new SignetError('ARCHIVE_UNAVAILABLE', `listing ${start}: it is full of delete markers`)
      }),
    close: () => s3.destroy(),
  }
  return store
}

function versionOf(versionId: string | undefined): { VersionId?: string } {
  return versionId === undefined ? {} : { VersionId: versionId }
}

/** The wait for credentials heeds no signal, so that the time is kept here as well. */
async function withLimit<T>(ms: number, work: (limit: Limit) => Promise<T>): Promise<T> {
  const stopping = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const tooLong = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const reason = new Error(`no answer within ${ms} ms`)
      stopping.abort(reason)
      reject(reason)
    }, ms)
  })
  try {
    return await Promise.race([work({ abortSignal: stopping.signal }), tooLong])
  } finally {
    clearTimeout(timer)
  }
}

type Reading = {
  readonly key: string
  readonly maxBytes: number
  readonly length: number | undefined
  readonly signal: AbortSignal
}

/** A body that is not read to its end is closed: its connection would stay taken. */
async function readBody(body: Readable, { key, maxBytes, length, signal }: Reading): Promise<Buffer> {
  const stop = (): void => void body.destroy(signal.reason as Error)
  signal.addEventListener('abort', stop, { once: true })
  const tooLarge = (bytes: number): SignetError =>
    new SignetError('ARCHIVE_INVALID', `${key} has ${bytes} bytes or more, it may have ${maxBytes}`)
  try {
    if (length !== undefined && length > maxBytes) throw tooLarge(length)
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length
      if (bytes > maxBytes) throw tooLarge(bytes)
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } finally {
    signal.removeEventListener('abort', stop)
    body.destroy()
  }
}

/** What is not there, or not as it has to be, is null; other errors go on. */
export async function orNull<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work
  } catch (error) {
    if (error instanceof SignetError && error.code === 'ARCHIVE_INVALID') return null
    throw error
  }
}

/** The one place where errors of the SDK are told apart: what is missing is a fault of the archive, all else is the store's. */
async function guarded<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (cause instanceof SignetError) throw cause
    const { name, message } = cause instanceof Error ? cause : { name: 'Error', message: String(cause) }
    if (['NoSuchKey', 'NotFound', 'NoSuchVersion', 'MethodNotAllowed'].includes(name))
      throw new SignetError('ARCHIVE_INVALID', `${what}: it is not in the store`, { cause })
    const plain = name === 'ObjectLockConfigurationNotFoundError' ? 'it has no object lock' : `${name}: ${message}`
    throw new SignetError('ARCHIVE_UNAVAILABLE', `${what}: ${plain.slice(0, 300)}`, { cause })
  }
}
