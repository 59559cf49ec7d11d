import type { Clock } from '#operator/clock.ts'
import type { Scope } from './gather.ts'

/** How often a namespace's rules may change before they have to wait: every change is a bundle that is stored. */
export type Pace = {
  /** Milliseconds until the scope's next compilation may begin; 0: now. */
  waitMs(scope: Scope): number
  /** One begins. */
  take(scope: Scope): void
}

const BURST = 10
const EVERY_MS = 30_000

/**
 * A token bucket a namespace: ten changes at once, then one in 30 s, in which all that came meanwhile goes in. Without it, whoever may edit one
 * rule could fill the cluster's store with bundles. The platform's own rules do not wait.
 */
export function createPace(clock: Pick<Clock, 'monotonicMs'>): Pace {
  /** When the bucket was, or will be, full. */
  const fullAtMs = new Map<Scope, number>()
  return {
    waitMs(scope) {
      const owedMs = (fullAtMs.get(scope) ?? 0) - clock.monotonicMs()
      return Math.max(0, owedMs - (BURST - 1) * EVERY_MS)
    },
    take(scope) {
      if (scope === 'root') return
      const nowMs = clock.monotonicMs()
      for (const [known, atMs] of fullAtMs) if (atMs <= nowMs) fullAtMs.delete(known)
      fullAtMs.set(scope, Math.max(nowMs, fullAtMs.get(scope) ?? 0) + EVERY_MS)
    },
  }
}
