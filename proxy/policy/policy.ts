import { createHash } from 'node:crypto'
import { joinOutcomes, type Judgement } from '#core/policy/join.ts'
import { FACT_NAMES, type DecisionInput, type FactName, type RuleOutcome } from '#core/policy/decision.ts'
import type { CompiledRule, RuleMode } from '#core/policy/manifest.ts'
import type { Evaluator } from '#engine/evaluate/evaluator.ts'
import { compileApprovals, type ApprovalTable } from './approvals.ts'
import type { ModeSetting, PolicyData, RouteData } from './data.ts'
import { compileRoutes, type RouteTable } from './routes.ts'

/**
 * The policy in force: one bundle's rules and one version of the policy data, immutable. An exchange takes it once, at its
 * start, and keeps it to its end, so that a reload in between changes nothing half-way.
 */
export type Policy = {
  readonly revision: string
  readonly rules: readonly CompiledRule[]
  readonly wantedFacts: ReadonlySet<FactName>
  readonly readsBody: boolean
  readonly readsCaller: boolean
  readonly routes: RouteTable
  readonly approvals: ApprovalTable
  readonly stampsEnabled: boolean
  readonly auditEnabled: boolean
  /** Twelve hex digits that change whenever an answer allowed before could be refused now: rules, data, expired approvals. */
  etagRevision(nowMs: number): string
  /** The tenant's mode for this request. Outside of its percentage, `enforce` falls back to `shadow`, `shadow` to `off`. */
  tenantMode(tenant: string, requestId: string): RuleMode
  /** `body`: see `Evaluator.evaluate`. */
  judge(input: DecisionInput, undecidable: readonly string[], requestId: string, body?: Uint8Array): Judgement
}

export function createPolicy(
  evaluator: Evaluator,
  data: PolicyData,
  dataDigest: string,
  defaultMode: RuleMode,
): Policy {
  const templates = new Set((data.routes ?? []).map((route) => route.template))
  const approvalRoutes = [...new Set((data.approvals ?? []).map((approval) => approval.resource))]
    .filter((template) => !templates.has(template))
    .map((template): RouteData => ({ template }))
  const approvals = compileApprovals(data.approvals ?? [])
  // Maps, as a rule or a tenant may be called `constructor`.
  const ruleModes = new Map(Object.entries(data.modes?.rules ?? {}))
  const tenantModes = new Map(Object.entries(data.modes?.tenants ?? {}))
  const sampled = [...ruleModes.values()].some((setting) => (setting.percentage ?? 100) < 100)
  // A cached decision is the same object each time: so is its judgement, as long as no percentage depends on the request.
  const judgements = new WeakMap<readonly RuleOutcome[], Map<string, Judgement>>()

  let revisionValidUntilMs = -1
  let etagRevision = ''

  const modeOf = (rule: CompiledRule, requestId: string): RuleMode => {
    const setting = ruleModes.get(rule.id)
    return setting === undefined ? rule.mode : settle(setting, rule.id, requestId)
  }

  return {
    revision: evaluator.revision,
    rules: evaluator.rules,
    wantedFacts: new Set(FACT_NAMES.filter((name) => evaluator.reads(`response.facts.${name}`))),
    readsBody: evaluator.reads('response.body'),
    readsCaller: evaluator.reads('request.caller'),
    routes: compileRoutes([...(data.routes ?? []), ...approvalRoutes]),
    approvals,
    stampsEnabled: data.flags?.['compliance.stamps.v1'] ?? true,
    auditEnabled: data.flags?.['audit.enhanced.v1'] ?? true,
    etagRevision(nowMs) {
      if (nowMs >= revisionValidUntilMs) {
        etagRevision = createHash('sha256')
          .update(`${evaluator.revision}\n${dataDigest}\n${approvals.inForce(nowMs)}`)
          .digest('hex')
          .slice(0, 12)
        revisionValidUntilMs = approvals.nextExpiryMs(nowMs)
      }
      return etagRevision
    },
    tenantMode(tenant, requestId) {
      const setting = tenantModes.get(tenant) ?? tenantModes.get('*')
      return setting === undefined ? defaultMode : settle(setting, 'tenant', requestId)
    },
    judge(input, undecidable, requestId, body) {
      const outcomes = evaluator.evaluate(input, undecidable, body)
      if (sampled) return joinOutcomes(evaluator.rules, outcomes, input.channel, (rule) => modeOf(rule, requestId))
      let byChannel = judgements.get(outcomes)
      if (byChannel === undefined) judgements.set(outcomes, (byChannel = new Map()))
      let judgement = byChannel.get(input.channel)
      if (judgement === undefined) {
        judgement = joinOutcomes(evaluator.rules, outcomes, input.channel, (rule) => modeOf(rule, requestId))
        byChannel.set(input.channel, judgement)
      }
      return judgement
    },
  }
}

/** Applies a percentage, the same way for every retry of one request: by our own request id, which no client chooses. */
function settle(setting: ModeSetting, salt: string, requestId: string): RuleMode {
  const percentage = setting.percentage ?? 100
  if (percentage >= 100 || bucketOf(salt, requestId) < percentage) return setting.mode
  return setting.mode === 'enforce' ? 'shadow' : 'off'
}

/** 0–99, evenly spread; salted, so that two rules at 10 % do not hit the same requests. */
function bucketOf(salt: string, requestId: string): number {
  return createHash('sha256').update(`${salt}\n${requestId}`).digest().readUInt32BE(0) % 100
}
