import { pause, type Clock } from '#operator/clock.ts'
import { apiPath, apiStatus, type KubernetesClient } from './client.ts'
import type { ObjectMeta } from './object.ts'

export type Lease = {
  readonly apiVersion: 'coordination.k8s.io/v1'
  readonly kind: 'Lease'
  readonly metadata: ObjectMeta
  readonly spec?: LeaseSpec
}
type LeaseSpec = {
  readonly holderIdentity?: string | null
  readonly leaseDurationSeconds?: number
  /** RFC 3339 with microseconds (MicroTime). */
  readonly acquireTime?: string
  readonly renewTime?: string
  readonly leaseTransitions?: number
}

/** The longest `SIGNET_LEASE_MS`. */
const MAX_LEASE_MS = 300_000
/** 2020-01-01: the first term of a new lease is the seconds since then, above all those that one change of hands each can have led to. */
const TERM_EPOCH_SECONDS = 1_577_836_800

/** A term of leadership. */
export type Term = {
  /** Aborts when the term ends, for whatever reason. */
  readonly signal: AbortSignal
  /** To be asked right before each write: also false for a process that was stalled past its deadline and has not noticed yet. */
  holds(): boolean
  /** The lease's transition count: grows with each change of the holder. */
  readonly number: number
}

export type ElectionOptions = {
  readonly client: KubernetesClient
  readonly namespace: string
  /** The Lease's name. */
  readonly name: string
  /** Unique to this process: pod name and a random part. */
  readonly identity: string
  /** How long others leave a silent leader alone. Default 15,000. */
  readonly leaseMs?: number
  /** How long a leader leads without having renewed; must be less than `leaseMs`. Default 10,000. */
  readonly renewDeadlineMs?: number
  /** Between two tries. Default 2,000. */
  readonly retryMs?: number
  readonly clock: Clock
  readonly random: () => number
  /** Leads; ends soon after `term.signal` aborts. If it ends or throws before, leadership is given back and sought again. */
  readonly lead: (term: Term) => Promise<void>
  readonly onTransition?: (event: 'acquired' | 'lost' | 'released') => void
  readonly onError?: (error: unknown) => void
}

export type Election = {
  /** Takes part until `signal` aborts; then the term is ended, and the lease released once `lead` has ended. Never rejects. */
  run(signal: AbortSignal): Promise<void>
  readonly leading: boolean
}

/**
 * Leader election over a Lease, by the rules of client-go: whoever finds it free, released or unchanged for `leaseMs` *as observed
 * by the own monotonic clock* may take it, by an update that the API server refuses if anyone was faster. A leader that could not renew within
 * `renewDeadlineMs` steps down, before anyone else may take over. Clocks need not agree; their rates must, within the ratio of
 * the two. What this cannot give is fencing: a write that a leader sent in its last moment may arrive in the next one's term, so
 * whatever two leaders must not both do is also guarded at its place (compare-and-swap by resourceVersion, growing sequences).
 */
export function createElection(options: ElectionOptions): Election {
  const { client, clock, random, identity } = options
  const leaseMs = options.leaseMs ?? 15_000
  const renewDeadlineMs = options.renewDeadlineMs ?? 10_000
  const retryMs = options.retryMs ?? 2_000
  if (renewDeadlineMs >= leaseMs) throw new RangeError('renewDeadlineMs must be less than leaseMs')
  const collection = apiPath('apis/coordination.k8s.io/v1', 'namespaces', options.namespace, 'leases')
  const path = `${collection}/${encodeURIComponent(options.name)}`
  let leading = false
  /** The lease as last seen, and when it was first seen in that state. */
  let observed: { version: string; atMs: number; holder: string } | null = null
  const observe = (lease: Lease): void => {
    const version = lease.metadata.resourceVersion ?? ''
    if (observed?.version === version) return
    observed = { version, atMs: clock.monotonicMs(), holder: lease.spec?.holderIdentity ?? '' }
  }

  /** One try to take or renew; null where another holds it. */
  const claim = async (signal: AbortSignal): Promise<Lease | null> => {
    const lease = await client.request<Lease>({ path, signal, timeoutMs: renewDeadlineMs }).catch((error: unknown) => {
      if (apiStatus(error) === 404) return null
      throw error
    })
    if (lease === null) {
      // Terms must grow even where somebody deleted the lease, or restored a cluster without it: bundles remember them.
      const made = fresh(options, Math.max(0, Math.floor(clock.wallMs() / 1000) - TERM_EPOCH_SECONDS))
      return client.request<Lease>({ method: 'POST', path: collection, body: made, signal, timeoutMs: renewDeadlineMs })
    }
    observe(lease)
    const holder = lease.spec?.holderIdentity ?? ''
    // Whoever wrote it may claim any time: nobody is left alone for longer than any replica may be configured to lead in silence.
    const claimedMs = Math.min((lease.spec?.leaseDurationSeconds ?? 0) * 1000, MAX_LEASE_MS)
    const othersMs = Math.max(leaseMs, claimedMs)
    const unchangedMs = clock.monotonicMs() - (observed?.atMs ?? 0)
    if (holder !== '' && holder !== identity && unchangedMs < othersMs) return null
    const transitions = (lease.spec?.leaseTransitions ?? 0) + (holder === identity ? 0 : 1)
    const spec: LeaseSpec = {
      ...fresh(options, transitions).spec,
      ...(holder === identity && lease.spec?.acquireTime !== undefined ? { acquireTime: lease.spec.acquireTime } : {}),
    }
    // With the resourceVersion that was read: refused (409) if anyone wrote in between.
    return client.request<Lease>({ method: 'PUT', path, body: { ...lease, spec }, signal, timeoutMs: renewDeadlineMs })
  }

  const tryClaim = async (signal: AbortSignal): Promise<Lease | null> => {
    try {
      const lease = await claim(signal)
      if (lease !== null) observe(lease)
      return lease
    } catch (error) {
      // Another was faster, or the API server does not answer: for now it is not ours.
      if (!signal.aborted && apiStatus(error) !== 409) options.onError?.(error)
      return null
    }
  }

  const serve = async (first: Lease, askedMs: number, signal: AbortSignal): Promise<void> => {
    const term = new AbortController()
    // From before the request: the server may have written it at any moment since.
    let renewedMs = askedMs
    const holds = (): boolean => !term.signal.aborted && clock.monotonicMs() - renewedMs < renewDeadlineMs
    let cancelDeadline = (): void => {}
    const armDeadline = (): void => {
      cancelDeadline()
      cancelDeadline = clock.timer(Math.max(0, renewedMs + renewDeadlineMs - clock.monotonicMs()), () => term.abort())
    }
    const onStop = (): void => term.abort()
    signal.addEventListener('abort', onStop, { once: true })
    if (signal.aborted) term.abort()
    armDeadline()
    leading = true
    options.onTransition?.('acquired')
    const work = options
      .lead({ signal: term.signal, holds, number: transitionsOf(first) })
      .catch((error: unknown) => options.onError?.(error))
      .finally(() => term.abort())
    while (await pause(clock, retryMs, term.signal)) {
      const beforeMs = clock.monotonicMs()
      const renewed = await tryClaim(term.signal)
      // Another's name on it, or a change of hands in between: this term is over, whatever the deadline says.
      const lost = renewed === null ? observed?.holder !== identity : transitionsOf(renewed) !== transitionsOf(first)
      if (lost) term.abort()
      if (renewed === null || !holds()) continue
      renewedMs = beforeMs
      armDeadline()
    }
    cancelDeadline()
    signal.removeEventListener('abort', onStop)
    leading = false
    await work
    // Only what is surely still ours is given back; after the deadline another may hold it (the update would be refused anyway).
    if (clock.monotonicMs() - renewedMs < renewDeadlineMs) await release()
    else options.onTransition?.('lost')
  }

  const release = async (): Promise<void> => {
    try {
      const lease = await client.request<Lease>({ path, timeoutMs: 3_000 })
      if (lease.spec?.holderIdentity === identity) {
        const spec: LeaseSpec = {
          ...lease.spec,
          holderIdentity: '',
          leaseDurationSeconds: 1,
          renewTime: microTime(clock),
        }
        await client.request({ method: 'PUT', path, body: { ...lease, spec }, timeoutMs: 3_000 })
      }
      options.onTransition?.('released')
    } catch (error) {
      options.onTransition?.('lost')
      options.onError?.(error)
    }
  }

  return {
    async run(signal) {
      while (!signal.aborted) {
        const askedMs = clock.monotonicMs()
        const lease = await tryClaim(signal)
        if (lease !== null && clock.monotonicMs() - askedMs < renewDeadlineMs) await serve(lease, askedMs, signal)
        // Jitter, so that candidates do not keep colliding.
        await pause(clock, retryMs * (1 + random() * 0.2), signal)
      }
    },
    get leading() {
      return leading
    },
  }
}

function fresh(
  { namespace, name, identity, leaseMs = 15_000, clock }: ElectionOptions,
  leaseTransitions: number,
): Lease {
  const now = microTime(clock)
  return {
    apiVersion: 'coordination.k8s.io/v1',
    kind: 'Lease',
    metadata: { name, namespace },
    spec: {
      holderIdentity: identity,
      leaseDurationSeconds: Math.ceil(leaseMs / 1000),
      acquireTime: now,
      renewTime: now,
      leaseTransitions,
    },
  }
}

function transitionsOf(lease: Lease): number {
  return lease.spec?.leaseTransitions ?? 0
}

/** metav1.MicroTime: exactly six digits of a second, or the API server refuses it. */
function microTime(clock: Clock): string {
  return new Date(clock.wallMs()).toISOString().replace('Z', '000Z')
}
