import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { DecisionInput } from '#core/policy/decision.ts'
import type { RuleObject } from '#core/rule/model.ts'
import type { RuleSource } from '#engine/compile/compile.ts'
import { checkDifferential, readSamples } from '#engine/compile/differential.ts'
import type { OpaMemory, OpaMemoryLanes } from '#engine/compile/opa-memory.ts'
import { readPackSources } from '#engine/compile/pack-sources.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import { compileRuleSet, createCompileCache, type CompiledRules } from '#engine/compile/rule-set.ts'
import type { CompileScope } from './rules/compilation.ts'

const STANDARD_PACK = fileURLToPath(new URL('../policies/standard/', import.meta.url))
/** Prepared rules kept, some KB each: the largest cluster that is promised, twice. */
const CACHED_RULES = 8_000
/** A namespace that takes longer goes on where it was the next time, after others had their turn. */
const NAMESPACE_TIMEOUT_MS = 30_000
/** Rules that are tried in one module: a trial takes time with the product of its rules and their path templates. */
const TRIAL_RULES = 100
/** Rules that are left out because of their decisions, one compilation each, before the scope as a whole is refused. */
const MAX_ROUNDS = 6
/** What failed its trial may have failed for want of time: it is tried again, each time after twice as long. */
const RETRY_MS = { first: 10_000, longest: 5 * 60_000 }

/** The Rego files of the shipped rules. */
export const readStandardSources = (): Promise<RuleSource[]> => readPackSources(STANDARD_PACK)

/** Inputs that new rules are tried on. */
export function readStandardSamples(directory = join(STANDARD_PACK, 'samples')): Promise<DecisionInput[]> {
  return readSamples(directory)
}

export type CompilerOptions = {
  readonly opa: string
  readonly memory: Pick<OpaMemoryLanes, 'root' | 'namespaces'>
  /** Of one compilation, and of one trial. */
  readonly timeoutMs: number
  /** Part of the root scope. */
  readonly files: readonly RuleSource[]
  readonly samples: readonly DecisionInput[]
  /** The trial, and the monotonic clock; for tests. */
  readonly differential?: typeof checkDifferential
  readonly now?: () => number
}

type FailedTrial = { readonly problems: RuleProblem[]; readonly retryAtMs: number; readonly waitMs: number }

/**
 * Compiles scopes with OPA, and tries what is new in them on the samples, in wasm and in OPA, before anybody may publish it: a rule that the two
 * judge differently, or that stops the evaluation, is left out and reported as if it did not compile. What was tried is not tried again.
 */
export function createCompiler(options: CompilerOptions): CompileScope {
  const cache = createCompileCache({ maxEntries: CACHED_RULES })
  const passed = new LRUCache<string, true>({ max: CACHED_RULES })
  const failing = new LRUCache<string, FailedTrial>({ max: CACHED_RULES })
  const now = options.now ?? (() => performance.now())
  const differential = options.differential ?? checkDifferential

  const timeoutOf = (scope: string): number =>
    scope === 'root' ? options.timeoutMs : Math.min(options.timeoutMs, NAMESPACE_TIMEOUT_MS)
  const memoryOf = (scope: string): OpaMemory => options.memory[scope === 'root' ? 'root' : 'namespaces']
  const compile = (scope: string, rules: readonly RuleObject[], files = scope === 'root' ? options.files : []) =>
    compileRuleSet({
      scope,
      rules,
      ...(files.length === 0 ? {} : { files }),
      opa: options.opa,
      memory: memoryOf(scope),
      timeoutMs: timeoutOf(scope),
      cache,
    })
  const tryModule = (module: CompiledRules, only: ReadonlySet<string>): Promise<Trial> => {
    const { opa, samples } = options
    const { scope } = module.module
    const trial = { module, samples, opa, memory: memoryOf(scope), timeoutMs: timeoutOf(scope), only }
    return faultsOf(only, () => differential(trial))
  }
  /** In modules of their own: nobody else's rules are evaluated, and nobody else's path templates are in the input. */
  const tryInBatches = async (
    scope: string,
    rules: readonly RuleObject[],
    only: ReadonlySet<string>,
  ): Promise<Trial> => {
    const own = rules.filter(({ name }) => only.has(name))
    const names = new Set(own.map(({ name }) => name))
    const shipped = new Set([...only].filter((id) => !names.has(id)))
    const faults = new Map<string, RuleProblem[]>()
    const compared = new Set<string>()
    const take = (trial: Trial): void => {
      for (const [id, problems] of trial.faults) faults.set(id, problems)
      for (const id of trial.compared) compared.add(id)
    }
    if (shipped.size > 0) take(await tryModule((await compile(scope, [])).module, shipped))
    for (let from = 0; from < own.length; from += TRIAL_RULES) {
      const batch = own.slice(from, from + TRIAL_RULES)
      const { module } = await compile(scope, batch, [])
      take(await tryModule(module, new Set(batch.map(({ name }) => name))))
    }
    return { faults, compared }
  }
  /** Rules that fail their trial, and why. */
  const tryOut = async (
    scope: string,
    rules: readonly RuleObject[],
    module: CompiledRules,
  ): Promise<{ faults: Map<string, RuleProblem[]>; retryAfterMs: number }> => {
    const prints = printsOf(scope, module)
    const only = new Set([...prints].filter(([, print]) => !passed.has(print)).map(([id]) => id))
    if (only.size === 0) return { faults: new Map(), retryAfterMs: Infinity }
    const known = new Map<string, RuleProblem[]>()
    let retryAfterMs = Infinity
    for (const id of only) {
      const failed = failing.get(prints.get(id)!)
      if (failed === undefined || now() >= failed.retryAtMs) continue
      known.set(id, failed.problems)
      if (isForTime(failed.problems)) retryAfterMs = Math.min(retryAfterMs, failed.retryAtMs - now())
    }
    // Not run again with each change beside it.
    if (known.size > 0) return { faults: known, retryAfterMs }
    const isSmall = prints.size <= TRIAL_RULES
    const { faults, compared } = await (isSmall ? tryModule(module, only) : tryInBatches(scope, rules, only))
    for (const [id, problems] of faults) {
      const print = prints.get(id)!
      const waitMs = Math.min(RETRY_MS.longest, Math.max(RETRY_MS.first, 2 * (failing.get(print)?.waitMs ?? 0)))
      failing.set(print, { problems, waitMs, retryAtMs: now() + waitMs })
      if (isForTime(problems)) retryAfterMs = Math.min(retryAfterMs, waitMs)
    }
    for (const id of compared) if (!faults.has(id)) passed.set(prints.get(id)!, true)
    return { faults, retryAfterMs }
  }

  return async (scope, rules) => {
    const failed = new Map<string, readonly RuleProblem[]>()
    const retries: number[] = []
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const compiled = await compile(
        scope,
        rules.filter(({ name }) => !failed.has(name)),
      )
      if (compiled.retryAfterMs !== undefined) retries.push(compiled.retryAfterMs)
      const { faults, retryAfterMs } = await tryOut(scope, rules, compiled.module)
      if (retryAfterMs < Infinity) retries.push(retryAfterMs)
      const shipped = [...faults].find(([id]) => !rules.some(({ name }) => name === id))
      if (shipped !== undefined) throw refused(`the shipped rule ${shipped[0]}: ${shipped[1][0]?.message}`)
      if (faults.size === 0) {
        const problems = new Map([...compiled.problems, ...failed])
        return {
          module: compiled.module,
          problems,
          ...(retries.length > 0 ? { retryAfterMs: Math.min(...retries) } : {}),
        }
      }
      for (const [id, problems] of faults) failed.set(id, problems)
    }
    throw refused('rules go on failing on the samples')
  }
}

/** As `checkDifferential` says it too. */
const DOES_NOT_END = 'does not end'

/** Another time it may go. What decides otherwise, or twice, does so for ever. */
function isForTime(problems: readonly RuleProblem[]): boolean {
  return problems.some(({ message }) => message.includes(`the rule ${DOES_NOT_END}: `))
}

/** `compared`: none where the evaluation was stopped by one of them. */
type Trial = { readonly faults: Map<string, RuleProblem[]>; readonly compared: ReadonlySet<string> }

async function faultsOf(only: ReadonlySet<string>, run: () => ReturnType<typeof checkDifferential>): Promise<Trial> {
  const faults = new Map<string, RuleProblem[]>()
  try {
    for (const { rule, sample, wasm } of await run()) {
      const why =
        'undecidable' in wasm && wasm.undecidable.startsWith('wasm: ')
          ? `${DOES_NOT_END}: ${wasm.undecidable.slice('wasm: '.length)}`
          : 'decides otherwise in wasm than in OPA; proxies run wasm'
      const message = `sample ${sample + 1}: the rule ${why}`
      if (!faults.has(rule)) faults.set(rule, [{ file: rule, line: 1, column: 1, message }])
    }
    return { faults, compared: only }
  } catch (error) {
    // A rule that stops the evaluation is named; what names nobody is the scope's.
    const errors = error instanceof SignetError ? ((error.details?.['errors'] ?? []) as readonly RuleProblem[]) : []
    for (const problem of errors) {
      if (only.has(problem.file)) faults.set(problem.file, [...(faults.get(problem.file) ?? []), problem])
    }
    if (faults.size === 0) throw error
    return { faults, compared: new Set() }
  }
}

/** What decides, by rule: of its own files, and what is shared by all. */
function printsOf(scope: string, { module, sources }: CompiledRules): Map<string, string> {
  const ids = new Set(module.rules.map(({ id }) => id))
  const own = new Map<string, ReturnType<typeof createHash>>()
  const shared = createHash('sha256').update(scope)
  for (const [name, { path, text }] of [...sources.files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (!ids.has(path)) {
      shared.update(JSON.stringify([name, text]))
      continue
    }
    const hash = own.get(path) ?? createHash('sha256')
    own.set(path, hash.update(JSON.stringify([name, text])))
  }
  const common = shared.digest('hex')
  return new Map(
    module.rules.map((rule) => {
      const hash = own.get(rule.id) ?? createHash('sha256')
      return [rule.id, hash.update(JSON.stringify(rule)).update(common).digest('base64')]
    }),
  )
}

function refused(message: string): SignetError {
  return new SignetError('RULE_INVALID', message, { details: { errors: [] } })
}
