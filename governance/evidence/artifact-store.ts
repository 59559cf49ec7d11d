import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadBucketCommand,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { SignetError } from '#core/error/signet-error.ts'

/** Where files of evidence are. All throw SignetError EVIDENCE_UNAVAILABLE where the store refuses, is away, or takes too long. */
export type ArtifactStore = {
  /** It answers, and the bucket is there. */
  check(): Promise<void>
  put(key: string, bytes: Buffer, mediaType: string): Promise<void>
  /** @throws SignetError EVIDENCE_ALTERED where there is nothing of this name, or it is not of this size */
  get(key: string, bytes: number): Promise<Buffer>
  /** Nothing where it is not there. In a bucket with versions the older ones stay until the bucket's own rules remove them. */
  remove(key: string): Promise<void>
  close(): void
}

export type ArtifactStoreOptions = {
  readonly bucket: string
  readonly region: string
  readonly endpoint: string | undefined
  /** Empty, or ends with a slash. */
  readonly prefix: string
  readonly timeoutMs: number
}

export function openArtifactStore({
  bucket: Bucket,
  region,
  endpoint,
  prefix,
  timeoutMs,
}: ArtifactStoreOptions): ArtifactStore {
  const s3 = new S3Client({
    region,
    maxAttempts: 2,
    // What comes is compared with the hash that is kept here: the store's own is of what it holds now.
    responseChecksumValidation: 'WHEN_REQUIRED',
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
  })

  async function guarded<T>(what: string, work: (limit: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    const abortSignal = AbortSignal.timeout(timeoutMs)
    // Looking for credentials heeds no signal: so the time is kept here as well.
    let timer: NodeJS.Timeout | undefined
    const tooLong = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
    })
    try {
      return await Promise.race([work({ abortSignal }), tooLong])
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      const name = cause instanceof Error ? cause.name : 'Error'
      if (name === 'NoSuchKey') throw new SignetError('EVIDENCE_ALTERED', `${what}: it is not in the store any more`)
      // Messages of the SDK may hold addresses and account names: they are for the log.
      throw new SignetError('EVIDENCE_UNAVAILABLE', `${what}: the store does not answer, or refuses`, { cause })
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    check: () =>
      guarded(`the bucket ${Bucket}`, async (limit) => {
        await s3.send(new HeadBucketCommand({ Bucket }), limit)
      }),
    put: (key, bytes, mediaType) =>
      guarded('keeping the file', async (limit) => {
        await s3.send(
          new PutObjectCommand({
            Bucket,
            Key: prefix + key,
            Body: bytes,
            ContentType: mediaType,
            ChecksumAlgorithm: 'SHA256',
          }),
          limit,
        )
      }),
    get: (key, bytes) =>
      guarded('reading the file', async (limit) => {
        const found = await s3.send(new GetObjectCommand({ Bucket, Key: prefix + key }), limit)
        if (found.ContentLength !== bytes)
          throw new SignetError('EVIDENCE_ALTERED', 'the file in the store has not the size that it was kept with')
        return Buffer.from((await found.Body?.transformToByteArray()) ?? [])
      }),
    remove: (key) =>
      guarded('deleting a file', async (limit) => {
        await s3.send(new DeleteObjectCommand({ Bucket, Key: prefix + key }), limit)
      }),
    close: () => s3.destroy(),
  }
}
