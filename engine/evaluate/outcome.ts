import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { RuleDecision, type RuleOutcome } from '#core/policy/decision.ts'

const checker = Compile(RuleDecision)
const sentinelChecker = Compile(Type.Object({ evaluated: Type.Literal(true) }))

/**
 * What a rule's entrypoint gave, as an outcome. Anything but a whole `RuleDecision` with its sentinel is undecidable.
 * wasm gives sets as arrays in no order: violations and regulations are sorted, so that the same judgement is the same value.
 */
export function toOutcome(rule: string, value: unknown): RuleOutcome {
  if (value === undefined) return undecidable(rule, 'the rule has no decision')
  if (!checker.Check(value)) {
    if (!sentinelChecker.Check(value)) {
      return undecidable(rule, 'the decision lacks the sentinel evaluated: true')
    }
    const error = checker.Errors(value)[0]
    return undecidable(
      rule,
      `the decision has the wrong form: ${error?.instancePath || '/'} ${error?.message ?? ''}`.trim(),
    )
  }
  const violations =
    value.violations.length > 1 ? sortByText(value.violations, (v) => JSON.stringify(v)) : value.violations
  const decision: RuleDecision = { ...value, violations }
  if (value.regulations !== undefined) decision.regulations = [...new Set(value.regulations)].sort()
  return deepFreeze({ rule, decision })
}

export function undecidable(rule: string, reason: string): RuleOutcome {
  return Object.freeze({ rule, undecidable: reason })
}

function sortByText<T>(items: readonly T[], textOf: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, text: textOf(item) }))
    .sort((a, b) => (a.text < b.text ? -1 : a.text > b.text ? 1 : 0))
    .map(({ item }) => item)
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const member of Object.values(value)) deepFreeze(member)
  }
  return value
}
