import { SignetError } from '#core/error/signet-error.ts'
import type { AuditEvent } from '#core/audit/event.ts'
import { withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { endAction, markRecorded, markRefused, openActions, type StoredAction } from '../store/actions.ts'
import { tenantNames } from '../store/tenants.ts'
import { deleteOld } from '../store/upkeep.ts'
import { outcomeEvent, type ActionSubject } from './event.ts'
import type { RecordEvent } from './runner.ts'

export type SweeperDeps = {
  readonly pool: Pool
  readonly record: RecordEvent
  readonly nowMs: () => number
  /** How old an action is before it counts as left behind. */
  readonly afterMs: number
}
export type Swept = { readonly reverted: number; readonly recorded: number; readonly waiting: number }

const BATCH = 100
/** Whoever asks what became of an action, or for a token that ran out, does so within three months; the ledger keeps it anyway. */
const KEPT_MS = 90 * 24 * 60 * 60 * 1000
const TIDY_BATCH = 1_000
const TIDY_BATCHES = 100

/**
 * Completes what was left behind, in every tenant: an intent whose change never came is reverted (from then on its change cannot come), and
 * events that the ledger does not have are sent. Several processes may do it at once: the row's state lets one of them end an action, and
 * the ledger knows an event that it has.
 * @throws SignetError DATABASE_UNAVAILABLE, LEDGER_UNREACHABLE
 */
export async function sweep(deps: SweeperDeps): Promise<Swept> {
  const counts = { reverted: 0, recorded: 0, waiting: 0 }
  for (const tenant of await tenantNames(deps.pool)) {
    const left = await openActions(deps.pool, tenant, new Date(deps.nowMs() - deps.afterMs), BATCH)
    for (const action of left) {
      const ended = action.state === 'intended' ? await revert(deps, action, counts) : action
      if (ended === null) continue
      try {
        await send(deps, ended)
        counts.recorded += 1
      } catch (error) {
        // What the ledger will never take must not hold up the rest; it stays, and shows in the metric.
        if (!(error instanceof SignetError) || error.code !== 'LEDGER_REFUSED') throw error
        await markRefused(deps.pool, tenant, action.id)
        counts.waiting += 1
      }
    }
  }
  return counts
}

async function revert(
  deps: SweeperDeps,
  action: StoredAction,
  counts: { reverted: number },
): Promise<StoredAction | null> {
  const { tenant, id } = action
  const intent = JSON.parse(action.intent ?? '{}') as AuditEvent
  const latencyMs = deps.nowMs() - action.started_at.getTime()
  const reason = { code: 'ACTION_REVERTED', detail: 'it was begun and never ended; nothing was changed' }
  const outcome = JSON.stringify(
    outcomeEvent(subjectOf(action, intent), { state: 'reverted', reason, latencyMs }, deps.nowMs()),
  )
  const ended = await withTenant(deps.pool, tenant, (client) => endAction(client, tenant, id, 'reverted', outcome))
  if (!ended) return null
  counts.reverted += 1
  return { ...action, state: 'reverted', outcome }
}

/** Deletes what the ledger has, and what ran out, for longer than `KEPT_MS`, in every tenant. @returns how many rows went */
export async function tidy({ pool, nowMs }: Pick<SweeperDeps, 'pool' | 'nowMs'>): Promise<number> {
  const before = new Date(nowMs() - KEPT_MS)
  let deleted = 0
  for (const tenant of await tenantNames(pool))
    for (let batch = 0; batch < TIDY_BATCHES; batch++) {
      const count = await deleteOld(pool, tenant, before, TIDY_BATCH)
      deleted += count
      if (count < TIDY_BATCH) break
    }
  return deleted
}

/** The intent first: whoever reads an outcome shall find it. */
async function send(deps: SweeperDeps, { tenant, id, intent, outcome }: StoredAction): Promise<void> {
  if (intent !== null) await deps.record(tenant, intent)
  if (outcome !== null) await deps.record(tenant, outcome)
  await markRecorded(deps.pool, tenant, id)
}

function subjectOf(action: StoredAction, intent: AuditEvent): ActionSubject {
  return {
    id: action.id,
    tenant: action.tenant,
    actor: action.principal,
    action: action.action,
    resource: action.resource,
    resourceType: intent.resource_type ?? action.resource,
    resourceId: intent.resource_id ?? null,
    traceId: intent.trace_id,
    requestId: intent.request_id,
  }
}
