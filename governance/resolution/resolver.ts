import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoingForTenants, type TenantQueue } from '../background.ts'
import type { EventRules } from '../events/judge.ts'
import { recheck } from '../events/recheck.ts'
import {
  dueViolations,
  findEvent,
  findSettings,
  findViolation,
  insertAttempt,
  setViolation,
  type AttemptRow,
  type ViolationRow,
} from '../store/compliance.ts'
import { act, look, type Acted, type Seen } from './act.ts'
import type { BillingApi } from './billing.ts'
import { strategyOf } from './strategies.ts'

export type ResolverDeps = {
  readonly pool: Pool
  readonly runner: ActionRunner
  readonly eventRules: EventRules
  readonly billing: BillingApi | null
  readonly newId: () => string
  readonly clock: () => Date
  readonly log: Logger
  readonly onAttempt?: (outcome: AttemptRow['outcome']) => void
}

/** Tries to resolve what is open, by the strategy of its rule. Level-based: over rows, by every process. */
export type Resolver = TenantQueue

const LOOK_MS = 15_000
const BATCH = 20
const ACTOR = 'system/resolver'

export function createResolver(deps: ResolverDeps): Resolver {
  const { pool, log } = deps

  async function resolveDue(tenant: string, signal: AbortSignal): Promise<void> {
    const { mode, due } = await withTenant(
      pool,
      tenant,
      async (client) => ({
        mode: (await findSettings(client, tenant))?.mode ?? 'dry_run',
        due: await dueViolations(client, tenant, deps.clock(), BATCH),
      }),
      { readOnly: true },
    )
    if (mode === 'off') return
    for (const violation of due) {
      if (signal.aborted) return
      await resolveOne(deps, tenant, violation, mode === 'dry_run').catch((error: unknown) =>
        log.warn({ error, tenant, violation: violation.id }, 'a violation was not seen to; it is tried again'),
      )
    }
  }

  const onError = (error: unknown, tenant: string | null): void =>
    log.error({ error, tenant }, 'violations are not looked at; it is tried again')
  return keepDoingForTenants(pool, resolveDue, { everyMs: LOOK_MS, onError })
}

/** One try: look (outside of any transaction), then act, look again, and say what came of it, in one action. */
async function resolveOne(
  deps: ResolverDeps,
  tenant: string,
  { id, event_id, rule }: ViolationRow,
  dry: boolean,
): Promise<void> {
  const { pool, runner, newId, clock } = deps
  const strategy = strategyOf(rule)
  const event = await withTenant(pool, tenant, (client) => findEvent(client, tenant, event_id), { readOnly: true })
  if (event === null) return
  let seen: Seen = { kind: 'nothing' }
  let problem: string | null = null
  try {
    seen = await look(strategy, event, deps.billing)
  } catch (error) {
    problem = error instanceof SignetError ? error.message.slice(0, 500) : 'it could not be looked at'
  }
  const traceId = newTraceId()
  const request = {
    tenant,
    actor: ACTOR,
    action: 'execute',
    resource: 'violations',
    resourceId: id,
    wanted: { rule, strategy, dry_run: dry },
    traceId,
    requestId: traceId,
  } as const
  const outcome = await runner.runAsSystem(request, async (client) => {
    const violation = await findViolation(client, tenant, id, true)
    // A person, or another process, was faster.
    if (violation?.state !== 'open') return { result: null, before: null, after: { state: violation?.state ?? 'gone' } }
    const acted: Acted =
      problem === null
        ? await act(client, tenant, strategy, { violation, event, seen, dry })
        : { detail: problem, evidence: {}, isDone: false }
    const result =
      dry && problem === null
        ? 'would_act'
        : await outcomeOf(deps, client, tenant, { violation, acted, failed: problem !== null })
    await insertAttempt(client, tenant, id, {
      id: newId(),
      strategy,
      dry_run: dry,
      outcome: result,
      detail: acted.detail,
      evidence: acted.evidence,
    })
    if (result === 'resolved' || result === 'contained')
      await setViolation(client, tenant, id, {
        state: result,
        by: result === 'resolved' ? ACTOR : null,
        resolution: { by: 'system', strategy, detail: acted.detail, evidence: acted.evidence },
        now: clock(),
      })
    return {
      result,
      before: { state: violation.state },
      after: { strategy, outcome: result, detail: acted.detail, evidence: acted.evidence },
    }
  })
  if (outcome !== null) deps.onAttempt?.(outcome)
}

/** CRITICAL is contained and never closed here; everything else is closed only when a second look agrees. */
async function outcomeOf(
  { eventRules }: ResolverDeps,
  client: Client,
  tenant: string,
  { violation, acted, failed }: { violation: ViolationRow; acted: Acted; failed: boolean },
): Promise<AttemptRow['outcome']> {
  if (failed) return 'failed'
  if (violation.severity === 'critical') return acted.isDone === true ? 'contained' : 'not_resolved'
  if (acted.isDone !== null) return acted.isDone ? 'resolved' : 'not_resolved'
  const { holds } = await recheck(client, tenant, violation, eventRules)
  return holds ? 'not_resolved' : 'resolved'
}
