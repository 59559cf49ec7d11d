import type { JsonObject } from '#core/json/value.ts'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import { compileTemplates } from '#core/policy/templates.ts'
import { defaultInput, mergeOver, type RuleSample, type Want } from '#core/rule/sample.ts'
import { checkDifferential } from '#engine/compile/differential.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import { compileRuleSet, type CompiledRules } from '#engine/compile/rule-set.ts'
import { ModuleRunner } from '#engine/evaluate/module-runner.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'
import type { LoadedRule, LoadedSample } from './load.ts'

/** What became of one sample, or of a rule without any. */
export interface Verdict {
  rule: string
  file: string
  title: string
  want: Want | null
  got: Want | 'no such rule' | 'does not compile' | 'another answer in opa eval' | null
  /** Why, in a few words; empty where there is nothing to say. */
  reason: string
}

const EVALUATION = { timeoutMs: 1_000, maxMemoryMiB: 64 }

/**
 * Compiles the rules as the operator does, and judges each sample in wasm as the proxy does and in `opa eval`. Throws OPA_UNAVAILABLE, and
 * RULE_INVALID where the rules are too many for the time.
 */
export async function judgeSamples(
  rules: readonly LoadedRule[],
  samples: readonly LoadedSample[],
  options: { opa: string; timeoutMs: number },
): Promise<{ verdicts: Verdict[]; problems: ReadonlyMap<string, readonly RuleProblem[]> }> {
  const { module, problems } = await compileRuleSet({ scope: 'root', rules: rules.map(({ rule }) => rule), ...options })
  const inputs = samples.map(({ sample }) => inputOf(sample, module))
  const runner = new ModuleRunner(await webAssembly.compile(module.wasm), module.module, '{"policy":{}}', {
    ...EVALUATION,
    backoffMs: { first: 0, longest: 0 },
    now: () => performance.now(),
    onFault: () => {},
  })
  const different = await differences(module, samples, inputs, options)
  const verdicts = samples.map(({ sample, rule, file }, index): Verdict => {
    const verdict = { rule, file, title: sample.title, want: sample.want }
    if (problems.has(rule)) return { ...verdict, got: 'does not compile', reason: '' }
    const outcome = runner
      .run(JSON.stringify(inputs[index]), sample.unread ?? [])
      .outcomes.find((each) => each.rule === rule)
    if (outcome === undefined) return { ...verdict, got: 'no such rule', reason: '' }
    if (different.has(`${rule} ${index}`)) return { ...verdict, got: 'another answer in opa eval', reason: '' }
    return { ...verdict, ...answerOf(outcome) }
  })
  runner.close()
  const tried = new Set(samples.map(({ rule }) => rule))
  for (const { rule, file } of rules) {
    if (tried.has(rule.name)) continue
    const got = problems.has(rule.name) ? 'does not compile' : null
    verdicts.push({ rule: rule.name, file, title: '(no samples)', want: null, got, reason: '' })
  }
  return { verdicts, problems }
}

function inputOf(sample: RuleSample, { module }: CompiledRules): DecisionInput {
  const merged = mergeOver(defaultInput() as unknown as JsonObject, (sample.input ?? {}) as JsonObject)
  const input = merged as unknown as DecisionInput
  if (input.request.matched_templates === undefined) {
    const segments = String(input.request.path as unknown)
      .toLowerCase()
      .split('/')
      .filter((segment) => segment !== '')
    const templates = compileTemplates(module.rules.flatMap((rule) => rule.match_templates ?? []))
    input.request.matched_templates = templates.match([segments])
  }
  return input
}

function answerOf(outcome: RuleOutcome): { got: Want; reason: string } {
  if ('undecidable' in outcome) return { got: 'undecidable', reason: outcome.undecidable }
  const { violations, outside } = outcome.decision
  if (violations.length === 0) return { got: 'allow', reason: outside === true ? 'the rule does not apply' : '' }
  const more = violations.length > 1 ? ` (and ${violations.length - 1} more)` : ''
  return { got: 'violations', reason: `${violations[0]!.message.split('\n', 1)[0]}${more}` }
}

/** `RULE INDEX` of what wasm and OPA judge differently. */
async function differences(
  module: CompiledRules,
  samples: readonly LoadedSample[],
  inputs: readonly DecisionInput[],
  options: { opa: string; timeoutMs: number },
): Promise<Set<string>> {
  const only = new Set(samples.map(({ rule }) => rule))
  const found = await checkDifferential({ module, samples: inputs, only, ...options })
  // Past their number, the same samples with all templates matched.
  return new Set(found.map(({ rule, sample }) => `${rule} ${sample % inputs.length}`))
}
