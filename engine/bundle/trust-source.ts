import { readFile } from 'node:fs/promises'
import { SignetError } from '#core/error/signet-error.ts'
import type { BundleClient } from './client.ts'
import { parseTrust, type TrustRoot } from './trust.ts'

/** The trust root, and where a newer one comes from. */
export interface TrustSource {
  /** What was read last; null before the first time. */
  readonly current: TrustRoot | null
  /** Reads it again, unless that was done a moment ago. Rejects with BUNDLE_UNAVAILABLE, CONFIG_INVALID; `current` then stays. */
  refresh(signal: AbortSignal): Promise<void>
}

export interface TrustTimes {
  /** Between two readings at least, whatever keys bundles claim; default 5 s. */
  minIntervalMs?: number
  /** Monotonic. */
  nowMs?: () => number
}

const MAX_TRUST_BYTES = 256 << 10
const TIMEOUT_MS = 10_000

/** Keys that do not change. */
export function fixedTrust(trust: TrustRoot): TrustSource {
  return { current: trust, refresh: async () => {} }
}

/** A JWKS file; `text` is what it holds now. Throws CONFIG_INVALID. */
export function fileTrust(path: string, text: string, times: TrustTimes = {}): TrustSource {
  return source(parseTrust(text), times, async () => {
    try {
      return parseTrust(await readFile(path, 'utf8'))
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      throw new SignetError('BUNDLE_UNAVAILABLE', `The trust root ${path} cannot be read`, { cause })
    }
  })
}

/** A JWKS behind https, by a client that pins the authority: who could answer in its place could sign rules. */
export function remoteTrust(url: string, client: BundleClient, times: TrustTimes = {}): TrustSource {
  return source(null, times, async (signal) => {
    const answer = await client.call({
      url,
      headers: { accept: 'application/jwk-set+json, application/json' },
      timeoutMs: TIMEOUT_MS,
      maxBytes: MAX_TRUST_BYTES,
      signal,
    })
    if (answer.status !== 200) {
      throw new SignetError('BUNDLE_UNAVAILABLE', `The server of the trust root answered ${answer.status}`)
    }
    return parseTrust(answer.body.toString('utf8'))
  })
}

function source(
  first: TrustRoot | null,
  { minIntervalMs = 5_000, nowMs = () => performance.now() }: TrustTimes,
  read: (signal: AbortSignal) => Promise<TrustRoot>,
): TrustSource {
  let current = first
  let readMs = -Infinity
  return {
    get current() {
      return current
    },
    async refresh(signal) {
      // The very first answer is wanted as soon as there is one; the caller's own backoff is the limit then.
      if (current !== null && nowMs() - readMs < minIntervalMs) return
      readMs = nowMs()
      current = await read(signal)
    },
  }
}
