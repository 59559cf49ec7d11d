import { open } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { SignetError } from '#core/error/signet-error.ts'
import { createBundleClient, withoutCredentials, type BundleClient } from './client.ts'
import { LONG_POLL_TYPE } from './held-polls.ts'
import { checkValidity, loadBundle, MAX_BUNDLE_BYTES, type VerifiedBundle } from './load.ts'
import type { TrustRoot } from './trust.ts'
import { fixedTrust, type TrustSource } from './trust-source.ts'

export interface WatchBundleOptions {
  /** A file path, `file:` URL, or `http(s):` URL. */
  source: string
  /** Between two looks at a source that does not hold polls. */
  intervalMs: number
  /** Seconds that a bundle server is asked to hold a poll, 0 (the default) to 600: news then comes at once, by OPA's long polling. */
  waitSeconds?: number
  /** For one fetch of an http source, above what it may be held; default 10 s. */
  fetchTimeoutMs?: number
  /** Default: no token, the system's authorities. */
  client?: BundleClient
  trust: TrustRoot | TrustSource
  /** The watcher's own scope, as for `loadBundle`. */
  scope: string
  /** Lowest sequence accepted at first; later, that in force. */
  minimumSequence?: number
  /** Takes a new bundle into force. When it throws, the bundle counts as bad and what was in force stays. */
  onBundle: (bundle: VerifiedBundle) => void | Promise<void>
  /** Told at each poll that fails, also when the bundle in force has expired. Must not throw. */
  onError: (error: SignetError) => void
  /** Told at each poll after which what is in force is the latest there is. Must not throw. */
  onContact?: () => void
  signal: AbortSignal
  /** Default: the system's clock. */
  now?: () => Date
  /** Monotonic milliseconds; default `performance.now()`. */
  monotonicMs?: () => number
  random?: () => number
  /** Waits after failures of a server that holds polls: jittered, doubling; default 500 ms to 15 s. */
  backoffMs?: { first: number; longest: number }
}

interface Fetched {
  bytes: Buffer
  /** Says whether the source may have changed: ETag, or the file's identity, size and times. */
  version: string | null
}

/** By this type a server says that it holds polls (https://www.openpolicyagent.org/docs/management-bundles). */
/** Keys that were withdrawn are found out about this late at the latest, without any bundle that needs new ones. */
const TRUST_REFRESH_MS = 600_000
/** A server that answers at once although it was asked to wait is not asked more often. */
const MIN_POLL_MS = 1_000

/**
 * Loads the bundle now and whenever the source changes, until `signal` aborts; resolves then. Never rejects: on any error the
 * bundle in force stays, `onError` is told, and the next poll tries again.
 */
export async function watchBundle(options: WatchBundleOptions): Promise<void> {
  const { intervalMs, signal, onBundle, onError, waitSeconds = 0 } = options
  const now = options.now ?? (() => new Date())
  const monotonicMs = options.monotonicMs ?? (() => performance.now())
  const random = options.random ?? Math.random
  const backoff = options.backoffMs ?? { first: 500, longest: 15_000 }
  const trust = 'refresh' in options.trust ? options.trust : fixedTrust(options.trust)
  const isRemote = /^https?:/.test(options.source)
  const ownClient = options.client === undefined && isRemote ? createBundleClient() : undefined
  const client = options.client ?? ownClient
  let current: VerifiedBundle | undefined
  /** Of the bytes that are in force; null makes the next poll read them again. */
  let version: string | null = null
  let holdsPolls = false
  let trustReadMs = -Infinity
  let failures = 0

  const refreshTrust = async (): Promise<void> => {
    await trust.refresh(signal)
    trustReadMs = monotonicMs()
  }

  const load = async (bytes: Buffer, minimumSequence: number): Promise<VerifiedBundle> => {
    if (trust.current === null) await refreshTrust()
    const attempt = (): Promise<VerifiedBundle> =>
      loadBundle(bytes, { trust: trust.current!, scope: options.scope, now: now(), minimumSequence })
    try {
      return await attempt()
    } catch (error) {
      if (!(error instanceof SignetError) || error.details?.['unknown_key'] === undefined) throw error
      // A new key may have been introduced since; if not, the answer is the same.
      const before = trust.current
      await refreshTrust()
      if (trust.current === before) throw error
      return attempt()
    }
  }

  const poll = async (): Promise<void> => {
    const fetched = await (client === undefined ? readLocal(options.source, version) : fetchFrom(client))
    if (fetched === null) {
      if (current !== undefined) checkValidity(current.metadata, now())
      return
    }
    version = null
    const minimumSequence = Math.max(options.minimumSequence ?? 0, current?.metadata.sequence ?? 0)
    const bundle = await load(fetched.bytes, minimumSequence)
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

  const fetchFrom = async (from: BundleClient): Promise<Fetched | null> => {
    // Also when there is nothing to compare with: the first bundle may be on its way.
    const wait = waitSeconds > 0 ? `;wait=${waitSeconds}` : ''
    const answer = await from.call({
      url: options.source,
      headers: {
        accept: `${LONG_POLL_TYPE}, application/gzip`,
        prefer: `modes=snapshot${wait}`,
        ...(version === null ? {} : { 'if-none-match': version }),
      },
      timeoutMs: (options.fetchTimeoutMs ?? 10_000) + waitSeconds * 1000,
      maxBytes: MAX_BUNDLE_BYTES,
      signal,
      authorised: true,
    })
    if (answer.status === 304 && version !== null) return null
    if (answer.status !== 200) {
      throw new SignetError('BUNDLE_UNAVAILABLE', `The bundle server answered ${answer.status}`)
    }
    holdsPolls = waitSeconds > 0 && answer.headers['content-type'] === LONG_POLL_TYPE
    const etag = answer.headers['etag']
    return { bytes: answer.body, version: typeof etag === 'string' ? etag : null }
  }

  /** How long after a poll the next one is due. */
  const pauseMs = (startedMs: number): number => {
    if (waitSeconds === 0 || client === undefined) return intervalMs
    if (failures > 0) {
      const bound = Math.min(backoff.longest, backoff.first * 2 ** Math.min(failures - 1, 20))
      return bound * (0.5 + random() / 2)
    }
    if (!holdsPolls) return intervalMs
    return Math.max(0, MIN_POLL_MS * random() - (monotonicMs() - startedMs))
  }

  while (!signal.aborted) {
    const startedMs = monotonicMs()
    try {
      await poll()
      failures = 0
      options.onContact?.()
      if (monotonicMs() - trustReadMs > TRUST_REFRESH_MS) {
        trustReadMs = monotonicMs()
        await trust.refresh(signal)
      }
    } catch (error) {
      failures += 1
      if (!signal.aborted) onError(toSignetError(error, options.source))
    }
    await sleep(pauseMs(startedMs), undefined, { signal }).catch(() => {})
  }
  await ownClient?.close()
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
