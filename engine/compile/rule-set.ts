import { createHash } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { CompiledModule } from '#core/policy/manifest.ts'
import type { RuleObject, Stage } from '#core/rule/model.ts'
import { OPERATORS_REGO } from '#core/rule/rego.ts'
import { maxWasmBytes } from '#engine/bundle/layout.ts'
import { aggregateOf, modulePath, prepareSources, selectorOf, type RuleSource } from './compile.ts'
import { buildWasm, type ModuleFile } from './module.ts'
import type { OpaMemory } from './opa-memory.ts'
import type { OpaProcess } from './opa.ts'
import { prepareRules, type Preparation } from './prepare.ts'
import { compareText, type RuleProblem } from './problem.ts'

/** Of one scope. What is beyond, in the order of names, is left out and reported. */
export const MAX_RULES = 5_000
const MAX_TOTAL_BYTES = 16 << 20
/** A rule's time-out may be the machine's fault: it is tried again, each time after twice as long. */
const RETRY_MS = { first: 5_000, longest: 5 * 60_000 }
const FINAL_BUILD_ATTEMPTS = 3
/** OPA takes time with the product of entrypoints and rules: 400 of them half a second, 3,500 half a minute. */
const MAX_ENTRYPOINTS = 400
const OPERATORS_FILE = '_operators.rego'

/** Keeps what was prepared of each rule, so that one changed rule among thousands is cheap. */
export interface CompileCache {
  /** @internal */
  get(key: string): Preparation | undefined
  /** @internal */
  set(key: string, preparation: Preparation): void
  /** @internal Milliseconds until what failed for want of time or memory is tried again; undefined for all else. */
  retryAfterMs(key: string): number | undefined
  /** @internal The rule files that were compiled last. */
  pack: { key: string; prepared: PreparedPack } | undefined
  readonly size: number
}

type PreparedPack = Awaited<ReturnType<typeof prepareSources>>

export interface RuleSetOptions {
  /** `root`, or `namespace/NAME`. */
  scope: string
  /** At most 5,000, 16 MiB together. */
  rules: readonly RuleObject[]
  /** Rule files with `# METADATA` and their libraries: the standard pack. A fault in one fails the whole. */
  files?: readonly RuleSource[]
  /** Path of the OPA binary. */
  opa: string
  /** What its processes share with those of others. */
  memory?: OpaMemory
  /** For the whole compilation. */
  timeoutMs: number
  cache?: CompileCache
  /** Rules of this stage go in; default egress. */
  stage?: Stage
  /** With more rules, the module has a selector instead of an entrypoint each; default 400. */
  maxEntrypoints?: number
}

export interface CompiledRuleSet {
  module: CompiledRules
  /** By rule name, of the rules that were left out; `file` is the name, line and column are those in `spec.rego`. */
  problems: ReadonlyMap<string, readonly RuleProblem[]>
  /** Some were left out for want of time or memory: when it is worth to compile again. Only with a cache. */
  retryAfterMs?: number
}

/** A module with the Rego that it was compiled from, for `checkDifferential`. */
export interface CompiledRules {
  module: CompiledModule
  wasm: Buffer
  sources: {
    files: ReadonlyMap<string, ModuleFile>
    /** By rule id: where its decision is, `signet.root.pii.decision`. */
    decisions: ReadonlyMap<string, string>
  }
}

/** `maxEntries`: rules kept, some KB each. `now`: monotonic milliseconds. */
export function createCompileCache(options: { maxEntries: number; now?: () => number }): CompileCache {
  const now = options.now ?? (() => performance.now())
  const entries = new LRUCache<string, { preparation: Preparation; retryAtMs: number; waitMs: number }>({
    max: options.maxEntries,
  })
  return {
    pack: undefined,
    get(key) {
      const found = entries.get(key)
      return found === undefined || found.retryAtMs <= now() ? undefined : found.preparation
    },
    set(key, preparation) {
      const formerMs = entries.get(key)?.waitMs ?? 0
      const isTransient = preparation.isTransient === true
      const waitMs = isTransient ? Math.min(RETRY_MS.longest, Math.max(RETRY_MS.first, 2 * formerMs)) : 0
      entries.set(key, { preparation, waitMs, retryAtMs: isTransient ? now() + waitMs : Infinity })
    },
    retryAfterMs(key) {
      const { retryAtMs = Infinity } = entries.peek(key) ?? {}
      return retryAtMs === Infinity ? undefined : Math.max(0, retryAtMs - now())
    },
    get size() {
      return entries.size
    },
  }
}

/**
 * Compiles the rules of one scope, and rule files, to one wasm module. A rule that is faulty, too large or too slow to compile is left
 * out and reported; the others go in. Rules of stages other than `stage` are checked and left out. Deterministic.
 * Throws RULE_INVALID (a rule file is faulty, or the set as a whole is too much), OPA_UNAVAILABLE.
 */
export async function compileRuleSet(options: RuleSetOptions): Promise<CompiledRuleSet> {
  const { scope, files = [], cache, stage = 'egress' } = options
  return inFolder(options, async (opa) => {
    const problems = new Map<string, readonly RuleProblem[]>()
    const rules = withinLimits(options.rules, problems)
    const pack = await preparePack(opa, scope, files, cache)
    const keys = new Map(rules.map((rule) => [rule.name, digestOf([scope, rule.name, rule.spec])]))
    const known = new Map<string, Preparation>()
    for (const { name } of rules) {
      const found = cache?.get(keys.get(name)!)
      if (found !== undefined) known.set(name, found)
    }
    const fresh = await prepareRules(
      opa,
      scope,
      rules.filter(({ name }) => !known.has(name)),
      (name, preparation) => cache?.set(keys.get(name)!, preparation),
    )
    const taken = new Set(pack.rules.map((rule) => rule.id))
    const included: Included[] = []
    for (const { name, spec } of rules) {
      const preparation = known.get(name) ?? fresh.get(name)!
      if (preparation.problems !== undefined) problems.set(name, preparation.problems)
      else if (taken.has(name)) problems.set(name, [problem(name, 'metadata.name: a shipped rule has this name')])
      else if ((spec.stage ?? 'egress') === stage) included.push(preparation.prepared)
    }
    const module = await build(opa, scope, pack, included, problems, options.maxEntrypoints ?? MAX_ENTRYPOINTS)
    const retries = [...problems.keys()].flatMap((name) => cache?.retryAfterMs(keys.get(name) ?? '') ?? [])
    return { module, problems, ...(retries.length === 0 ? {} : { retryAfterMs: Math.min(...retries) }) }
  })
}

/** What keeps a rule from being compiled by itself; empty: nothing. Some 60 ms. Throws OPA_UNAVAILABLE. */
export async function checkRule(
  rule: RuleObject,
  options: { opa: string; memory?: OpaMemory; timeoutMs: number },
): Promise<readonly RuleProblem[]> {
  return inFolder(options, async (opa) => {
    const [preparation] = [...(await prepareRules(opa, 'root', [rule])).values()]
    return preparation?.problems ?? []
  })
}

async function inFolder<T>(
  options: { opa: string; memory?: OpaMemory; timeoutMs: number },
  run: (opa: OpaProcess) => Promise<T>,
): Promise<T> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-compile-'))
  try {
    const { opa: binary, memory, timeoutMs } = options
    const deadline = performance.now() + timeoutMs
    return await run({ binary, directory, deadline, ...(memory === undefined ? {} : { memory }) })
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

async function preparePack(
  opa: OpaProcess,
  scope: string,
  files: readonly RuleSource[],
  cache: CompileCache | undefined,
): Promise<PreparedPack> {
  const key = digestOf([scope, files.map(({ path, text }) => [path, text])])
  const kept = cache?.pack
  if (kept?.key === key) return kept.prepared
  const prepared = await prepareSources(opa, scope, files)
  if (cache !== undefined && files.length > 0) cache.pack = { key, prepared }
  return prepared
}

type Included = Extract<Preparation, { problems?: undefined }>['prepared']

async function build(
  opa: OpaProcess,
  scope: string,
  pack: PreparedPack,
  rules: readonly Included[],
  problems: Map<string, readonly RuleProblem[]>,
  maxEntrypoints: number,
): Promise<CompiledRules> {
  let live = rules
  for (let attempt = 1; ; attempt += 1) {
    const files = new Map(pack.files)
    if (live.length > 0) files.set(OPERATORS_FILE, { path: OPERATORS_FILE, text: OPERATORS_REGO })
    for (const rule of live) for (const [name, file] of rule.files) files.set(name, file)
    const compiled = [...pack.rules, ...live.map((rule) => rule.compiled)].sort((a, b) => compareText(a.id, b.id))
    const aggregate = aggregateOf(scope)
    const decisions = new Map(compiled.map(({ id, entrypoint }) => [id, entrypoint.replaceAll('/', '.')]))
    const sources = { files, decisions }
    try {
      if (compiled.length <= maxEntrypoints) {
        const wasm = await buildWasm(opa, files, compiled, aggregate, maxWasmBytes(scope))
        return { wasm, sources, module: { scope, path: modulePath(scope), aggregate, rules: compiled } }
      }
      const selector = selectorOf(scope)
      const wasm = await buildWasm(opa, files, compiled, aggregate, maxWasmBytes(scope), selector)
      const selected = compiled.map((rule) => ({ ...rule, entrypoint: selector }))
      return { wasm, sources, module: { scope, path: modulePath(scope), aggregate, selector, rules: selected } }
    } catch (error) {
      // Each rule compiled alone: this should not happen. If it does, whoever is named is left out.
      const guilty = attempt < FINAL_BUILD_ATTEMPTS ? guiltyRules(error, live) : undefined
      if (guilty === undefined) throw error
      for (const [name, found] of guilty) problems.set(name, found)
      live = live.filter((rule) => !guilty.has(rule.compiled.id))
    }
  }
}

function guiltyRules(error: unknown, rules: readonly Included[]): Map<string, RuleProblem[]> | undefined {
  if (!(error instanceof SignetError) || error.code !== 'RULE_INVALID') return undefined
  const found = (error.details?.['errors'] ?? []) as readonly RuleProblem[]
  const names = new Set(rules.map((rule) => rule.compiled.id))
  const guilty = Map.groupBy(
    found.filter(({ file }) => names.has(file)),
    ({ file }) => file,
  )
  return guilty.size > 0 ? guilty : undefined
}

/** Rules in the order of their names, as far as they are not too many. */
function withinLimits(rules: readonly RuleObject[], problems: Map<string, readonly RuleProblem[]>): RuleObject[] {
  const within: RuleObject[] = []
  let bytes = 0
  for (const rule of [...rules].sort((a, b) => compareText(a.name, b.name))) {
    if (within.at(-1)?.name === rule.name) {
      throw new SignetError('RULE_INVALID', `two rules have the name ${rule.name}`, { details: { errors: [] } })
    }
    const size = JSON.stringify(rule.spec ?? null).length
    if (within.length >= MAX_RULES) {
      problems.set(rule.name, [problem(rule.name, `there are more than ${MAX_RULES} rules in this scope`)])
    } else if (bytes + size > MAX_TOTAL_BYTES) {
      problems.set(rule.name, [
        problem(rule.name, `the rules of this scope are larger than ${MAX_TOTAL_BYTES >> 20} MiB together`),
      ])
    } else {
      bytes += size
      within.push(rule)
    }
  }
  return within
}

function problem(name: string, message: string): RuleProblem {
  return { file: name, line: 1, column: 1, message }
}

function digestOf(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64')
}
