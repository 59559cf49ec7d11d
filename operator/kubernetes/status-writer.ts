import type { Clock } from '#operator/clock.ts'
import { createQueue } from '#operator/queue/queue.ts'
import { apiStatus, MERGE_PATCH, type KubernetesClient } from './client.ts'

export type StatusTarget = {
  /** Unique in the writer. */
  readonly key: string
  /** Of the object; `/status` is added. */
  readonly path: string
  /** The write fails, and is forgotten, if the object was replaced by another of that name. */
  readonly uid: string | undefined
}

export type StatusWriterOptions<S extends object> = {
  readonly client: KubernetesClient
  readonly clock: Clock
  readonly random: () => number
  /** Two statuses of one fingerprint say the same: such a change is not written. */
  readonly fingerprint: (status: S) => string
  /** Members that a status may lack: they are removed from the object then. */
  readonly optionalMembers: readonly string[]
  /** Between two writes of one object. Default 10,000. */
  readonly minIntervalMs?: number
  /** Writes a second over all objects. Default 100, in bursts of 200. */
  readonly perSecond?: number
  /** Asked right before a write; false drops it: another leads now. */
  readonly mayWrite: () => boolean
  readonly onWritten?: (result: 'written' | 'gone' | 'refused' | 'failed') => void
  readonly onError?: (key: string, error: unknown) => void
}

export type StatusWriter<S> = {
  /** What the object's status should be, given what it is in the cache. Of several, the last counts. */
  set(target: StatusTarget, status: S, observed: S | undefined): void
  /** The object is gone. */
  forget(key: string): void
  readonly pending: number
  start(): void
  /** Writes under way are finished; what waits is dropped: the next leader writes it. */
  stop(): Promise<void>
}

/** The cache lags behind our own writes by this much at most; after it, what the cache says counts again. */
const TRUST_OWN_WRITE_MS = 30_000
const CONCURRENCY = 8

/**
 * Writes the status subresource by merge patch: only where it says something else than the object's, at most once in
 * `minIntervalMs` per object, the last wins.
 */
export function createStatusWriter<S extends object>(options: StatusWriterOptions<S>): StatusWriter<S> {
  const { client, clock, fingerprint } = options
  const minIntervalMs = options.minIntervalMs ?? 10_000
  const perSecond = options.perSecond ?? 100
  const pending = new Map<string, { target: StatusTarget; status: S }>()
  const written = new Map<string, { print: string; atMs: number }>()

  const queue = createQueue({
    clock,
    random: options.random,
    concurrency: CONCURRENCY,
    rate: { perSecond, burst: perSecond * 2 },
    reconcile: (key) => flush(key),
    onError: (key, error) => {
      options.onWritten?.('failed')
      options.onError?.(key, error)
    },
  })

  const flush = async (key: string): Promise<void> => {
    const entry = pending.get(key)
    if (entry === undefined) return
    if (!options.mayWrite()) {
      pending.delete(key)
      return
    }
    const { target, status } = entry
    const absent = Object.fromEntries(options.optionalMembers.map((member) => [member, null]))
    const atMs = clock.monotonicMs()
    try {
      await client.request({
        method: 'PATCH',
        path: `${target.path}/status`,
        contentType: MERGE_PATCH,
        body: {
          ...(target.uid === undefined ? {} : { metadata: { uid: target.uid } }),
          status: { ...absent, ...status },
        },
      })
    } catch (error) {
      const code = apiStatus(error)
      // Gone, replaced, or never acceptable: trying again would not help.
      if (code !== 404 && code !== 409 && code !== 422) throw error
      if (pending.get(key) === entry) pending.delete(key)
      options.onWritten?.(code === 422 ? 'refused' : 'gone')
      if (code === 422) options.onError?.(key, error)
      return
    }
    written.set(key, { print: fingerprint(status), atMs })
    options.onWritten?.('written')
    // News that came in between wait their time.
    if (pending.get(key) === entry) pending.delete(key)
    else if (pending.has(key)) queue.addAfter(key, minIntervalMs)
  }

  return {
    set(target, status, observed) {
      const { key } = target
      const own = written.get(key)
      const nowMs = clock.monotonicMs()
      const trusted = own !== undefined && nowMs - own.atMs < TRUST_OWN_WRITE_MS
      const print = trusted ? own.print : observed === undefined ? null : fingerprint(observed)
      if (print === fingerprint(status)) {
        pending.delete(key)
        return
      }
      pending.set(key, { target, status })
      queue.addAfter(key, own === undefined ? 0 : own.atMs + minIntervalMs - nowMs)
    },
    forget(key) {
      pending.delete(key)
      written.delete(key)
      queue.forget(key)
    },
    get pending() {
      return pending.size
    },
    start: () => queue.start(),
    stop: async () => {
      pending.clear()
      await queue.stop()
    },
  }
}
