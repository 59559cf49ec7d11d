import { SignetError } from '#core/error/signet-error.ts'
import { newTraceId } from '#runtime/identifier.ts'
import { withTenant, type Client } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { ActionRunner } from '../actions/runner.ts'
import { keepDoingForTenants, type TenantQueue } from '../background.ts'
import type { EventRules } from '../events/judge.ts'
import { recheck } from '../events/recheck.ts'
import { findEvent, findViolation, setViolation, type ViolationRow } from '../store/compliance.ts'
import { dueViolations, findSettings, insertAttempt, type AttemptRow, type Settings } from '../store/resolution.ts'
import { act, look, type LookDeps, type Seen } from './act.ts'
import { ACTOR, type Acted } from './acted.ts'
import { strategyOf, type Strategy } from './strategies.ts'

export type ResolverDeps = LookDeps & {
  readonly runner: ActionRunner
  readonly eventRules: EventRules
  readonly log: Logger
  /** What a tenant's proxies hold back is another now. */
  readonly onBlocks: (tenant: string) => void
  readonly onAttempt?: (outcome: AttemptRow['outcome']) => void
}

/** Tries to resolve what is open, by the strategy of its rule. Level-based: over rows, by every process. */
export type Resolver = TenantQueue

const LOOK_MS = 15_000
const BATCH = 20
/** Tenants side by side: connectors may hang for all of their time. */
const AT_ONCE = 8

export function createResolver(deps: ResolverDeps): Resolver {
  const { pool, log } = deps

  async function resolveDue(tenant: string, signal: AbortSignal): Promise<void> {
    const { settings, due } = await withTenant(
      pool,
      tenant,
      async (client) => ({
        settings: await findSettings(client, tenant),
        due: await dueViolations(client, tenant, deps.clock(), BATCH),
      }),
      { readOnly: true },
    )
    if (settings.mode === 'off') return
    for (const violation of due) {
      if (signal.aborted) return
      await resolveOne(deps, tenant, violation, settings).catch((error: unknown) =>
        log.warn({ error, tenant, violation: violation.id }, 'a violation was not seen to; it is tried again'),
      )
    }
  }

  const onError = (error: unknown, tenant: string | null): void =>
    log.error({ error, tenant }, 'violations are not looked at; it is tried again')
  return keepDoingForTenants(pool, resolveDue, { everyMs: LOOK_MS, atOnce: AT_ONCE, onError })
}

/** One try: look (outside of any transaction), then act, look again, and say what came of it, in one action. */
async function resolveOne(deps: ResolverDeps, tenant: string, found: ViolationRow, settings: Settings): Promise<void> {
  const { pool, runner, newId, clock } = deps
  const { id, event_id, rule } = found
  const dry = settings.mode === 'dry_run'
  const strategy = strategyOf(rule, settings.strategies)
  const event = await withTenant(pool, tenant, (client) => findEvent(client, tenant, event_id), { readOnly: true })
  if (event === null) return
  let seen: Seen = { kind: 'nothing' }
  let problem: string | null = null
  try {
    seen = await look(strategy, deps, tenant, { violation: found, event })
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
  const done = await runner.runAsSystem(request, async (client) => {
    const violation = await findViolation(client, tenant, id, true)
    // A person, or another process, was faster.
    if (violation?.state !== 'open') return { result: null, before: null, after: { state: violation?.state ?? 'gone' } }
    const scene = { client, tenant, violation, event, settings, dry, newId, now: clock() }
    const acted: Acted =
      problem === null
        ? await act(strategy, scene, seen, deps.eventRules)
        : { detail: problem, evidence: {}, isDone: false }
    const result =
      dry && problem === null
        ? 'would_act'
        : await outcomeOf(deps, client, tenant, { violation, strategy, acted, failed: problem !== null })
    await insertAttempt(client, tenant, {
      id: newId(),
      violation_id: id,
      strategy,
      dry_run: dry,
      outcome: result,
      detail: acted.detail,
      evidence: acted.evidence,
      undo: acted.undo ?? null,
    })
    if (result === 'resolved' || result === 'contained')
      await setViolation(client, tenant, id, {
        state: result,
        by: result === 'resolved' ? ACTOR : null,
        resolution: { by: 'system', strategy, detail: acted.detail, evidence: acted.evidence },
        now: clock(),
      })
    return {
      result: { outcome: result, changesProxies: acted.changesProxies === true },
      before: { state: violation.state },
      after: { strategy, outcome: result, detail: acted.detail, evidence: acted.evidence },
    }
  })
  if (done === null) return
  if (done.changesProxies) deps.onBlocks(tenant)
  deps.onAttempt?.(done.outcome)
}

/** CRITICAL, and whatever is held back at the proxies, is contained and never closed here; everything else is closed only when a second look agrees. */
async function outcomeOf(
  { eventRules }: ResolverDeps,
  client: Client,
  tenant: string,
  {
    violation,
    strategy,
    acted,
    failed,
  }: { violation: ViolationRow; strategy: Strategy; acted: Acted; failed: boolean },
): Promise<AttemptRow['outcome']> {
  if (failed) return 'failed'
  if (acted.isDone === 'waiting') return 'waiting'
  if (violation.severity === 'critical' || strategy === 'MAOS-action-block')
    return acted.isDone === true ? 'contained' : 'not_resolved'
  if (acted.isDone !== null) return acted.isDone ? 'resolved' : 'not_resolved'
  const { holds } = await recheck(client, tenant, violation, eventRules)
  return holds ? 'not_resolved' : 'resolved'
}
