import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { SignetError } from '#core/error/signet-error.ts'
import { checkValidity, loadBundle, MAX_BUNDLE_BYTES, type VerifiedBundle } from './load.ts'
import type { TrustRoot } from './trust.ts'

export interface WatchBundleOptions {
  /** A file path, `file:` URL, or `http(s):` URL. */
  source: string
  intervalMs: number
  /** For one fetch of an http source; default 10 s. */
  fetchTimeoutMs?: number
  trust: TrustRoot
  /** The watcher's own scope, as for `loadBundle`. */
  scope: string
  /** Lowest sequence accepted at first; later, that in force. */
  minimumSequence?: number
  /** Takes a new bundle into force. When it throws, the bundle counts as bad and what was in force stays. */
  onBundle: (bundle: VerifiedBundle) => void | Promise<void>
  /** Told at each poll that fails, also when the bundle in force has expired. Must not throw. */
  onError: (error: SignetError) => void
  signal: AbortSignal
  /** Default: the system's clock. */
  now?: () => Date
}

interface Fetched {
  bytes: Buffer
  /** Says whether the source may have changed: ETag, or the file's identity, size and times. */
  version: string | null
}

/**
 * Loads the bundle now and whenever the source changes, until `signal` aborts; resolves then. Never rejects: on any error the
 * bundle in force stays, `onError` is told, and the next poll tries again.
 */
export async function watchBundle(options: WatchBundleOptions): Promise<void> {
  const { intervalMs, signal, onBundle, onError } = options
  const now = options.now ?? (() => new Date())
  const isRemote = /^https?:/.test(options.source)
  let current: VerifiedBundle | undefined
  /** Of the bytes that are in force; null makes the next poll read them again. */
  let version: string | null = null

  const poll = async (): Promise<void> => {
    const fetched = await (isRemote ? fetchRemote(options, version) : readLocal(options.source, version))
    if (fetched === null) {
      if (current !== undefined) checkValidity(current.metadata, now())
      return
    }
    version = null
    const minimumSequence = Math.max(options.minimumSequence ?? 0, current?.metadata.sequence ?? 0)
    const bundle = await loadBundle(fetched.bytes, {
      trust: options.trust,
      scope: options.scope,
      now: now(),
      minimumSequence,
    })
    if (
      current !== undefined &&
      bundle.metadata.sequence === current.metadata.sequence &&
      bundle.digest !== current.digest
    ) {
      throw new SignetError(
        'BUNDLE_STALE',
        `The bundle has other content but the sequence in force, ${minimumSequence}`,
        {
          details: { in_force: current.revision, found: bundle.revision },
        },
      )
    }
    // Signed again, with other times but the same content and sequence, it is taken over like a new one.
    await onBundle(bundle)
    current = bundle
    version = fetched.version
  }

  while (!signal.aborted) {
    try {
      await poll()
    } catch (error) {
      if (!signal.aborted) onError(toSignetError(error, options.source))
    }
    await sleep(intervalMs, undefined, { signal }).catch(() => {})
  }
}

async function fetchRemote(options: WatchBundleOptions, etag: string | null): Promise<Fetched | null> {
  const response = await fetch(options.source, {
    headers: { Accept: 'application/gzip', ...(etag !== null && { 'If-None-Match': etag }) },
    redirect: 'error',
    signal: AbortSignal.any([options.signal, AbortSignal.timeout(options.fetchTimeoutMs ?? 10_000)]),
  })
  if (response.status === 304 && etag !== null) return null
  if (response.status !== 200 || response.body === null) {
    await response.body?.cancel()
    throw new SignetError('BUNDLE_UNAVAILABLE', `The bundle server answered ${response.status}`)
  }
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body) {
    length += chunk.length
    // Leaving the loop ends the download.
    if (length > MAX_BUNDLE_BYTES)
      throw new SignetError('BUNDLE_INVALID', `The bundle is larger than ${MAX_BUNDLE_BYTES} bytes`)
    chunks.push(chunk)
  }
  return { bytes: Buffer.concat(chunks), version: response.headers.get('etag') }
}

async function readLocal(source: string, version: string | null): Promise<Fetched | null> {
  const file = await open(source.startsWith('file:') ? fileURLToPath(source) : source)
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await file.stat({ bigint: true })
    const found = [dev, ino, size, mtimeNs, ctimeNs].join(':')
    if (found === version) return null
    if (size > MAX_BUNDLE_BYTES)
      throw new SignetError('BUNDLE_INVALID', `The bundle is larger than ${MAX_BUNDLE_BYTES} bytes`)
    return { bytes: await file.readFile(), version: found }
  } finally {
    await file.close()
  }
}

function toSignetError(error: unknown, source: string): SignetError {
  if (error instanceof SignetError) return error
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new SignetError(
    'BUNDLE_UNAVAILABLE',
    `The bundle at ${withoutCredentials(source)} cannot be loaded: ${reason}`,
    {
      cause: error,
    },
  )
}

function withoutCredentials(source: string): string {
  if (!URL.canParse(source)) return source
  const url = new URL(source)
  url.username = ''
  url.password = ''
  url.search = ''
  return url.href
}
