import type { RuleOutcome } from '#core/policy/decision.ts'
import { isLive, type CompiledModule, type CompiledRule } from '#core/policy/manifest.ts'
import { createWasmHost, WasmFault, type FaultKind, type WasmHost } from './host.ts'
import { toOutcome, undecidable } from './outcome.ts'
import { pathsMeet } from './paths.ts'
import type { WasmModule } from './webassembly.ts'

/** What could not be evaluated, for logs and metrics. */
export interface RuleFault {
  /** A rule's id, or `*` for all of a module. */
  rule: string
  kind: FaultKind
  reason: string
}

export interface RunnerOptions {
  timeoutMs: number
  maxMemoryMiB: number
  /** First and longest pause of a rule that by itself took all the time or memory; doubles in between. */
  backoffMs: { first: number; longest: number }
  /** Monotonic milliseconds. */
  now: () => number
  onFault: (fault: RuleFault) => void
}

export interface RunResult {
  outcomes: RuleOutcome[]
  /** True when an outcome is due to a fault, a pause or the machine, so that the same input may be judged otherwise next time. */
  faulted: boolean
}

interface LiveRule {
  rule: CompiledRule
  /** Id in outcomes. */
  name: string
  /** What it reads that could not be determined for this input, while its guard is known: only that it is outside counts. */
  unread: string | undefined
  /** Times in a row that it took all the time or memory by itself. */
  strikes: number
  pausedUntil: number
}

/** Evaluates the rules of one module: all at once; when that fails, one by one, so that one rule's fault is its own. */
export class ModuleRunner {
  readonly #module: WasmModule
  readonly #aggregate: string
  readonly #hasSelector: boolean
  readonly #rules: LiveRule[]
  readonly #data: string
  readonly #options: RunnerOptions
  #host: WasmHost | null = null

  /** Throws Error when the module cannot be run, or lacks an entrypoint. */
  constructor(wasm: WasmModule, compiled: CompiledModule, data: string, options: RunnerOptions) {
    this.#module = wasm
    this.#aggregate = compiled.aggregate
    this.#hasSelector = compiled.selector !== undefined
    this.#data = data
    this.#options = options
    this.#rules = compiled.rules.filter(isLive).map((rule) => ({
      rule,
      name: outcomeName(compiled.scope, rule.id),
      unread: undefined,
      strikes: 0,
      pausedUntil: -Infinity,
    }))
    const { entrypoints } = this.#liveHost()
    for (const name of [compiled.aggregate, ...compiled.rules.map((rule) => rule.entrypoint)]) {
      if (!entrypoints.has(name)) throw new Error(`the module ${compiled.path} has no entrypoint ${name}`)
    }
  }

  /** `input`: JSON text. `unread`: paths below `input` that could not be determined. Takes at most three times `timeoutMs`. */
  run(input: string, unread: readonly string[]): RunResult {
    const now = this.#options.now()
    const given = new Map<string, RuleOutcome>()
    const wanted: LiveRule[] = []
    let faulted = false
    for (const live of this.#rules) {
      const path = unread.find((candidate) => live.rule.reads.some((read) => pathsMeet(read, candidate)))
      live.unread = path
      if (path !== undefined && !isGuardKnown(live.rule, unread)) given.set(live.name, undetermined(live.name, path))
      else if (live.pausedUntil > now) {
        given.set(live.name, undecidable(live.name, 'paused after it took all the time or memory there is'))
        faulted = true
      } else wanted.push(live)
    }
    if (wanted.length > 0) {
      // A rule that was paused is on probation: it runs alone until it finishes once.
      const sound = this.#rules.every((live) => live.strikes === 0)
      const result = sound ? this.#runAll(input, wanted, given) : 'rule fault'
      if (result === 'rule fault') this.#runEach(input, wanted, given)
      if (result !== 'done') faulted = true
    }
    const outcomes = this.#rules.map((live) => given.get(live.name) ?? undecidable(live.name, 'was not evaluated'))
    return { outcomes, faulted }
  }

  close(): void {
    this.#host = null
  }

  #runAll(
    input: string,
    wanted: readonly LiveRule[],
    given: Map<string, RuleOutcome>,
  ): 'done' | 'rule fault' | 'input fault' {
    let decisions: unknown
    try {
      decisions = this.#evaluate(this.#aggregate, input, this.#options.timeoutMs)
    } catch (error) {
      if (!(error instanceof WasmFault)) throw error
      if (error.kind !== 'input') return 'rule fault'
      this.#refuseInput(error, wanted, given)
      return 'input fault'
    }
    for (const live of wanted) given.set(live.name, this.#outcomeOf(live, ownMember(decisions, live.rule.id)))
    return 'done'
  }

  #outcomeOf({ name, unread }: LiveRule, value: unknown): RuleOutcome {
    const outcome = toOutcome(name, value)
    if (unread === undefined || ('decision' in outcome && outcome.decision.outside === true)) return outcome
    return undetermined(name, unread)
  }

  #runEach(input: string, wanted: readonly LiveRule[], given: Map<string, RuleOutcome>): void {
    const { timeoutMs, now, onFault } = this.#options
    const deadline = now() + 2 * timeoutMs
    for (const live of wanted) {
      const { name, rule } = live
      const remainingMs = Math.floor(deadline - now())
      if (remainingMs < 1) {
        given.set(name, undecidable(name, 'not evaluated: other rules took the time'))
        continue
      }
      const limitMs = Math.min(timeoutMs, remainingMs)
      try {
        given.set(name, this.#outcomeOf(live, this.#evaluateOne(rule, input, limitMs)))
        live.strikes = 0
      } catch (error) {
        if (!(error instanceof WasmFault)) throw error
        if (error.kind === 'input') return this.#refuseInput(error, wanted, given)
        given.set(name, undecidable(name, `could not be evaluated: ${error.message}`))
        if (error.kind === 'memory' || (error.kind === 'timeout' && limitMs === timeoutMs)) this.#pause(live)
        onFault({ rule: name, kind: error.kind, reason: error.message })
      }
    }
  }

  /** The decision of one rule, by its own entrypoint or by the module's selector. */
  #evaluateOne({ id, entrypoint }: CompiledRule, input: string, timeoutMs: number): unknown {
    if (!this.#hasSelector) return this.#evaluate(entrypoint, input, timeoutMs)
    // The input is an object with members.
    const selecting = `{"signet_only":${JSON.stringify(id)},${input.slice(1)}`
    return ownMember(this.#evaluate(entrypoint, selecting, timeoutMs), id)
  }

  /** Where the input cannot be read, no rule can be judged, and none is to blame. */
  #refuseInput(fault: WasmFault, wanted: readonly LiveRule[], given: Map<string, RuleOutcome>): void {
    for (const { name } of wanted) given.set(name, undecidable(name, fault.message))
    this.#options.onFault({ rule: '*', kind: fault.kind, reason: fault.message })
  }

  #pause(live: LiveRule): void {
    const { first, longest } = this.#options.backoffMs
    live.pausedUntil = this.#options.now() + Math.min(longest, first * 2 ** live.strikes)
    live.strikes = Math.min(live.strikes + 1, 30)
  }

  #evaluate(entrypoint: string, input: string, timeoutMs: number): unknown {
    const host = this.#liveHost()
    try {
      const value = host.evaluate(host.entrypoints.get(entrypoint)!, input, timeoutMs)
      // wasm memory never shrinks: past three quarters of the maximum the instance is let go.
      if (host.memoryBytes > this.#options.maxMemoryMiB * 0.75 * 1024 * 1024) this.#host = null
      return value
    } catch (error) {
      this.#host = null
      throw error
    }
  }

  #liveHost(): WasmHost {
    this.#host ??= createWasmHost(this.#module, { maxMemoryMiB: this.#options.maxMemoryMiB, data: this.#data })
    return this.#host
  }
}

/** Whether what decides that the rule applies could be determined. */
function isGuardKnown({ guard }: CompiledRule, unread: readonly string[]): boolean {
  return guard !== undefined && !unread.some((path) => guard.some((read) => pathsMeet(read, path)))
}

function undetermined(name: string, path: string): RuleOutcome {
  return undecidable(name, `${path || 'the input'} could not be determined`)
}

function ownMember(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined
  return (value as Record<string, unknown>)[name]
}

/** A rule's id in outcomes: root rules by their id, a namespace's as `NAMESPACE/id`, so that none can take another's name. */
export function outcomeName(scope: string, id: string): string {
  return scope === 'root' ? id : `${scope.slice('namespace/'.length)}/${id}`
}
