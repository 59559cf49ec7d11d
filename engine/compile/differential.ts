import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import { createWasmHost, WasmFault } from '#engine/evaluate/host.ts'
import { toOutcome, undecidable } from '#engine/evaluate/outcome.ts'
import { webAssembly } from '#engine/evaluate/webassembly.ts'
import { writeAll } from './module.ts'
import { readOpaErrors, runOpa, type OpaResult } from './opa.ts'
import { ruleInvalid } from './problem.ts'
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
  timeoutMs: number
  /** Compare these rules only: those that changed. */
  only?: ReadonlySet<string>
  /** Of one evaluation in wasm; default 5 s. */
  evaluationTimeoutMs?: number
}

const MAX_MEMORY_MIB = 256
const MAX_DIFFERENCES = 20
const LABELS = {}

/**
 * Compares what the module decides in wasm with what `opa eval` decides, on samples, each also with all path templates of the rules matched:
 * at most 20 differences; none, and the module may be activated. One OPA process. Throws RULE_INVALID when a rule stops the evaluation (it is the
 * `file` of `details.errors`) or time runs out, OPA_UNAVAILABLE.
 */
export async function checkDifferential(options: DifferentialOptions): Promise<Difference[]> {
  const { module, sources } = options.module
  const rules = module.rules.map(({ id }) => id).filter((id) => options.only?.has(id) ?? true)
  const inputs = withTemplates(options.samples, [
    ...new Set(module.rules.flatMap((rule) => rule.match_templates ?? [])),
  ])
  if (rules.length === 0 || inputs.length === 0) return []
  const [inWasm, inOpa] = await Promise.all([
    decideInWasm(options, inputs),
    decideInOpa(options, sources, rules, inputs),
  ])
  const differences: Difference[] = []
  for (const [sample] of inputs.entries()) {
    for (const rule of rules) {
      const opa = outcomeOf(rule, inOpa[sample])
      const wasm = outcomeOf(rule, inWasm[sample])
      if (isDeepStrictEqual(wasm, opa)) continue
      differences.push({ rule, sample, wasm, opa })
      if (differences.length === MAX_DIFFERENCES) return differences
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

type Decisions = Readonly<Record<string, unknown>> | WasmFault | undefined

function outcomeOf(rule: string, decisions: Decisions): RuleOutcome {
  if (decisions instanceof WasmFault) return undecidable(rule, `wasm: ${decisions.message}`)
  return toOutcome(rule, decisions !== undefined && Object.hasOwn(decisions, rule) ? decisions[rule] : undefined)
}

async function decideInWasm(options: DifferentialOptions, inputs: readonly DecisionInput[]): Promise<Decisions[]> {
  const compiled = await webAssembly.compile(options.module.wasm)
  const data = JSON.stringify({ policy: {} })
  const newHost = () => createWasmHost(compiled, { maxMemoryMiB: MAX_MEMORY_MIB, data })
  let host = newHost()
  const results: Decisions[] = []
  for (const input of inputs) {
    try {
      const entrypoint = host.entrypoints.get(options.module.module.aggregate)!
      const value = host.evaluate(entrypoint, JSON.stringify(input), options.evaluationTimeoutMs ?? 5_000)
      results.push(value as Decisions)
    } catch (error) {
      if (!(error instanceof WasmFault)) throw error
      results.push(error)
      host = newHost()
    }
    // Thousands of rules take milliseconds each time: others want the event loop, too.
    await new Promise((resolve) => setImmediate(resolve))
  }
  return results
}

async function decideInOpa(
  { opa: binary, timeoutMs, only }: DifferentialOptions,
  sources: CompiledRules['sources'],
  rules: readonly string[],
  inputs: readonly DecisionInput[],
): Promise<Decisions[]> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-differential-'))
  try {
    const owners = new Set(sources.decisions.keys())
    const files = new Map(
      [...sources.files].filter(([, { path }]) => only === undefined || !owners.has(path) || only.has(path)),
    )
    await writeAll(directory, files)
    await writeFile(join(directory, '_samples.json'), JSON.stringify({ signet_samples: inputs }))
    const decisions = rules.map((id) => `decisions[${JSON.stringify(id)}] := data.${sources.decisions.get(id)}`)
    const query = 'results[i] := d if { some i, sample in data.signet_samples; d := decisions with input as sample }'
    await writeFile(join(directory, '_query.rego'), ['package signet_check', query, ...decisions, ''].join('\n\n'))
    const names = [...files.keys(), '_query.rego', '_samples.json']
    const result = await runOpa({ binary, directory, deadline: performance.now() + timeoutMs }, [
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
