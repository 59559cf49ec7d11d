import { createHash } from 'node:crypto'
import { SignetError } from '#core/error/signet-error.ts'
import type { DecisionInput } from '#core/policy/decision.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { checkDifferential } from '#engine/compile/differential.ts'
import type { OpaMemoryLanes } from '#engine/compile/opa-memory.ts'
import { ruleInvalid } from '#engine/compile/problem.ts'
import { compileRuleSet } from '#engine/compile/rule-set.ts'

export type CompilerDeps = {
  /** Path of the OPA binary; undefined: there is none, and no policy can be made. */
  readonly opa: string | undefined
  readonly memory: OpaMemoryLanes
  /** What a policy is tried on, in wasm and in OPA, before it is taken. */
  readonly samples: readonly DecisionInput[]
}

/** What a policy says, as far as compiling it goes. */
export type PolicySource = {
  readonly rule_id: string
  readonly description: string
  readonly rego_content: string
  readonly regulation_refs: readonly string[]
  readonly severity: RuleObject['spec']['severity']
  readonly mode: 'shadow' | 'enforce'
}

export type CompiledPolicy = { readonly entrypoint: string; readonly wasm: Buffer; readonly digest: string }

const TIMEOUT_MS = 20_000

/** As a rule of its tenant's bundle. `tenant` null: as its author wrote it, to be evaluated alone. */
export function policyRule(source: PolicySource, tenant: string | null): RuleObject {
  return {
    name: source.rule_id,
    spec: {
      description: source.description,
      ...(source.regulation_refs.length === 0 ? {} : { frameworks: [...source.regulation_refs] }),
      severity: source.severity,
      ...(tenant === null ? {} : { match: { tenants: [tenant] } }),
      enforcement: { mode: source.mode },
      rego: source.rego_content,
    },
  }
}

/** The policy by itself. @throws SignetError RULE_INVALID with line and column of each problem (`details.errors`), OPA_UNAVAILABLE */
export async function compilePolicy(deps: CompilerDeps, source: PolicySource): Promise<CompiledPolicy> {
  const { opa, memory, samples } = deps
  if (opa === undefined)
    throw new SignetError('OPA_UNAVAILABLE', 'this governance has no OPA (SIGNET_OPA): it cannot compile policies')
  const rule = policyRule(source, null)
  const { module, problems } = await compileRuleSet({
    scope: 'root',
    rules: [rule],
    opa,
    memory: memory.checks,
    timeoutMs: TIMEOUT_MS,
  })
  const found = problems.get(rule.name)
  if (found !== undefined) throw ruleInvalid(found.map((problem) => ({ ...problem, file: 'rego_content' })))
  const differences = await checkDifferential({ module, samples, opa, memory: memory.checks, timeoutMs: TIMEOUT_MS })
  const [first] = differences
  if (first !== undefined) {
    const why =
      'undecidable' in first.wasm ? first.wasm.undecidable : 'decides otherwise in wasm than in OPA; proxies run wasm'
    throw ruleInvalid([{ file: 'rego_content', line: 1, column: 1, message: `on sample ${first.sample + 1}: ${why}` }])
  }
  const entrypoint = module.module.rules.find(({ id }) => id === rule.name)?.entrypoint
  if (entrypoint === undefined) throw new SignetError('INTERNAL', 'the compiled policy has no entrypoint')
  return { entrypoint, wasm: module.wasm, digest: createHash('sha256').update(module.wasm).digest('hex') }
}

const SLUG_CHARS = 40

/** What a policy is called in decisions: from its name, for people, and its id, so that it is nobody else's. */
export function ruleIdOf(name: string, id: string): string {
  const slug = name
    .toLowerCase()
    .normalize('NFKD')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^[^a-z]+/, '')
    .slice(0, SLUG_CHARS)
    .replace(/-+$/, '')
  return `${slug === '' ? 'policy' : slug}-${id.replaceAll('-', '').slice(-12)}`
}
