import { parentPort, workerData } from 'node:worker_threads'
import type { RuleOutcome } from '#core/policy/decision.ts'
import type { CompiledModule } from '#core/policy/manifest.ts'
import { ModuleRunner, outcomeName } from '#engine/evaluate/module-runner.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'

/** What the thread of `checkDifferential` is given. */
export type SampleTask = {
  readonly wasm: Uint8Array
  readonly module: CompiledModule
  /** Ids of the live rules, in the order of the module. */
  readonly rules: readonly string[]
  /** JSON texts. */
  readonly inputs: readonly string[]
  readonly timeoutMs: number
  readonly maxMemoryMiB: number
}

export type SampleResults = {
  /** By input: outcomes by rule id; a rule that could not be judged for want of time or memory is missing. */
  readonly outcomes: readonly Readonly<Record<string, RuleOutcome>>[]
}

/** A rule that did not end: it took all the time or memory there is, or stopped by itself. Sent as it happens. */
export type SampleFault = {
  readonly rule: string
  readonly sample: number
  readonly isExhausted: boolean
  readonly reason: string
}

/** Judges the samples as a proxy does: all rules at once, and where that fails each by itself. */
async function judgeSamples(task: SampleTask): Promise<SampleResults> {
  const { module, rules, timeoutMs, maxMemoryMiB } = task
  const ids = new Map(rules.map((id) => [outcomeName(module.scope, id), id]))
  const ended = new Set<string>()
  let sample = 0
  const runner = new ModuleRunner(await webAssembly.compile(task.wasm), module, JSON.stringify({ policy: {} }), {
    timeoutMs,
    maxMemoryMiB,
    // One that exhausted a sample is not asked again.
    backoffMs: { first: Number.MAX_SAFE_INTEGER, longest: Number.MAX_SAFE_INTEGER },
    now: () => performance.now(),
    onFault({ rule, kind, reason }) {
      const isExhausted = kind === 'timeout' || kind === 'memory'
      if (!isExhausted) ended.add(rule)
      const id = ids.get(rule)
      if (id !== undefined) parentPort!.postMessage({ rule: id, sample, isExhausted, reason } satisfies SampleFault)
    },
  })
  const outcomes: Record<string, RuleOutcome>[] = []
  for (const input of task.inputs) {
    ended.clear()
    const result = runner.run(input, [])
    const byRule: Record<string, RuleOutcome> = {}
    for (const outcome of result.outcomes) {
      const rule = ids.get(outcome.rule)
      const isFault = result.faulted && 'undecidable' in outcome && !ended.has(outcome.rule) && !ended.has('*')
      if (rule !== undefined && !isFault) byRule[rule] = { ...outcome, rule }
    }
    outcomes.push(byRule)
    sample += 1
  }
  return { outcomes }
}

parentPort!.postMessage(await judgeSamples(workerData as SampleTask))
