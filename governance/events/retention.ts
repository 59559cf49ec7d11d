import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoingForTenants, type Background } from '../background.ts'
import { forgetEvents, oldEvents } from '../store/event-retention.ts'

export type EventRetentionDeps = {
  readonly pool: Pool
  readonly runner: ActionRunner
  readonly clock: () => Date
  readonly log: Logger
  /** How old events are that go. */
  readonly days: number
  readonly onDeleted: (events: number) => void
}

const DAY_MS = 86_400_000
const EVERY_MS = 60 * 60 * 1000
const FIRST_MS = 5_000
/** Of a tenant an hour: each batch is an action of its own in the ledger. */
const MAX_BATCHES = 50
const BATCH = 2_000

/** Deletes, once an hour, events that are old, with violations that were resolved as long ago. What is not resolved stays. */
export function keepForgetting(deps: EventRetentionDeps): Background {
  const { pool, runner, clock, log, days, onDeleted } = deps

  async function forget(tenant: string, signal: AbortSignal): Promise<void> {
    for (let count = 0; count < MAX_BATCHES && !signal.aborted; count++) {
      const before = new Date(clock().getTime() - days * DAY_MS)
      // Where nothing is old there is no action: the ledger would have one an hour that says nothing.
      const [any] = await withTenant(pool, tenant, (client) => oldEvents(client, tenant, before, 1), { readOnly: true })
      if (any === undefined) return
      onDeleted(await forgetBatch(tenant, before))
    }
  }

  async function forgetBatch(tenant: string, before: Date): Promise<number> {
    const traceId = newTraceId()
    const wanted = { created_before: before.toISOString() }
    const request = {
      tenant,
      actor: 'system/event-retention',
      action: 'delete',
      resource: 'events',
      resourceId: null,
      wanted,
      traceId,
      requestId: traceId,
    } as const
    return runner.runAsSystem(request, async (client) => {
      const gone = await forgetEvents(client, tenant, await oldEvents(client, tenant, before, BATCH))
      return { result: gone.events, before: null, after: { ...wanted, ...gone } }
    })
  }

  return keepDoingForTenants(pool, forget, {
    everyMs: EVERY_MS,
    firstMs: FIRST_MS,
    onError: (error, tenant) => log.warn({ error, tenant }, 'old events have to wait to be deleted'),
  })
}
