import { createHash } from 'node:crypto'
import { joinOutcomes, type Judgement } from '#core/policy/join.ts'
import { FACT_NAMES, type DecisionInput, type FactName, type RuleOutcome } from '#core/policy/decision.ts'
import { isLive, type CompiledRule, type RuleMode } from '#core/policy/manifest.ts'
import { compileTemplates } from '#core/policy/templates.ts'
import type { Evaluator } from '#engine/evaluate/evaluator.ts'
import { pathReadings } from '../http/request-target.ts'
import { compileApprovals, type ApprovalTable } from './approvals.ts'
import { compileBlocks, type BlockTable } from './blocks.ts'
import type { ModeSetting, PolicyData, RouteData } from './data.ts'
import { NO_LABELS, type WorkloadLabels } from './labels.ts'
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
  /** The path templates of rules that a path matches, in any of its readings; sorted, to read only. */
  matchedTemplates(path: string): string[]
  /** Labels of the pod. */
  readonly labels: WorkloadLabels
  readonly approvals: ApprovalTable
  readonly blocks: BlockTable
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
  labels: WorkloadLabels = NO_LABELS,
): Policy {
  const templates = new Set((data.routes ?? []).map((route) => route.template))
  const approvalRoutes = [...new Set((data.approvals ?? []).map((approval) => approval.resource))]
    .filter((template) => !templates.has(template))
    .map((template): RouteData => ({ template }))
  const approvals = compileApprovals(data.approvals ?? [])
  const blocks = compileBlocks(data.blocks ?? [])
  // Maps, as a rule or a tenant may be called `constructor`.
  const ruleModes = new Map(Object.entries(data.modes?.rules ?? {}))
  const tenantModes = new Map(Object.entries(data.modes?.tenants ?? {}))
  const inForce = new Map(evaluator.rules.map((rule) => [rule.id, enforcementOf(rule, ruleModes.get(rule.id))]))
  const settings = [...inForce.values()].flatMap(({ general, tenants }) => [general, ...tenants.values()])
  const sampled = settings.some((setting) => (setting.percentage ?? 100) < 100)
  const byTenant = [...inForce.values()].some(({ tenants }) => tenants.size > 0)
  // A cached decision is the same object each time: so is its judgement, as long as no percentage depends on the request.
  const judgements = new WeakMap<readonly RuleOutcome[], Map<string, Judgement>>()

  let revisionValidUntilMs = -1
  let etagRevision = ''

  const ruleTemplates = compileTemplates(evaluator.rules.filter(isLive).flatMap((rule) => rule.match_templates ?? []))

  const modeOf = (rule: CompiledRule, tenant: string, requestId: string): RuleMode => {
    const { general, tenants } = inForce.get(rule.id) as Enforcement
    return settle(tenants.get(tenant) ?? general, rule.id, requestId)
  }

  return {
    revision: evaluator.revision,
    rules: evaluator.rules,
    wantedFacts: new Set(FACT_NAMES.filter((name) => evaluator.reads(`response.facts.${name}`))),
    readsBody: evaluator.reads('response.body'),
    readsCaller: evaluator.reads('request.caller') || blocks.readsCaller,
    matchedTemplates: (path) => (ruleTemplates.isEmpty ? NO_TEMPLATES : ruleTemplates.match(pathReadings(path))),
    labels,
    routes: compileRoutes([...(data.routes ?? []), ...approvalRoutes]),
    approvals,
    blocks,
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
      const join = (): Judgement =>
        joinOutcomes(evaluator.rules, outcomes, input.channel, (rule) => modeOf(rule, input.tenant, requestId))
      if (sampled) return join()
      // Where modes do not differ by tenant, its name, which may be of any number, stays out.
      const key = byTenant ? `${input.channel} ${input.tenant}` : input.channel
      let kept = judgements.get(outcomes)
      if (kept === undefined) judgements.set(outcomes, (kept = new Map()))
      let judgement = kept.get(key)
      if (judgement === undefined) {
        judgement = join()
        if (kept.size < MAX_KEPT_JUDGEMENTS) kept.set(key, judgement)
      }
      return judgement
    },
  }
}

const NO_TEMPLATES: string[] = []

/** Of one decision: there are two channels, and a proxy has one tenant. */
const MAX_KEPT_JUDGEMENTS = 64

type Enforcement = { readonly general: ModeSetting; readonly tenants: ReadonlyMap<string, ModeSetting> }
const NO_TENANTS: ReadonlyMap<string, ModeSetting> = new Map()

/** How far a rule is in force: what the policy data says of it, which replaces what the rule says of itself. */
function enforcementOf({ mode, enforcement }: CompiledRule, override: ModeSetting | undefined): Enforcement {
  if (override !== undefined) return { general: override, tenants: NO_TENANTS }
  const { percentage, tenants = {} } = enforcement ?? {}
  const general: ModeSetting = percentage === undefined ? { mode } : { mode, percentage }
  return { general, tenants: new Map(Object.entries(tenants)) }
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
