import { generateKeyPairSync } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import type { IdentityAnswer } from '#core/identity/exchange.ts'
import { parseDerivedKeyId } from '#core/keyring/derived.ts'
import { indexKeyring, type KeyIndex, type Keyring } from '#core/keyring/keyring.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { Backoff } from '../audit/backoff.ts'
import type { IdentityClient, KeyPair } from './client.ts'
import { issuedCertificate, issuedKeyring, type WorkloadCertificate } from './issued-keys.ts'

export type WorkloadIdentityOptions = {
  readonly client: Pick<IdentityClient, 'exchange'>
  readonly tenant: string
  readonly producerId: string
  /** Takes the keys over: at once, for all that is stamped from then on. */
  readonly onKeys: (keys: KeyIndex, until: Date) => void
  readonly onResult: (result: string) => void
  readonly log: Pick<Logger, 'info' | 'error'>
  readonly nowMs: () => number
  /** 0 up to, not including, 1. */
  readonly random: () => number
  readonly signal: AbortSignal
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number }
}

/** The identity of this workload, from the exchange with the ledger; renewed for as long as the process lives. */
export type WorkloadIdentity = {
  /** What vouches for our key now; null before the first exchange and when it has ended. */
  certificate(): WorkloadCertificate | null
  /** Resolves with the first identity; rejects with CONFIG_INVALID when the ledger says that we may not be what we are configured to be. */
  readonly first: Promise<void>
  /** The root in force at the ledger, as its answers say: with another one than that of our key, the key is renewed soon. */
  rootSeen(rootKeyId: string): void
}

/** A renewal is brought forward or put off by up to this share of the time, so that pods that started together part. */
const JITTER = 0.1
/** After news of another root, all proxies would come at once. */
const SPREAD_MS = 5_000
/** Two exchanges are at least this far apart, whatever clocks and headers say. */
const MIN_INTERVAL_MS = 10_000

export function startWorkloadIdentity(options: WorkloadIdentityOptions): WorkloadIdentity {
  const { client, log, nowMs, random, signal, onResult } = options
  const pair: KeyPair = generateKeyPairSync('ed25519')
  const backoff = new Backoff({ baseMs: 500, maxMs: 30_000, ...options.backoff, random })
  const first = Promise.withResolvers<void>()
  // Nobody may be waiting any more when it rejects.
  first.promise.catch(() => undefined)
  let certificate: WorkloadCertificate | null = null
  let keyring: Keyring | null = null
  let rootKeyId: string | null = null
  let woken: AbortController | null = null

  async function exchange(): Promise<IdentityAnswer> {
    const answer = await client.exchange(pair, signal)
    checkIsOurs(answer, options)
    const nextCertificate = issuedCertificate(answer, pair)
    const next = issuedKeyring(answer, keyring)
    options.onKeys(indexKeyring(next), new Date(answer.stamp_key.not_after))
    keyring = next
    certificate = nextCertificate
    rootKeyId = parseDerivedKeyId(answer.stamp_key.key_id)?.rootKeyId ?? null
    return answer
  }

  /** Until it is time to renew, or another root is in force. */
  async function untilRenewal(renewAt: string): Promise<void> {
    const startedMs = nowMs()
    const dueMs = Date.parse(renewAt) - nowMs()
    const waitMs = Math.max(MIN_INTERVAL_MS, dueMs * (1 - JITTER + 2 * JITTER * random()))
    woken = new AbortController()
    // A timer takes 2^31 ms at most; no certificate lives that long.
    await pause(Math.min(waitMs, 0x7fff_ffff), AbortSignal.any([signal, woken.signal]))
    const isBroughtForward = woken.signal.aborted
    woken = null
    if (!isBroughtForward) return
    const sinceMs = nowMs() - startedMs
    await pause(Math.max(0, Math.min(MIN_INTERVAL_MS, MIN_INTERVAL_MS - sinceMs)) + SPREAD_MS * random(), signal)
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      try {
        const answer = await exchange()
        onResult('issued')
        log.info({ key_id: answer.stamp_key.key_id, renew_at: answer.renew_at }, 'identity issued by the ledger')
        backoff.reset()
        first.resolve()
        await untilRenewal(answer.renew_at)
      } catch (error) {
        if (signal.aborted) return
        onResult(error instanceof SignetError ? error.code : 'INTERNAL')
        // The first failure, then ever rarer.
        const attempt = backoff.attempt + 1
        if ((attempt & (attempt - 1)) === 0) log.error({ error, attempt }, 'no identity from the ledger; trying again')
        if (isFinal(error)) first.reject(asConfigError(error, options))
        await backoff.wait(signal)
      }
    }
  }
  void run()

  return {
    certificate: () => (certificate !== null && nowMs() < certificate.notAfterMs ? certificate : null),
    first: first.promise,
    rootSeen(seen) {
      if (rootKeyId === null || seen === rootKeyId || woken === null) return
      log.info({ root: seen }, 'the ledger derives keys from another root; renewing')
      // Once for this key: what comes next is another one, or waits for its time.
      rootKeyId = null
      woken.abort()
    },
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined)
}

function checkIsOurs(answer: IdentityAnswer, wanted: { readonly tenant: string; readonly producerId: string }): void {
  if (answer.tenant === wanted.tenant && answer.producer_id === wanted.producerId) return
  throw new SignetError(
    'CONFIG_INVALID',
    `SIGNET_TENANT and SIGNET_PRODUCER_ID are «${wanted.tenant}» and «${wanted.producerId}», but the ledger knows this pod as «${answer.tenant}» and «${answer.producer_id}»`,
  )
}

/** What trying again does not change: another tenant or producer than the platform allows. */
function isFinal(error: unknown): error is SignetError {
  if (!(error instanceof SignetError)) return false
  return error.code === 'CONFIG_INVALID' || (error.code === 'LEDGER_REFUSED' && error.details?.['code'] === 'FORBIDDEN')
}

function asConfigError(
  error: SignetError,
  wanted: { readonly tenant: string; readonly producerId: string },
): SignetError {
  if (error.code === 'CONFIG_INVALID') return error
  return new SignetError(
    'CONFIG_INVALID',
    `SIGNET_TENANT and SIGNET_PRODUCER_ID are «${wanted.tenant}» and «${wanted.producerId}», which the ledger does not let this pod be. ${error.message}`,
    { cause: error },
  )
}
