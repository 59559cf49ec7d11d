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

/** Does `work` for each tenant that was touched, one after the other, and for every tenant at the times of `options`. */
export function keepDoingForTenants(
  pool: Pool,
  work: (tenant: string, signal: AbortSignal) => Promise<void>,
  options: Omit<KeepDoingOptions, 'onError'> & {
    /** `tenant` null: the tenants cannot be read. */
    readonly onError: (error: unknown, tenant: string | null) => void
  },
): TenantQueue {
  const { onError } = options
  const stopping = new AbortController()
  const touched = new Set<string>()
  let draining: Promise<void> | null = null

  async function drain(): Promise<void> {
    // Who is touched meanwhile comes last: a Set's iteration goes on to what is added to it.
    for (const tenant of touched) {
      if (stopping.signal.aborted) return
      touched.delete(tenant)
      await work(tenant, stopping.signal).catch((error: unknown) => onError(error, tenant))
    }
  }
  function run(): void {
    if (stopping.signal.aborted) return
    draining ??= drain().finally(() => {
      draining = null
      if (touched.size > 0) run()
    })
  }
  const looking = keepDoing(
    async () => {
      for (const tenant of await tenantNames(pool)) touched.add(tenant)
      run()
    },
    { ...options, onError: (error) => onError(error, null) },
  )
  return {
    touch(tenant) {
      touched.add(tenant)
      run()
    },
    async stop() {
      stopping.abort()
      await looking.stop()
      await draining
    },
  }
}
