import { setTimeout as sleep } from 'node:timers/promises'

export type BackoffOptions = {
  /** Bound of the first wait and of all waits, in milliseconds. */
  baseMs: number
  maxMs: number
  /** 0 up to, not including, 1. */
  random: () => number
}

/**
 * Exponential backoff with full jitter: the n-th wait is uniform in 0 … min(maxMs, baseMs · 2ⁿ), so that proxies that lost the
 * ledger together do not come back together.
 */
export class Backoff {
  readonly #options: BackoffOptions
  #attempt = 0

  constructor(options: BackoffOptions) {
    this.#options = options
  }

  get attempt(): number {
    return this.#attempt
  }

  reset(): void {
    this.#attempt = 0
  }

  /** Milliseconds of the next wait. */
  next(): number {
    const { baseMs, maxMs, random } = this.#options
    const bound = Math.min(maxMs, baseMs * 2 ** Math.min(this.#attempt, 30))
    this.#attempt += 1
    return random() * bound
  }

  /** Waits; false as soon as `signal` aborts. */
  async wait(signal: AbortSignal): Promise<boolean> {
    try {
      await sleep(this.next(), undefined, { signal })
      return true
    } catch {
      return false
    }
  }
}
