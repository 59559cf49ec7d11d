import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import type { CompiledModule, CompiledRule } from '#core/policy/manifest.ts'
import { maxWasmBytes, POLICY_DATA, scopePackage } from '#engine/bundle/layout.ts'
import { readRuleHeader, type RuleHeader } from './metadata.ts'
import { buildWasm, sizedFor, type ModuleFile } from './module.ts'
import { CAPABILITIES, readOpaErrors, runOpa, type OpaProcess } from './opa.ts'
import { compareText, ruleInvalid, type RuleProblem } from './problem.ts'
import { readSet } from './readset.ts'
import { parseTexts } from './parse.ts'
import { checkReference, relocate, staysAtHome } from './relocate.ts'
import { findRootReferences, packagePath, ruleName, type SyntaxTree } from './syntax.ts'

const MAX_SOURCE_BYTES = 1 << 20
const MAX_SOURCES = 500
const PARALLEL_PARSES = 4
const SCOPE = /^(root|namespace\/[a-z0-9-]{1,63})$/
const PACKAGE_NAME = /^[a-z][a-z0-9_]*$/
const LIBRARY = 'lib'
const RESERVED_PACKAGES = new Set([POLICY_DATA, 'signet', 'system'])
/** Where rules of Kubernetes objects live: `rule-source.ts`. */
const OBJECT_PACKAGE = /^rules_([0-9a-f]{2}|selected)$/

export interface RuleSource {
  /** As the author knows it; errors name it. */
  path: string
  text: string
}

export interface CompileOptions {
  /** `root`, or `namespace/NAME`. */
  scope: string
  /** At most 500 files, 1 MiB together; one package a file. */
  sources: readonly RuleSource[]
  /** Path of the OPA binary. */
  opa: string
  /** For the whole compilation. */
  timeoutMs: number
}

interface ParsedSource extends RuleSource {
  tree: SyntaxTree
  names: string[]
  header?: RuleHeader
}

/**
 * Compiles the rule files of one scope to one wasm module. A rule file has a package whose last part is the rule's id, a
 * `# METADATA` block on it, and a rule `decision` of the form `RuleDecision` of `core/policy/decision.ts`; packages below
 * `lib` are shared by the scope's rules. Deterministic: the same sources give the same bytes.
 * Throws RULE_INVALID (`details.errors`: file, line, column, message of each problem), OPA_UNAVAILABLE.
 */
export async function compileModule(options: CompileOptions): Promise<{ wasm: Buffer; module: CompiledModule }> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-compile-'))
  const opa: OpaProcess = { binary: options.opa, directory, deadline: performance.now() + options.timeoutMs }
  try {
    const { files, rules } = await prepareSources(opa, options.scope, options.sources)
    const aggregate = aggregateOf(options.scope)
    const wasm = await buildWasm(opa, files, rules, aggregate, maxWasmBytes(options.scope))
    return { wasm, module: { scope: options.scope, path: modulePath(options.scope), aggregate, rules } }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

/** The entrypoint that evaluates all rules of a scope at once. */
export function aggregateOf(scope: string): string {
  return `signet/aggregate_${scopePackage(scope)}/decisions`
}

/** The entrypoint that evaluates one rule of a scope, in modules of very many. */
export function selectorOf(scope: string): string {
  return `signet/${scopePackage(scope)}/rules_selected/decision`
}

/** Where the module of a scope is in its bundle. */
export function modulePath(scope: string): string {
  return scope === 'root' ? '/root/policy.wasm' : '/ns/policy.wasm'
}

/** Rule files as they go into a module, and the rules that they hold, by id. Throws RULE_INVALID, OPA_UNAVAILABLE. */
export async function prepareSources(
  opa: OpaProcess,
  scope: string,
  unsorted: readonly RuleSource[],
): Promise<{ files: Map<string, ModuleFile>; rules: CompiledRule[] }> {
  checkSources(scope, unsorted)
  if (unsorted.length === 0) return { files: new Map(), rules: [] }
  const sources = [...unsorted].sort((a, b) => compareText(a.path, b.path))
  const parsed = await parseSources(opa, sources)
  analyse(parsed.sources, parsed.problems)
  if (parsed.problems.length > 0) throw ruleInvalid(parsed.problems)
  const home = scopePackage(scope)
  const rules: CompiledRule[] = []
  parsed.sources.forEach((source, index) => {
    if (source.header === undefined) return
    const entrypoint = `signet/${home}/${source.names.join('/')}/decision`
    rules.push({ ...source.header, entrypoint, reads: readSet(parsed.sources, index) })
  })
  rules.sort((a, b) => compareText(a.id, b.id))
  return { files: await relocateSources(opa, ['signet', home], parsed.sources), rules }
}

async function relocateSources(
  opa: OpaProcess,
  home: readonly string[],
  sources: readonly ParsedSource[],
): Promise<Map<string, ModuleFile>> {
  const files = new Map<string, ModuleFile>()
  for (const source of sources) {
    const file = { path: source.path, text: relocate(source.text, source.tree, home) }
    files.set(`${source.names.join('.')}.rego`, file)
  }
  const names = [...files.keys()].sort(compareText)
  const trees = await parseTexts(
    opa,
    names.map((name) => files.get(name)!),
  )
  names.forEach((name, index) => {
    const tree = trees[index]
    if (tree !== undefined && staysAtHome(tree, home)) return
    throw ruleInvalid([
      { file: files.get(name)!.path, line: 1, column: 1, message: 'a reference cannot be kept inside the scope' },
    ])
  })
  return files
}

function checkSources(scope: string, sources: readonly RuleSource[]): void {
  const refuse = (message: string): never => {
    throw new SignetError('RULE_INVALID', message, { details: { errors: [] } })
  }
  if (!SCOPE.test(scope)) refuse(`scope ${JSON.stringify(scope)} is neither root nor namespace/NAME`)
  if (sources.length > MAX_SOURCES) refuse(`${sources.length} rule files; at most ${MAX_SOURCES} are allowed`)
  if (new Set(sources.map((s) => s.path)).size < sources.length) refuse('two rule files have the same path')
  const total = sources.reduce((sum, source) => sum + Buffer.byteLength(source.text), 0)
  if (total > MAX_SOURCE_BYTES) refuse(`rule files of ${total} bytes; at most ${MAX_SOURCE_BYTES} are allowed`)
  const problems = sources
    .filter((source) => !source.text.isWellFormed() || source.text.startsWith('\uFEFF') || source.text.includes('\0'))
    .map(({ path: file }) => ({ file, line: 1, column: 1, message: 'not UTF-8 text without BOM and NUL' }))
  if (problems.length > 0) throw ruleInvalid(problems)
}

/** Parses and type-checks the sources as their authors wrote them, so that positions are theirs. */
async function parseSources(
  opa: OpaProcess,
  sources: readonly RuleSource[],
): Promise<{ sources: ParsedSource[]; problems: RuleProblem[] }> {
  const names = sources.map((_, index) => `source${index}.rego`)
  const paths = new Map(names.map((name, index) => [name, sources[index]!.path]))
  for (const [index, name] of names.entries()) await writeFile(join(opa.directory, name), sources[index]!.text)
  const problems: RuleProblem[] = []
  const check = await runOpa(sizedFor(opa, sources), [
    'check',
    '--format=json',
    '--max-errors=100',
    `--capabilities=${CAPABILITIES}`,
    ...names,
  ])
  if (check.code !== 0) {
    problems.push(...readOpaErrors(check.stderr || check.stdout, paths))
    if (check.stderr.includes('rego_parse_error')) throw ruleInvalid(problems)
  }
  const trees = await parseTrees(opa, names, paths)
  const parsed = sources.map((source, index): ParsedSource => {
    const tree = trees[index]!
    return { ...source, tree, names: packagePath(tree) }
  })
  return { sources: parsed, problems }
}

async function parseTrees(
  opa: OpaProcess,
  names: readonly string[],
  paths: ReadonlyMap<string, string>,
): Promise<SyntaxTree[]> {
  const trees: SyntaxTree[] = []
  const parse = async (index: number): Promise<void> => {
    const args = ['parse', '--format=json', '--json-include=locations,-comments', names[index]!]
    const result = await runOpa(opa, args)
    if (result.code !== 0) throw ruleInvalid(readOpaErrors(result.stdout || result.stderr, paths))
    trees[index] = JSON.parse(result.stdout) as SyntaxTree
  }
  for (let index = 0; index < names.length; index += PARALLEL_PARSES) {
    await Promise.all(names.slice(index, index + PARALLEL_PARSES).map((_, offset) => parse(index + offset)))
  }
  return trees
}

/** Checks each source's package, header and references. */
function analyse(sources: readonly ParsedSource[], problems: RuleProblem[]): void {
  const packages = sources.map((source) => source.names)
  const owners = new Map<string, string>()
  const ids = new Map<string, string>()
  for (const source of sources) {
    const { location } = source.tree.package
    const refuse = (message: string): void => {
      problems.push({ file: source.path, line: location.row, column: location.col, message })
    }
    const dotted = source.names.join('.')
    if (source.names.length === 0 || !source.names.every((name) => PACKAGE_NAME.test(name))) {
      refuse(`package ${dotted}: its parts must be lower-case letters, digits and _`)
    } else if (RESERVED_PACKAGES.has(source.names[0]!) || OBJECT_PACKAGE.test(source.names[0]!) || dotted === LIBRARY) {
      refuse(`package ${dotted} is reserved`)
    }
    const owner = owners.get(dotted)
    if (owner !== undefined) refuse(`package ${dotted} is also in ${owner}; a package is one file`)
    owners.set(dotted, source.path)
    const decision = source.tree.rules?.find((rule) => ruleName(rule) === 'decision')
    if (source.names[0] === LIBRARY) {
      if (decision !== undefined) refuse(`package ${dotted} is a library and cannot have a rule decision`)
    } else {
      if (decision === undefined) refuse(`package ${dotted} has no rule decision`)
      else if (decision.head.args !== undefined) refuse('decision must be a value, not a function')
      const header = readRuleHeader(source.tree, source.path, problems)
      if (header !== undefined) {
        const other = ids.get(header.id)
        if (other !== undefined) refuse(`rule id ${header.id} is also in ${other}`)
        ids.set(header.id, source.path)
        source.header = header
      }
    }
    for (const reference of findRootReferences(source.tree)) {
      if (reference.head === 'data') checkReference(reference, packages, source.path, problems)
    }
  }
}
