/** Time as the operator's loops see it: handed in, so that tests own it. */
export type Clock = {
  /** Milliseconds that never go back; of no use outside the process. */
  monotonicMs(): number
  /** Milliseconds since 1970, for what others read. */
  wallMs(): number
  /** Calls `run` once after `ms`; the returned function takes it back. */
  timer(ms: number, run: () => void): () => void
}

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  timer(ms, run) {
    const handle = setTimeout(run, ms)
    return () => clearTimeout(handle)
  },
}

/** Waits; false as soon as `signal` aborts. Never rejects. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false)
  return new Promise((resolve) => {
    const onAbort = (): void => {
      cancel()
      resolve(false)
    }
    const cancel = clock.timer(ms, () => {
      signal.removeEventListener('abort', onAbort)
      resolve(true)
    })
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
