import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { PolledBundles } from '#engine/bundle/held-polls.ts'
import { keepDoing, type Background } from '../background.ts'
import { latestRevision } from '../store/bundles.ts'

export type BundleNews = PolledBundles &
  Background & {
    /** What the bundle of a tenant is now, as somebody has just read. */
    saw(tenant: string, etag: string | null): void
  }

/** How late a poll hears of what another process published. */
const LOOK_MS = 1_000

/** What held polls wait for. Only tenants are looked at that somebody waits for. */
export function keepBundleNews(deps: { readonly pool: Pool; readonly onError: (error: unknown) => void }): BundleNews {
  const waiting = new Map<string, Set<{ readonly etag: string | null; readonly callback: () => void }>>()
  const latest = new Map<string, string | null>()

  function saw(tenant: string, etag: string | null): void {
    const waiters = waiting.get(tenant)
    if (waiters === undefined) return
    latest.set(tenant, etag)
    for (const waiter of waiters) if (waiter.etag !== etag) waiter.callback()
  }
  const looking = keepDoing(
    async (signal) => {
      for (const tenant of waiting.keys()) {
        if (signal.aborted) return
        const head = await withTenant(deps.pool, tenant, (client) => latestRevision(client, tenant), { readOnly: true })
        saw(tenant, head?.etag ?? null)
      }
    },
    { everyMs: LOOK_MS, onError: deps.onError },
  )
  return {
    saw,
    get(tenant) {
      const etag = latest.get(tenant)
      return etag == null ? undefined : { etag }
    },
    onNext(tenant, etag, callback) {
      const waiters = waiting.get(tenant) ?? new Set()
      const waiter = { etag, callback }
      waiting.set(tenant, waiters.add(waiter))
      if (!latest.has(tenant)) latest.set(tenant, etag)
      return () => {
        waiters.delete(waiter)
        if (waiters.size > 0 || waiting.get(tenant) !== waiters) return
        waiting.delete(tenant)
        latest.delete(tenant)
      }
    },
    stop: () => looking.stop(),
  }
}
