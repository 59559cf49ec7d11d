import type { Pool } from '#runtime/postgres/transaction.ts'
import { tenantNames } from './store/tenants.ts'

/** Work that goes on until it is stopped; `stop` waits for what runs. */
export type Background = { stop(): Promise<void> }

export type KeepDoingOptions = {
  /** From the end of one run to the next. */
  readonly everyMs: number
  /** Until the first; default `everyMs`. */
  readonly firstMs?: number
  /** It is tried again. Must not throw. */
  readonly onError: (error: unknown) => void
}

/** Does `work` again and again, never twice at once. `signal` is aborted when it should come to an end. */
export function keepDoing(
  work: (signal: AbortSignal) => Promise<void>,
  { everyMs, firstMs = everyMs, onError }: KeepDoingOptions,
): Background {
  const stopping = new AbortController()
  let running = Promise.resolve()
  let timer = setTimeout(run, firstMs)
  function run(): void {
    running = work(stopping.signal)
      .catch(onError)
      .finally(() => {
        if (!stopping.signal.aborted) timer = setTimeout(run, everyMs)
      })
  }
  return {
    async stop() {
      stopping.abort()
      clearTimeout(timer)
      await running
    },
  }
}

export type TenantQueue = Background & {
  /** Something has changed for a tenant. Returns at once. */
  touch(tenant: string): void
}

/**
 * Does `work` for each tenant that was touched, and for every tenant at the times of `options`: for one never twice at once, for up to `atOnce`
 * (default 1) side by side, so that one whose work hangs holds up itself alone.
 */
export function keepDoingForTenants(
  pool: Pool,
  work: (tenant: string, signal: AbortSignal) => Promise<void>,
  options: Omit<KeepDoingOptions, 'onError'> & {
    readonly atOnce?: number
    /** `tenant` null: the tenants cannot be read. */
    readonly onError: (error: unknown, tenant: string | null) => void
  },
): TenantQueue {
  const { onError, atOnce = 1 } = options
  const queue = createTenantQueue(work, { atOnce, onError })
  const looking = keepDoing(
    async () => {
      for (const tenant of await tenantNames(pool)) queue.touch(tenant)
    },
    { ...options, onError: (error) => onError(error, null) },
  )
  return {
    touch: (tenant) => queue.touch(tenant),
    async stop() {
      await Promise.all([looking.stop(), queue.stop()])
    },
  }
}

/** Does `work` for who is touched, in that order. */
export function createTenantQueue(
  work: (tenant: string, signal: AbortSignal) => Promise<void>,
  { atOnce, onError }: { readonly atOnce: number; readonly onError: (error: unknown, tenant: string) => void },
): TenantQueue {
  const stopping = new AbortController()
  const touched = new Set<string>()
  const running = new Map<string, Promise<void>>()

  function run(): void {
    for (const tenant of touched) {
      if (stopping.signal.aborted || running.size >= atOnce) return
      // Who is touched while it runs comes again when it is through.
      if (running.has(tenant)) continue
      touched.delete(tenant)
      const ended = work(tenant, stopping.signal)
        .catch((error: unknown) => onError(error, tenant))
        .finally(() => {
          running.delete(tenant)
          run()
        })
      running.set(tenant, ended)
    }
  }
  return {
    touch(tenant) {
      touched.add(tenant)
      run()
    },
    async stop() {
      stopping.abort()
      await Promise.all(running.values())
    },
  }
}
