/** Waits between tries: the n-th is uniform in 0 … min(maxMs, baseMs · 2ⁿ), so that clients that failed together do not come back together. */
export type Backoff = {
  readonly baseMs: number
  readonly maxMs: number
  /** 0 up to, not including, 1. */
  readonly random: () => number
}

export const DEFAULT_BACKOFF: Backoff = { baseMs: 250, maxMs: 30_000, random: Math.random }

/** Milliseconds to wait before try `attempt + 1`; `attempt` from 0. */
export function waitOf({ baseMs, maxMs, random }: Backoff, attempt: number): number {
  return random() * Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30))
}

/** Whether the same may go well later: nobody was there, was busy, or asks to wait. `null`: no answer at all. */
export function isTransient(status: number | null): boolean {
  return status === null || status === 408 || status === 425 || status === 429 || status >= 500
}
