import { LRUCache } from 'lru-cache'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import { extractStamp } from '#core/stamp/splice.ts'
import { MAX_VERDICT_BYTES } from '#core/stamp/verdict.ts'
import { matchStamp, verifyStamp, type StampToVerify, type VerifiedStamp } from '#core/stamp/verify.ts'

/** Whether another producer's stamp was made with its key: the ledger's word. Rejects where that cannot be had. */
export type StampOracle = (stampBytes: Buffer, signal: AbortSignal) => Promise<boolean>

export type StampVerifierOptions = {
  readonly tenant: string
  readonly keyring: () => KeyIndex
  readonly ask: StampOracle
  readonly onAsked: (result: 'verified' | 'refused' | 'unavailable') => void
  readonly timeoutMs?: number
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

/** Verifies the stamp that a body came with: our own by our key, others of the tenant by asking the ledger. */
export type StampVerifier = {
  /**
   * To be awaited before `check` of this body, where it is not null: the ledger is being asked. Never rejects, and ends in time: what could not
   * be asked is not verified.
   */
  prepare(content: Buffer): Promise<void> | null
  /** @throws SignetError as `verifyStamp`; STAMP_KEY_UNKNOWN also where nobody vouched for the stamp */
  check(stampBytes: Buffer, payload: Buffer): VerifiedStamp
}

const TIMEOUT_MS = 1_000
/** A service that repeats others' answers asks for the same stamps again. A key that is revoked makes no new ones meanwhile. */
const REMEMBERED_MS = 60_000
/** While the ledger is away nobody waits for it more than once in this time. */
const UNAVAILABLE_MS = 2_000
const MAX_REMEMBERED = 10_000
const MAX_CONCURRENT = 32
const MEMBER = '"_compliance":{'

export function createStampVerifier(options: StampVerifierOptions): StampVerifier {
  const { tenant, keyring, ask, onAsked } = options
  const now = options.now ?? (() => performance.now())
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS
  const verdicts = new LRUCache<string, { readonly verified: boolean; readonly untilMs: number }>({
    max: MAX_REMEMBERED,
  })
  const underWay = new Map<string, Promise<void>>()
  let awayUntilMs = -Infinity

  const verdictOn = (hash: string): boolean | undefined => {
    const known = verdicts.get(hash)
    return known === undefined || known.untilMs <= now() ? undefined : known.verified
  }
  const asked = async (hash: string, stampBytes: Buffer): Promise<void> => {
    try {
      const verified = await ask(stampBytes, AbortSignal.timeout(timeoutMs))
      verdicts.set(hash, { verified, untilMs: now() + REMEMBERED_MS })
      onAsked(verified ? 'verified' : 'refused')
    } catch {
      awayUntilMs = now() + UNAVAILABLE_MS
      onAsked('unavailable')
    } finally {
      underWay.delete(hash)
    }
  }
  const toVerify = (stampBytes: Buffer, payload: Buffer): StampToVerify => ({
    stampBytes,
    payload,
    keyring: keyring(),
    expected: { tenant },
  })

  return {
    prepare(content) {
      // Exactly so a stamp is written (`splice.ts`); any other way of writing it is a forgery without asking.
      if (!content.includes(MEMBER)) return null
      const foreign = foreignStamp(content, toVerify)
      if (foreign === null || foreign.length > MAX_VERDICT_BYTES) return null
      const hash = digestText(foreign)
      if (verdictOn(hash) !== undefined || now() < awayUntilMs) return null
      const same = underWay.get(hash)
      if (same !== undefined) return same
      if (underWay.size >= MAX_CONCURRENT) {
        onAsked('unavailable')
        return null
      }
      const asking = asked(hash, foreign)
      underWay.set(hash, asking)
      return asking
    },
    check(stampBytes, payload) {
      const stamp = toVerify(stampBytes, payload)
      try {
        return verifyStamp(stamp)
      } catch (error) {
        if (!isOthers(error) || verdictOn(digestText(stampBytes)) !== true) throw error
        return matchStamp(stamp)
      }
    },
  }
}

/** A stamp that is right in all but that its key is none of ours. */
function foreignStamp(
  content: Buffer,
  toVerify: (stampBytes: Buffer, payload: Buffer) => StampToVerify,
): Buffer | null {
  try {
    const embedded = extractStamp(content)
    if (embedded === null) return null
    const stamp = toVerify(embedded.stampBytes, embedded.payload)
    try {
      verifyStamp(stamp)
      return null
    } catch (error) {
      if (!isOthers(error)) return null
    }
    matchStamp(stamp)
    return embedded.stampBytes
  } catch (error) {
    if (error instanceof SignetError) return null
    throw error
  }
}

function isOthers(error: unknown): error is SignetError {
  return error instanceof SignetError && error.code === 'STAMP_KEY_UNKNOWN'
}
