import {
  GetObjectCommand,
  GetObjectLockConfigurationCommand,
  HeadObjectCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
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
}

/** A bucket with object lock. Keys are without the prefix. All throw SignetError ARCHIVE_UNAVAILABLE where the store refuses or is away. */
export type ObjectStore = {
  /** @throws SignetError ARCHIVE_UNAVAILABLE also for a bucket without object lock */
  requireLock(): Promise<void>
  /** Writes once, locked in compliance mode. */
  put(key: string, body: Buffer, retainUntil: Date): Promise<void>
  /** Every version of what was put under a key, the oldest first: a later one, or a delete marker, hides nothing. */
  versions(key: string): Promise<readonly string[]>
  /** @throws SignetError ARCHIVE_INVALID where there is none, or it is larger than `maxBytes` */
  get(key: string, options: { maxBytes: number; versionId?: string }): Promise<Buffer>
  /** Until when the newest version is locked in compliance mode; null where it is not. */
  lockedUntil(key: string): Promise<Date | null>
  /** Keys that begin with `prefix`, in order, deleted ones too. */
  list(prefix: string): Promise<readonly string[]>
  close(): void
}

const REQUEST_TIMEOUT_MS = 60_000
const MAX_ATTEMPTS = 3

export function openObjectStore(options: ObjectStoreOptions): ObjectStore {
  const { bucket: Bucket, prefix } = options
  const s3 = new S3Client({
    region: options.region,
    maxAttempts: MAX_ATTEMPTS,
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint, forcePathStyle: true }),
    ...(options.credentials === undefined ? {} : { credentials: options.credentials }),
  })
  const signal = (): { abortSignal: AbortSignal } => ({ abortSignal: AbortSignal.timeout(REQUEST_TIMEOUT_MS) })

  async function* allVersions(start: string): AsyncGenerator<{ key: string; versionId: string; at: number }> {
    let marker: { KeyMarker?: string; VersionIdMarker?: string } = {}
    for (;;) {
      const page = await s3.send(new ListObjectVersionsCommand({ Bucket, Prefix: prefix + start, ...marker }), signal())
      for (const { Key, VersionId, LastModified } of page.Versions ?? []) {
        if (Key !== undefined && VersionId !== undefined)
          yield { key: Key.slice(prefix.length), versionId: VersionId, at: LastModified?.getTime() ?? 0 }
      }
      if (page.IsTruncated !== true || page.NextKeyMarker === undefined) return
      marker = {
        KeyMarker: page.NextKeyMarker,
        ...(page.NextVersionIdMarker === undefined ? {} : { VersionIdMarker: page.NextVersionIdMarker }),
      }
    }
  }

  return {
    requireLock: () =>
      guarded(`the bucket ${Bucket}`, async () => {
        const { ObjectLockConfiguration: lock } = await s3.send(
          new GetObjectLockConfigurationCommand({ Bucket }),
          signal(),
        )
        if (lock?.ObjectLockEnabled !== 'Enabled')
          throw new SignetError(
            'ARCHIVE_UNAVAILABLE',
            `the bucket ${Bucket} has no object lock: nothing is archived to it`,
          )
      }),
    put: (key, body, retainUntil) =>
      guarded(`writing ${key}`, async () => {
        await s3.send(
          new PutObjectCommand({
            Bucket,
            Key: prefix + key,
            Body: body,
            ChecksumAlgorithm: 'SHA256',
            ObjectLockMode: 'COMPLIANCE',
            ObjectLockRetainUntilDate: retainUntil,
          }),
          signal(),
        )
      }),
    versions: (key) =>
      guarded(`listing ${key}`, async () => {
        const found = []
        for await (const version of allVersions(key)) if (version.key === key) found.push(version)
        return found.toSorted((a, b) => a.at - b.at).map(({ versionId }) => versionId)
      }),
    get: (key, { maxBytes, versionId }) =>
      guarded(`reading ${key}`, async () => {
        const found = await s3.send(
          new GetObjectCommand({
            Bucket,
            Key: prefix + key,
            ...(versionId === undefined ? {} : { VersionId: versionId }),
          }),
          signal(),
        )
        const length = found.ContentLength ?? Infinity
        if (length > maxBytes)
          throw new SignetError(
            'ARCHIVE_INVALID',
            `${key} has ${length} bytes, more than the ${maxBytes} that it may have`,
          )
        return Buffer.from((await found.Body?.transformToByteArray()) ?? [])
      }),
    lockedUntil: (key) =>
      guarded(`the lock of ${key}`, async () => {
        const head = await s3.send(new HeadObjectCommand({ Bucket, Key: prefix + key }), signal())
        return head.ObjectLockMode === 'COMPLIANCE' ? (head.ObjectLockRetainUntilDate ?? null) : null
      }),
    list: (start) =>
      guarded(`listing ${start}`, async () => {
        const keys = new Set<string>()
        for await (const { key } of allVersions(start)) keys.add(key)
        return [...keys].toSorted()
      }),
    close: () => s3.destroy(),
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
