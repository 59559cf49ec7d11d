import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import { sha256Hex } from '#engine/bundle/canonical.ts'
import { checkDifferential, type Difference } from '#engine/compile/differential.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import type { CompiledRules } from '#engine/compile/rule-set.ts'
import type { CandidateModule } from './activation-gate.ts'

export type DifferentialCheckOptions = {
  /** Inputs of the shipped samples (`readSamples`). */
  readonly samples: readonly DecisionInput[]
  /** Path of the OPA binary. */
  readonly opa: string
  readonly timeoutMs: number
  /** Default: the real one. */
  readonly check?: typeof checkDifferential
}

const MAX_SCOPES = 2_000

/**
 * For the activation gate: throws RULE_INVALID, naming the rules, when wasm and OPA decide differently on a sample. Rules that have not changed
 * since their scope last passed are not compared again: one changed rule among thousands is one comparison. Throws OPA_UNAVAILABLE.
 */
export function createDifferentialCheck(
  options: DifferentialCheckOptions,
): (candidate: CandidateModule) => Promise<void> {
  const { samples, opa, timeoutMs, check = checkDifferential } = options
  /** By scope: digest of each rule that passed. */
  const passed = new LRUCache<string, ReadonlyMap<string, string>>({ max: MAX_SCOPES })

  return async ({ module, wasm, sources }) => {
    if (sources === undefined) {
      throw new SignetError(
        'RULE_INVALID',
        `The module of ${module.scope} came without the Rego that it was compiled from`,
      )
    }
    const known = passed.get(module.scope)
    const now = ruleDigests({ module, wasm, sources })
    const only = new Set([...now].filter(([rule, digest]) => known?.get(rule) !== digest).map(([rule]) => rule))
    if (only.size > 0) {
      const differences = await check({ module: { module, wasm, sources }, samples, opa, timeoutMs, only })
      const guilty = [...new Set(differences.map(({ rule }) => rule))]
      if (guilty.length > 0) {
        throw new SignetError(
          'RULE_INVALID',
          `Not activated: wasm and OPA decide differently on the shipped samples: ${guilty.join(', ')}`,
          { details: { differences, errors: guilty.map((rule) => problemOf(rule, differences)) } },
        )
      }
    }
    passed.set(module.scope, now)
  }
}

/** For its author: where it first differs. */
function problemOf(rule: string, differences: readonly Difference[]): RuleProblem {
  const first = differences.find((difference) => difference.rule === rule)!
  const said = (outcome: RuleOutcome): string =>
    'undecidable' in outcome
      ? `undecidable (${outcome.undecidable.slice(0, 200)})`
      : `${outcome.decision.violations.length} violations`
  const message = `it is not put into force: on shipped sample ${first.sample} wasm says ${said(first.wasm)}, OPA ${said(first.opa)}`
  return { file: rule, line: 1, column: 1, message }
}

/** What each rule's decision depends on: the files that are its own (their path is the rule), and all that are no rule's. */
function ruleDigests({ module, sources }: CompiledRules): Map<string, string> {
  const own = new Map<string, string[]>(module.rules.map(({ id }) => [id, []]))
  const shared: string[] = []
  for (const [name, { path, text }] of sources.files) (own.get(path) ?? shared).push(name, text)
  const common = sha256Hex(JSON.stringify(shared))
  return new Map(module.rules.map((rule) => [rule.id, sha256Hex(JSON.stringify([rule, own.get(rule.id), common]))]))
}
