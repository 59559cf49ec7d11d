import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import { bearerToken } from './bearer.ts'

/** Whom the API server says a token belongs to. `pod` is null for a token that is bound to no pod. */
export type ReviewedPod = {
  readonly namespace: string
  readonly serviceAccount: string
  readonly pod: { readonly name: string; readonly uid: string } | null
}

export type ServiceAccountOptions = {
  /**
   * Asks the API server about a token (TokenReview): null where it is not one, or not for that audience.
   * @throws SignetError where nobody can tell
   */
  readonly review: (token: string, audience: string) => Promise<ReviewedPod | null>
  readonly audience: string
  /** How long an answer holds, 0 to 60,000 ms: a pod that was deleted is believed for that long. Refusals hold for 1 s at most. */
  readonly cacheMs: number
  /** Milliseconds since the epoch. */
  readonly now: () => number
  /** Answers held at most, default 10,000. */
  readonly maxEntries?: number
  /** Reviews under way at most, default 64: who sends random tokens must not overrun the API server. */
  readonly maxReviews?: number
}

export type ServiceAccountAuthenticator = {
  /**
   * `authorization`: the header's value. `fresh`: the API server is asked, whatever is remembered.
   * @throws SignetError UNAUTHENTICATED; IDENTITY_UNAVAILABLE where the API server does not answer: then nobody is let in
   */
  authenticate(authorization: string | undefined, options?: { readonly fresh?: boolean }): Promise<ReviewedPod>
}

type Remembered = { readonly who: ReviewedPod | null; readonly untilMs: number }

const MAX_CACHE_MS = 60_000
const REFUSAL_CACHE_MS = 1_000
const MAX_TOKEN_CHARS = 8_192
/** Header, claims, signature (RFC 7515): anything else is no service-account token and is not sent on. */
const JWT = /^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/

/**
 * Authenticates projected service-account tokens by TokenReview. Answers are remembered by the SHA-256 of the token, for a short time,
 * never past the token's own end; reviews of one token at the same time are one review.
 */
export function createServiceAccountAuthenticator(options: ServiceAccountOptions): ServiceAccountAuthenticator {
  const { audience, now, maxReviews = 64 } = options
  const cacheMs = Math.min(options.cacheMs, MAX_CACHE_MS)
  const maxEntries = options.maxEntries ?? 10_000
  const remembered = new LRUCache<string, Remembered>({ max: maxEntries })
  // Apart: who sends random tokens must not push out those that are known.
  const refused = new LRUCache<string, Remembered>({ max: maxEntries })
  const underWay = new Map<string, Promise<ReviewedPod | null>>()

  async function review(token: string, key: string): Promise<ReviewedPod | null> {
    const who = await options.review(token, audience).catch((cause: unknown) => {
      throw new SignetError(
        'IDENTITY_UNAVAILABLE',
        'the API server cannot say whose token this is; try again shortly',
        {
          cause,
        },
      )
    })
    const nowMs = now()
    const untilMs =
      who === null
        ? nowMs + Math.min(cacheMs, REFUSAL_CACHE_MS)
        : Math.min(nowMs + cacheMs, expiryOf(token) ?? nowMs + cacheMs)
    if (who === null) remembered.delete(key)
    else refused.delete(key)
    const place = who === null ? refused : remembered
    place.set(key, { who, untilMs })
    return who
  }

  function reviewOnce(token: string, key: string): Promise<ReviewedPod | null> {
    const running = underWay.get(key)
    if (running !== undefined) return running
    if (underWay.size >= maxReviews) {
      throw new SignetError('IDENTITY_UNAVAILABLE', 'too many tokens are being reviewed; try again shortly')
    }
    const started = review(token, key).finally(() => underWay.delete(key))
    underWay.set(key, started)
    return started
  }

  return {
    async authenticate(authorization, { fresh = false } = {}) {
      const token = bearerToken(authorization, MAX_TOKEN_CHARS)
      if (!JWT.test(token)) throw unknownToken()
      const key = createHash('sha256').update(token).digest('base64url')
      const known = remembered.get(key) ?? refused.get(key)
      const holds = known !== undefined && now() < known.untilMs && known.untilMs - now() <= cacheMs
      const who = holds && !fresh ? known.who : await reviewOnce(token, key)
      if (who === null) throw unknownToken()
      return who
    },
  }
}

/** `exp` of a token that the API server has just vouched for, in milliseconds since the epoch. */
function expiryOf(token: string): number | null {
  try {
    const claims = JSON.parse(Buffer.from(JWT.exec(token)?.[1] ?? '', 'base64url').toString('utf8')) as {
      exp?: unknown
    }
    return typeof claims.exp === 'number' ? claims.exp * 1_000 : null
  } catch {
    return null
  }
}

function unknownToken(): SignetError {
  return new SignetError(
    'UNAUTHENTICATED',
    'the token is not known here: no valid service-account token of our audience',
  )
}
