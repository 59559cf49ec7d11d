import { SignetError } from '#core/error/signet-error.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { readHeadsOf } from '../store/feed.ts'
import { withTree } from '../store/tree.ts'

/** Requests that may wait at a time, of all tenants and of one. */
export const MAX_WAITING = 512
export const MAX_WAITING_PER_TENANT = 32
const POLL_MS = 250

export type Heads = {
  /**
   * Resolves when the tenant's chain goes past `seq`, after `waitMs`, or when told to stop: the caller looks again.
   * @throws SignetError TOO_MANY_REQUESTS
   */
  waitPast(tenant: string, seq: number, waitMs: number, signal: AbortSignal): Promise<void>
  /** Ends all waiting, also that to come. */
  stop(): void
}

type Waiter = { readonly tenant: string; readonly seq: number; readonly wake: () => void }

/** Many wait, one asks: a query for all of them every 250 ms, and none while nobody waits. */
export function watchHeads(wall: Pool): Heads {
  const waiters = new Set<Waiter>()
  let timer: NodeJS.Timeout | undefined
  let stopped = false

  async function look(): Promise<void> {
    const tenants = [...new Set([...waiters].map(({ tenant }) => tenant))]
    const heads = await withTree(wall, (client) => readHeadsOf(client, tenants), { readOnly: true })
    for (const waiter of waiters) if ((heads.get(waiter.tenant) ?? 0) > waiter.seq) waiter.wake()
  }

  function schedule(): void {
    if (timer !== undefined || waiters.size === 0) return
    timer = setTimeout(() => {
      // A wall that does not answer is for whoever reads next to find out.
      look()
        .catch(() => undefined)
        .finally(() => {
          timer = undefined
          schedule()
        })
    }, POLL_MS)
  }

  return {
    async waitPast(tenant, seq, waitMs, signal) {
      if (stopped || signal.aborted) return
      const ofTenant = [...waiters].filter((waiter) => waiter.tenant === tenant).length
      if (waiters.size >= MAX_WAITING || ofTenant >= MAX_WAITING_PER_TENANT)
        throw new SignetError('TOO_MANY_REQUESTS', 'too many requests wait for news; ask without the parameter wait')
      await new Promise<void>((resolve) => {
        const done = (): void => {
          clearTimeout(over)
          signal.removeEventListener('abort', done)
          waiters.delete(waiter)
          resolve()
        }
        const waiter: Waiter = { tenant, seq, wake: done }
        const over = setTimeout(done, waitMs)
        signal.addEventListener('abort', done)
        waiters.add(waiter)
        schedule()
      })
    },
    stop() {
      stopped = true
      for (const waiter of waiters) waiter.wake()
      clearTimeout(timer)
    },
  }
}
