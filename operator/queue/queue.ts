import { pause, type Clock } from '#operator/clock.ts'

export type QueueResult = { readonly requeueAfterMs?: number } | void

export type QueueObserver = {
  /** Keys that wait, are delayed or are being reconciled; one that is delayed while it is reconciled counts twice. */
  depth(keys: number): void
  reconciled(result: 'success' | 'requeue' | 'error', durationMs: number): void
}

export type QueueOptions = {
  /** Brings the world in line for one key. What it throws is retried with backoff; `attempt` counts failures so far, from 0. */
  readonly reconcile: (key: string, context: { signal: AbortSignal; attempt: number }) => Promise<QueueResult>
  readonly onError: (key: string, error: unknown, context: { attempt: number; retryAfterMs: number }) => void
  readonly observer?: QueueObserver
  readonly clock: Clock
  /** 0 up to, not including, 1. */
  readonly random: () => number
  /** Keys reconciled at once, at most. Default 1. */
  readonly concurrency?: number
  /** Bounds of the waits after failures, in milliseconds. Defaults 100 and 60,000. */
  readonly backoff?: { readonly baseMs: number; readonly maxMs: number }
  /** Reconciles a second that may start (a token bucket of `burst`). Default: no limit. */
  readonly rate?: { readonly perSecond: number; readonly burst: number }
}

export type Queue = {
  /** Asks for a reconcile as soon as possible. While the key is being reconciled: once more afterwards. */
  add(key: string): void
  /** Asks for one in `ms`; of several, the earliest counts. */
  addAfter(key: string, ms: number): void
  /** Forgets a key's failures and delays; what is running ends. */
  forget(key: string): void
  readonly depth: number
  /** Begins to work; what was added before waits until then. */
  start(): void
  /**
   * No new work; resolves when what is running has ended. After `graceMs` (default 10,000) the running reconciles' signals abort,
   * and a second later they are left to themselves: what they must not do then, they have to ask for (`Term.holds`).
   */
  stop(graceMs?: number): Promise<void>
}

/** After its signal has aborted. */
const ABANDON_MS = 1_000
const MAX_WAIT_WITH_NEWS_MS = 1_000
const DEFAULT_BACKOFF = { baseMs: 100, maxMs: 60_000 }

/**
 * A work queue by key, as level-based controllers need it (client-go's workqueue is the model): a key is there once however often it
 * is added, is never reconciled twice at the same time, and fails for itself only: after the n-th failure in a row it waits between
 * half of and all of min(maxMs, baseMs · 2ⁿ⁻¹). Memory is bounded by the number of distinct keys.
 */
export function createQueue(options: QueueOptions): Queue {
  const { clock, random, reconcile, observer } = options
  const concurrency = options.concurrency ?? 1
  const backoff = options.backoff ?? DEFAULT_BACKOFF
  /** In order of arrival. */
  const ready = new Set<string>()
  const running = new Set<string>()
  /** Added again while running. */
  const dirty = new Set<string>()
  const delayed = new Map<string, { dueMs: number; cancel: () => void }>()
  const failures = new Map<string, number>()
  const bucket = options.rate === undefined ? null : createBucket(options.rate, clock)
  const stopping = new AbortController()
  let started = false
  let stopped = false
  let cancelWake: (() => void) | undefined
  let idle: (() => void) | undefined

  const depth = (): number => ready.size + running.size + delayed.size
  const report = (): void => observer?.depth(depth())

  const add = (key: string): void => {
    if (stopped) return
    undelay(key)
    if (running.has(key)) dirty.add(key)
    else ready.add(key)
    report()
    pump()
  }
  const undelay = (key: string): void => {
    delayed.get(key)?.cancel()
    delayed.delete(key)
  }
  const addAfter = (key: string, ms: number): void => {
    if (stopped) return
    if (ms <= 0) return add(key)
    const dueMs = clock.monotonicMs() + ms
    const earlier = delayed.get(key)
    if (ready.has(key) || (earlier !== undefined && earlier.dueMs <= dueMs)) return
    earlier?.cancel()
    delayed.set(key, { dueMs, cancel: clock.timer(ms, () => add(key)) })
    report()
  }
  const pump = (): void => {
    if (!started || stopped) return
    for (const key of ready) {
      if (running.size >= concurrency) return
      const waitMs = bucket?.take() ?? 0
      if (waitMs > 0) return wakeIn(waitMs)
      ready.delete(key)
      running.add(key)
      void work(key)
    }
  }
  const wakeIn = (ms: number): void => {
    if (cancelWake !== undefined) return
    cancelWake = clock.timer(ms, () => {
      cancelWake = undefined
      pump()
    })
  }
  const work = async (key: string): Promise<void> => {
    const startedMs = clock.monotonicMs()
    const attempt = failures.get(key) ?? 0
    let again: number | undefined
    let result: 'success' | 'requeue' | 'error' = 'success'
    try {
      again = ((await reconcile(key, { signal: stopping.signal, attempt })) ?? undefined)?.requeueAfterMs
      failures.delete(key)
      if (again !== undefined) result = 'requeue'
    } catch (error) {
      result = 'error'
      failures.set(key, attempt + 1)
      again = retryAfterMs(attempt, backoff, random)
      if (!stopped) options.onError(key, error, { attempt, retryAfterMs: again })
    }
    running.delete(key)
    observer?.reconciled(result, clock.monotonicMs() - startedMs)
    // News may be the cure, so they shorten the wait after a failure; they do not end it, or a key that changes itself would spin.
    const changed = dirty.delete(key)
    if (changed) addAfter(key, result === 'error' ? Math.min(again ?? 0, MAX_WAIT_WITH_NEWS_MS) : 0)
    else if (again !== undefined) addAfter(key, again)
    report()
    if (stopped && running.size === 0) idle?.()
    pump()
  }

  return {
    add,
    addAfter,
    forget(key) {
      failures.delete(key)
      ready.delete(key)
      dirty.delete(key)
      undelay(key)
      report()
    },
    get depth() {
      return depth()
    },
    start() {
      started = true
      pump()
    },
    async stop(graceMs = 10_000) {
      stopped = true
      cancelWake?.()
      for (const key of delayed.keys()) undelay(key)
      ready.clear()
      dirty.clear()
      failures.clear()
      report()
      if (running.size === 0) return
      const ended = new Promise<void>((resolve) => (idle = resolve))
      const done = new AbortController()
      const givenUp = (async () => {
        if (!(await pause(clock, graceMs, done.signal))) return
        stopping.abort()
        await pause(clock, ABANDON_MS, done.signal)
      })()
      await Promise.race([ended, givenUp])
      done.abort()
    },
  }
}

function retryAfterMs(
  attempt: number,
  { baseMs, maxMs }: { baseMs: number; maxMs: number },
  random: () => number,
): number {
  const bound = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30))
  return bound / 2 + (random() * bound) / 2
}

/** Token bucket; `take` gives 0 where a token was there, else the milliseconds until the next. */
function createBucket({ perSecond, burst }: { perSecond: number; burst: number }, clock: Clock): { take(): number } {
  let tokens = burst
  let seenMs = clock.monotonicMs()
  return {
    take() {
      const nowMs = clock.monotonicMs()
      tokens = Math.min(burst, tokens + ((nowMs - seenMs) * perSecond) / 1000)
      seenMs = nowMs
      if (tokens >= 1) {
        tokens -= 1
        return 0
      }
      return Math.max(1, Math.ceil(((1 - tokens) * 1000) / perSecond))
    },
  }
}
