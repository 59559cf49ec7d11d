import { checkRuleObject, type SpecFault } from '#core/rule/check.ts'
import type { ComplianceRuleStatus } from '#core/rule/model.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import { conditionsPrint, toCondition, type ConditionFacts } from '#operator/kubernetes/conditions.ts'
import type { RuleView } from './gather.ts'

export type Acceptance = { readonly accepted: true } | { readonly accepted: false; readonly message: string }

export type Compilation =
  | { readonly state: 'pending' }
  | { readonly state: 'compiled' }
  /** `formerGeneration`: what stays in force instead; null: nothing. */
  | { readonly state: 'faulty'; readonly problems: readonly RuleProblem[]; readonly formerGeneration: number | null }
  /** Not this rule's fault: the compiler is not there, or the scope is too large. */
  | { readonly state: 'failed'; readonly reason: 'CompilerUnavailable' | 'ScopeTooLarge'; readonly message: string }

export type Distribution =
  /** Rules of stages that governance judges. */
  | { readonly state: 'not-for-proxies' }
  | { readonly state: 'pending' }
  | { readonly state: 'refused'; readonly reason: 'ActivationRefused' | 'PublicationFailed'; readonly message: string }
  | { readonly state: 'held'; readonly message: string }
  | {
      readonly state: 'counted'
      readonly expected: number
      readonly current: number
      /** Of the bundle of the rule's own namespace that was the first with this generation. */
      readonly revision: string | null
      /** False in the first seconds of a term, while proxies have not had the time to report. */
      readonly settled: boolean
    }

export type RuleFacts = {
  readonly rule: RuleView
  readonly acceptance: Acceptance
  readonly compilation: Compilation
  readonly distribution: Distribution
  readonly nowMs: number
}

/** Reasons of `Distributed` that come from counting. */
const COUNTED: ReadonlySet<string> = new Set(['AllProxies', 'InProgress', 'NoProxies'])
const MAX_ERRORS = 20
const MAX_MESSAGE_CHARS = 2_000

const acceptances = new WeakMap<RuleView, Acceptance>()

/** Whether the object is one that can be compiled: what the CRD's schema asks for, and what it cannot express. Once for each view. */
export function judgeAcceptance(rule: RuleView): Acceptance {
  const known = acceptances.get(rule)
  if (known !== undefined) return known
  const [first, ...rest] = faultsOf(rule)
  const more = rest.length > 0 ? ` (and ${rest.length} more)` : ''
  const acceptance: Acceptance =
    first === undefined
      ? { accepted: true }
      : { accepted: false, message: cut(`${first.path} ${first.message}${more}`) }
  acceptances.set(rule, acceptance)
  return acceptance
}

function faultsOf(rule: RuleView): SpecFault[] {
  try {
    return checkRuleObject({ name: rule.metadata.name, spec: rule.spec })
  } catch (error) {
    // The API server takes ten thousand levels where no schema bounds them.
    if (!(error instanceof RangeError)) throw error
    return [{ path: 'spec', message: 'is nested too deep' }]
  }
}

/**
 * A rule as it is kept: one that is not valid without its spec, which nobody is going to compile, and which may be of any size where the CRD
 * was changed.
 */
export function keepJudged(rule: RuleView): RuleView {
  const acceptance = judgeAcceptance(rule)
  if (acceptance.accepted) return rule
  const bare: RuleView = { ...rule, spec: {} as RuleView['spec'] }
  acceptances.set(bare, acceptance)
  return bare
}

/** Whether proxies judge by the rule; `event` and `scan` are governance's. */
export function isForProxies(rule: RuleView): boolean {
  return (rule.spec.stage ?? 'egress') === 'egress'
}

/** The status that a rule should have. Pure: the previous one gives only what is to be kept (times of transition, revision). */
export function decideStatus(facts: RuleFacts): ComplianceRuleStatus {
  const { rule, compilation, distribution } = facts
  const generation = rule.metadata.generation ?? 0
  const previous = rule.status
  const conditions = [accepted(facts), compiled(facts), distributed(facts)].map((condition) =>
    toCondition(condition, generation, previous?.conditions, facts.nowMs),
  )
  const isSame = previous?.observedGeneration === generation
  const counted = compilation.state === 'compiled' && distribution.state === 'counted' ? distribution : null
  // A rule keeps the revision that first had it, though others' changes make new ones, and this process may not have seen it.
  const revision =
    counted === null ? undefined : firstRevision(isSame ? previous.revision : undefined, counted.revision)
  return {
    observedGeneration: generation,
    conditions,
    ...(compilation.state === 'faulty' ? { errors: toErrors(compilation.problems) } : {}),
    ...(revision === undefined ? {} : { revision }),
    ...(counted === null ? {} : { distribution: { expected: counted.expected, current: counted.current } }),
  }
}

/** What was written before counts, unless it cannot be: no revision of ours, or a later one than what is known now. */
function firstRevision(written: string | undefined, known: string | null): string | undefined {
  if (known === null) return undefined
  const sequence = (revision: string): number => Number(/^(\d{1,16})-[0-9a-f]{16}$/.exec(revision)?.[1] ?? Infinity)
  return written !== undefined && sequence(written) <= sequence(known) ? written : known
}

/** Two statuses with the same print tell a reader the same; counts go along with a transition, they are none. */
export function statusPrint(status: ComplianceRuleStatus): string {
  return JSON.stringify([
    status.observedGeneration,
    status.revision,
    status.errors?.map(({ line, column, message }) => [line, column, message]),
    conditionsPrint(status.conditions),
  ])
}

/** Whether its author should hear of it at once. */
export function isFaulty(acceptance: Acceptance, compilation: Compilation): boolean {
  return !acceptance.accepted || compilation.state === 'faulty' || compilation.state === 'failed'
}

/** One word for metrics. */
export type RuleState = 'invalid' | 'faulty' | 'pending' | 'distributing' | 'in_force' | 'for_governance'
export const RULE_STATES: readonly RuleState[] = [
  'invalid',
  'faulty',
  'pending',
  'distributing',
  'in_force',
  'for_governance',
]

export function ruleState({ acceptance, compilation, distribution }: RuleFacts): RuleState {
  if (!acceptance.accepted) return 'invalid'
  if (compilation.state === 'faulty' || compilation.state === 'failed') return 'faulty'
  if (compilation.state === 'pending') return 'pending'
  if (distribution.state === 'not-for-proxies') return 'for_governance'
  return distribution.state === 'counted' && distribution.current >= distribution.expected ? 'in_force' : 'distributing'
}

function accepted({ acceptance }: RuleFacts): ConditionFacts {
  return acceptance.accepted
    ? { type: 'Accepted', status: 'True', reason: 'Valid', message: 'The rule is valid' }
    : { type: 'Accepted', status: 'False', reason: 'InvalidSpec', message: acceptance.message }
}

function compiled({ acceptance, compilation }: RuleFacts): ConditionFacts {
  const type = 'Compiled'
  if (!acceptance.accepted) return { type, status: 'False', reason: 'NotAccepted', message: 'The rule is not valid' }
  switch (compilation.state) {
    case 'pending':
      return { type, status: 'Unknown', reason: 'Pending', message: 'The rule has not been compiled yet' }
    case 'compiled':
      return { type, status: 'True', reason: 'Compiled', message: 'The rule compiles' }
    case 'failed':
      return { type, status: 'False', reason: compilation.reason, message: cut(compilation.message) }
    case 'faulty': {
      const [first] = compilation.problems
      const where = first === undefined ? '' : `${first.line}:${first.column}: ${first.message}`
      const more = compilation.problems.length > 1 ? ` (and ${compilation.problems.length - 1} more)` : ''
      const former =
        compilation.formerGeneration === null
          ? '; the rule is not in force'
          : `; generation ${compilation.formerGeneration} stays in force`
      return { type, status: 'False', reason: 'DoesNotCompile', message: cut(`${where}${more}${former}`) }
    }
  }
}

function distributed({ rule, acceptance, compilation, distribution }: RuleFacts): ConditionFacts {
  const type = 'Distributed'
  if (isFaulty(acceptance, compilation)) {
    return { type, status: 'False', reason: 'NotCompiled', message: 'This generation of the rule is not in a bundle' }
  }
  if (distribution.state === 'not-for-proxies') {
    const message = `Rules of stage ${rule.spec.stage} are not judged by proxies`
    return { type, status: 'False', reason: 'NotDistributedToProxies', message }
  }
  if (compilation.state === 'pending' || distribution.state === 'pending') {
    return { type, status: 'Unknown', reason: 'Pending', message: 'The rule is not in a bundle yet' }
  }
  if (distribution.state === 'refused') {
    return { type, status: 'False', reason: distribution.reason, message: cut(distribution.message) }
  }
  if (distribution.state === 'held') {
    return { type, status: 'False', reason: 'RollbackInForce', message: cut(distribution.message) }
  }
  const { expected, current, settled } = distribution
  if (expected === 0 && !settled) {
    // Nobody has had the time to report: what was written in the term before is the better knowledge.
    const before = rule.status?.conditions?.find((condition) => condition.type === type)
    const isKnowledge = before !== undefined && COUNTED.has(before.reason)
    if (isKnowledge && before.observedGeneration === rule.metadata.generation) return before
  }
  if (expected === 0) {
    return { type, status: 'True', reason: 'NoProxies', message: 'No running proxy should have the rule' }
  }
  if (current >= expected) {
    return { type, status: 'True', reason: 'AllProxies', message: 'Every running proxy that should have the rule does' }
  }
  const message = 'Not every running proxy that should have the rule does'
  return { type, status: 'False', reason: 'InProgress', message }
}

function toErrors(problems: readonly RuleProblem[]): NonNullable<ComplianceRuleStatus['errors']> {
  return problems.slice(0, MAX_ERRORS).map(({ line, column, message }) => ({
    line: Math.max(1, line),
    column: Math.max(1, column),
    message: cut(message),
  }))
}

function cut(text: string): string {
  return text.length > MAX_MESSAGE_CHARS ? `${text.slice(0, MAX_MESSAGE_CHARS - 1)}…` : text
}
