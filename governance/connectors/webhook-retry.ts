const SECOND = 1_000
const MINUTE = 60 * SECOND
const HOUR = 60 * MINUTE
/** What Standard Webhooks proposes, up to a day and a half. */
const DELAYS_MS = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR]
const JITTER = 0.2

/** How often a message is tried at most; then it is a dead letter. */
export const MAX_TRIES = DELAYS_MS.length + 1

/**
 * How long to wait, in milliseconds, after `tries` that failed (1 or more); null: no more, it is a dead letter. `random`: from 0 to below 1;
 * up to a fifth is added, so that what failed together is not sent together again.
 */
export function retryDelayMs(tries: number, random: number): number | null {
  const delay = DELAYS_MS[tries - 1]
  return delay === undefined ? null : Math.round(delay * (1 + JITTER * random))
}
