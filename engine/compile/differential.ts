import { on } from 'node:events'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { Worker } from 'node:worker_threads'
import { SignetError } from '#core/error/signet-error.ts'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import { isLive } from '#core/policy/manifest.ts'
import { toOutcome, undecidable } from '#engine/evaluate/outcome.ts'
import type { SampleFault, SampleResults, SampleTask } from './differential-worker.ts'
import { sizedFor, writeAll } from './module.ts'
import type { OpaMemory } from './opa-memory.ts'
import { readOpaErrors, runOpa, type OpaResult } from './opa.ts'
import { ruleInvalid, type RuleProblem } from './problem.ts'
import type { CompiledRules } from './rule-set.ts'

/** A rule that wasm and OPA judge differently. */
export interface Difference {
  rule: string
  /** Which sample; one past their number and more: the same with all path templates matched. */
  sample: number
  wasm: RuleOutcome
  opa: RuleOutcome
}

export interface DifferentialOptions {
  module: CompiledRules
  samples: readonly DecisionInput[]
  /** Path of the OPA binary. */
  opa: string
  memory?: OpaMemory
  timeoutMs: number
  /** Compare these rules only: those that changed. */
  only?: ReadonlySet<string>
  /** Of one evaluation in wasm; default 5 s. */
  evaluationTimeoutMs?: number
}

/** Of the wasm instance, somewhat more than proxies give it (64), and of the thread's own heap: three trials may run at once. */
const MAX_MEMORY_MIB = 96
const MAX_HEAP_MIB = 192
const MAX_DIFFERENCES = 20
const LABELS = {}

/**
 * Compares what the module decides in wasm with what `opa eval` decides, on samples, each also with all path templates of the rules matched:
 * at most 20 differences; none, and the module may be activated. A rule that takes all the time or memory of an evaluation is one, and
 * keeps nobody else from being compared. wasm runs in a thread of its own, OPA in one process. Throws RULE_INVALID when a rule stops the
 * evaluation in OPA (it is the `file` of `details.errors`) or time runs out, OPA_UNAVAILABLE.
 */
export async function checkDifferential(options: DifferentialOptions): Promise<Difference[]> {
  const { module, sources } = options.module
  const isAsked = (id: string): boolean => options.only?.has(id) ?? true
  // Rules that are off are not in the aggregate, and decide nothing.
  const live = module.rules.filter(isLive).map(({ id }) => id)
  const rules = live.filter(isAsked)
  const inputs = withTemplates(options.samples, [
    ...new Set(module.rules.flatMap((rule) => rule.match_templates ?? [])),
  ])
  if (rules.length === 0 || inputs.length === 0) return []
  const deadline = performance.now() + options.timeoutMs
  const inWasm = await decideInWasm(options, live, inputs, deadline)
  const differences: Difference[] = []
  const exhausting = new Set<string>()
  for (const { rule, sample, isExhausted, reason } of inWasm.faults) {
    if (!isExhausted || exhausting.has(rule)) continue
    exhausting.add(rule)
    if (!isAsked(rule) || differences.length === MAX_DIFFERENCES) continue
    differences.push({
      rule,
      sample,
      wasm: undecidable(rule, `wasm: ${reason}`),
      opa: undecidable(rule, 'was not asked'),
    })
  }
  const compared = rules.filter((rule) => !exhausting.has(rule))
  if (compared.length === 0) return differences
  const inOpa = await decideInOpa(options, sources, compared, inputs, deadline).catch((error: unknown) => {
    // OPA names the first that stops it. Nobody has been compared; all that did not end in wasm are known.
    throw isNamed(error)
      ? ruleInvalid([...errorsOf(error), ...faultProblems(inWasm.faults, isAsked, errorsOf(error))])
      : error
  })
  for (const [sample] of inputs.entries()) {
    for (const rule of compared) {
      const wasm = inWasm.outcomes[sample]?.[rule]
      // Others took the time; they are named.
      if (wasm === undefined) continue
      const opa = outcomeOf(rule, inOpa[sample])
      if (isDeepStrictEqual(wasm, opa)) continue
      differences.push({ rule, sample, wasm, opa })
      if (differences.length >= MAX_DIFFERENCES) return differences
    }
  }
  return differences
}

/** The inputs of a rule pack's samples (`policies/README.md`), in the order of their paths. */
export async function readSamples(directory: string): Promise<DecisionInput[]> {
  const names = (await readdir(directory, { recursive: true })).filter((name) => name.endsWith('.json')).sort()
  return Promise.all(
    names.map(async (name) => {
      const { input } = JSON.parse(await readFile(join(directory, name), 'utf8')) as { input: DecisionInput }
      return input
    }),
  )
}

function withTemplates(samples: readonly DecisionInput[], templates: string[]): DecisionInput[] {
  const filled = (sample: DecisionInput, matched: string[]): DecisionInput => ({
    ...sample,
    request: { matched_templates: matched, ...sample.request },
    workload: { labels: LABELS, ...sample.workload },
  })
  const plain = samples.map((sample) => filled(sample, []))
  return templates.length === 0 ? plain : [...plain, ...samples.map((sample) => filled(sample, templates))]
}

type Decisions = Readonly<Record<string, unknown>> | undefined

function outcomeOf(rule: string, decisions: Decisions): RuleOutcome {
  return toOutcome(rule, decisions !== undefined && Object.hasOwn(decisions, rule) ? decisions[rule] : undefined)
}

/** In a thread: a rule that does not end must not hold the process. */
async function decideInWasm(
  { module: { module, wasm }, evaluationTimeoutMs = 5_000 }: DifferentialOptions,
  rules: readonly string[],
  inputs: readonly DecisionInput[],
  deadline: number,
): Promise<SampleResults & { faults: readonly SampleFault[] }> {
  const data: SampleTask = {
    wasm,
    module,
    rules,
    inputs: inputs.map((input) => JSON.stringify(input)),
    timeoutMs: evaluationTimeoutMs,
    maxMemoryMiB: MAX_MEMORY_MIB,
  }
  const worker = new Worker(new URL('differential-worker.ts', import.meta.url), {
    workerData: data,
    execArgv: [],
    env: {},
    resourceLimits: { maxOldGenerationSizeMb: MAX_HEAP_MIB },
  })
  const over = AbortSignal.timeout(Math.max(1, Math.ceil(deadline - performance.now())))
  const faults: SampleFault[] = []
  try {
    for await (const [message] of on(worker, 'message', { signal: over, close: ['exit'] })) {
      const told = message as SampleFault | SampleResults
      if ('outcomes' in told) return { ...told, faults }
      faults.push(told)
    }
    throw new Error('the thread ended')
  } catch (cause) {
    const why = over.aborted
      ? 'the rules did not judge the samples in time'
      : 'the rules could not be run on the samples'
    const errors = faultProblems(faults, () => true, [])
    throw new SignetError('RULE_INVALID', why, { details: { errors }, cause })
  } finally {
    await worker.terminate()
  }
}

/** For the authors of rules that did not end, but those of `known`: the first fault of each. */
function faultProblems(
  faults: readonly SampleFault[],
  isAsked: (id: string) => boolean,
  known: readonly RuleProblem[],
): RuleProblem[] {
  const told = new Set(known.map(({ file }) => file))
  const problems: RuleProblem[] = []
  for (const { rule, sample, reason } of faults) {
    if (told.has(rule) || !isAsked(rule)) continue
    told.add(rule)
    problems.push({ file: rule, line: 1, column: 1, message: `sample ${sample + 1}: the rule does not end: ${reason}` })
  }
  return problems
}

function errorsOf(error: SignetError): readonly RuleProblem[] {
  return (error.details?.['errors'] ?? []) as readonly RuleProblem[]
}

function isNamed(error: unknown): error is SignetError {
  return error instanceof SignetError && error.code === 'RULE_INVALID' && errorsOf(error).length > 0
}

async function decideInOpa(
  { opa: binary, memory }: DifferentialOptions,
  sources: CompiledRules['sources'],
  rules: readonly string[],
  inputs: readonly DecisionInput[],
  deadline: number,
): Promise<Decisions[]> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-differential-'))
  try {
    const owners = new Set(sources.decisions.keys())
    const asked = new Set(rules)
    const files = new Map([...sources.files].filter(([, { path }]) => !owners.has(path) || asked.has(path)))
    await writeAll(directory, files)
    await writeFile(join(directory, '_samples.json'), JSON.stringify({ signet_samples: inputs }))
    const decisions = rules.map((id) => `decisions[${JSON.stringify(id)}] := data.${sources.decisions.get(id)}`)
    const query = 'results[i] := d if { some i, sample in data.signet_samples; d := decisions with input as sample }'
    await writeFile(join(directory, '_query.rego'), ['package signet_check', query, ...decisions, ''].join('\n\n'))
    const names = [...files.keys(), '_query.rego', '_samples.json']
    const opa = { binary, directory, deadline, ...(memory === undefined ? {} : { memory }) }
    const result = await runOpa(sizedFor(opa, files.values()), [
      'eval',
      '--format=json',
      ...names.map((name) => `--data=${name}`),
      'data.signet_check.results',
    ])
    if (result.code !== 0) {
      // A rule that has two values at once stops the evaluation: whose it is, is in the error.
      throw ruleInvalid(readOpaErrors(toErrors(result), new Map([...files].map(([name, { path }]) => [name, path]))))
    }
    const { result: rows } = JSON.parse(result.stdout) as {
      result: [{ expressions: [{ value: Record<string, Decisions> }] }]
    }
    const byIndex = rows[0].expressions[0].value
    return inputs.map((_, index) => byIndex[String(index)])
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

function toErrors({ stdout, stderr }: OpaResult): string {
  return stdout.includes('"errors"') ? stdout : stderr || stdout
}
