import type { Logger } from '#runtime/telemetry/log.ts'
import { keepDoing, type Background } from '../background.ts'
import type { GovernanceMetrics } from '../metrics.ts'
import { sweep, tidy, type SweeperDeps } from './sweeper.ts'

const EVERY_MS = 5_000
const TIDY_EVERY_MS = 60 * 60 * 1000

/** Sweeps every few seconds, and tidies every hour. */
export function keepSweeping(
  deps: SweeperDeps,
  { log, metrics }: { readonly log: Logger; readonly metrics: GovernanceMetrics },
): Background {
  let tidiedMs = -Infinity
  const tidyIfDue = async (): Promise<void> => {
    if (deps.nowMs() - tidiedMs < TIDY_EVERY_MS) return
    tidiedMs = deps.nowMs()
    try {
      const deleted = await tidy(deps)
      if (deleted > 0) log.info({ deleted }, 'old rows are deleted')
    } catch (error) {
      log.warn({ error }, 'old rows have to wait to be deleted')
    }
  }
  const once = async (signal: AbortSignal): Promise<void> => {
    try {
      const { reverted, recorded, waiting } = await sweep(deps)
      metrics.swept.inc({ how: 'reverted' }, reverted)
      metrics.swept.inc({ how: 'recorded' }, recorded)
      metrics.outcomesRefused.set(waiting)
      if (recorded > 0) log.info({ reverted, recorded }, 'actions that were left behind are completed')
      if (waiting > 0) log.error({ waiting }, 'the ledger refuses outcomes of actions')
    } catch (error) {
      log.warn({ error }, 'actions that were left behind have to wait')
    }
    if (!signal.aborted) await tidyIfDue()
  }
  const onError = (error: unknown): void => log.error({ error }, 'upkeep failed; it is tried again')
  return keepDoing(once, { everyMs: EVERY_MS, firstMs: 0, onError })
}
