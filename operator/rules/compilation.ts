import { SignetError } from '#core/error/signet-error.ts'
import type { RuleObject } from '#core/rule/model.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import type { ModulePart } from '#operator/bundles/publisher.ts'
import { isForProxies, judgeAcceptance, type Compilation } from './decide.ts'
import { sameContent, type RuleView, type Scope } from './gather.ts'

export type CompileScope = (
  scope: Scope,
  rules: readonly RuleObject[],
) => Promise<{
  readonly module: BundleModule
  readonly problems: ReadonlyMap<string, readonly RuleProblem[]>
  /** Some of the problems were want of time or memory: when it is worth to compile again. */
  readonly retryAfterMs?: number
}>

/** What is known of a rule after compilation. */
type RuleResult = {
  readonly rule: RuleView
  readonly problems: readonly RuleProblem[]
  /** The compilation that was the first with this generation. */
  readonly serial: number
  /** What stays in force in its place. */
  readonly former: RuleView | null
}

export type ScopeCompilation = {
  /**
   * Compiles the scope's rules as they are now; resolves to when it is worth to do so again though nothing changes, in milliseconds.
   * @throws what is worth a retry: the compiler was not there
   */
  compile(rules: readonly RuleView[]): Promise<number | undefined>
  /** Of a rule in exactly that generation. */
  of(rule: RuleView): { readonly compilation: Compilation; readonly serial: number }
  /** For the publisher; null before the first compilation has ended. */
  readonly part: ModulePart | null
  readonly serial: number
}

/**
 * The compilations of one scope. A rule whose new generation does not compile keeps its last good one in force (a broken edit must not open what
 * the rule closed), as far as this process has seen it. When the whole scope cannot be compiled, the last module stays.
 */
export function createScopeCompilation(
  scope: Scope,
  deps: { readonly compile: CompileScope; readonly nextSerial: () => number },
): ScopeCompilation {
  let results = new Map<string, RuleResult>()
  /** By name: the last generation that went into a module. */
  let good = new Map<string, RuleView>()
  let module: BundleModule | null = null
  let isEmpty = false
  let failure: SignetError | null = null
  let serial = 0

  const attempt = async (rules: readonly RuleView[]): Promise<number | undefined> => {
    const former = new Map<string, RuleView>()
    let compiled = await deps.compile(scope, rules.map(toObject))
    const { problems, retryAfterMs } = compiled
    for (const rule of rules) {
      const last = good.get(rule.metadata.name)
      if (!problems.has(rule.metadata.name) || last === undefined || last.metadata.uid !== rule.metadata.uid) continue
      if (isForProxies(last) && !sameContent(last, rule)) former.set(rule.metadata.name, last)
    }
    if (former.size > 0) {
      compiled = await deps.compile(
        scope,
        rules.map((rule) => toObject(former.get(rule.metadata.name) ?? rule)),
      )
      // What was good for another compiler, or beside other rules, may not be any more.
      for (const name of compiled.problems.keys()) former.delete(name)
    }
    module = compiled.module
    serial = deps.nextSerial()
    const next = new Map<string, RuleResult>()
    const nextGood = new Map<string, RuleView>()
    for (const rule of rules) {
      const { name } = rule.metadata
      const known = results.get(name)
      const own = problems.get(name) ?? []
      const isKnown =
        known !== undefined && sameContent(known.rule, rule) && known.problems.length === 0 && own.length === 0
      next.set(name, {
        rule,
        problems: own,
        serial: isKnown ? known.serial : serial,
        former: former.get(name) ?? null,
      })
      const inForce = own.length === 0 ? rule : former.get(name)
      if (inForce !== undefined) nextGood.set(name, inForce)
    }
    results = next
    good = nextGood
    return retryAfterMs
  }

  return {
    async compile(all) {
      const rules = all.filter((rule) => judgeAcceptance(rule).accepted)
      // Rules of other stages are compiled too, to know whether they can be; they are in no module.
      isEmpty = scope !== 'root' && !rules.some(isForProxies)
      if (scope !== 'root' && rules.length === 0) {
        results = new Map()
        good = new Map()
        failure = null
        serial = deps.nextSerial()
        return undefined
      }
      try {
        const retryAfterMs = await attempt(rules)
        failure = null
        return retryAfterMs
      } catch (error) {
        failure =
          error instanceof SignetError ? error : new SignetError('INTERNAL', 'The compiler failed', { cause: error })
        throw error
      }
    },
    of(rule) {
      const result = results.get(rule.metadata.name)
      if (result !== undefined && sameContent(result.rule, rule)) {
        const formerGeneration = result.former?.metadata.generation ?? null
        const compilation: Compilation =
          result.problems.length === 0
            ? { state: 'compiled' }
            : { state: 'faulty', problems: result.problems, formerGeneration }
        return { compilation, serial: result.serial }
      }
      if (failure === null) return { compilation: { state: 'pending' }, serial: Infinity }
      const reason = failure.code === 'RULE_INVALID' ? 'ScopeTooLarge' : 'CompilerUnavailable'
      return { compilation: { state: 'failed', reason, message: failure.message }, serial: Infinity }
    },
    get part(): ModulePart | null {
      if (isEmpty) return { state: 'none' }
      if (module !== null) return { state: 'compiled', module }
      return failure === null ? null : { state: 'failed', error: failure }
    },
    get serial() {
      return serial
    },
  }
}

function toObject(rule: RuleView): RuleObject {
  return { name: rule.metadata.name, spec: rule.spec }
}
