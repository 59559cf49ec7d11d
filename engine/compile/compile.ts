import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'
import type { CompiledModule, CompiledRule } from '#core/policy/manifest.ts'
import { POLICY_DATA, scopePackage } from '#engine/bundle/layout.ts'
import { readTar } from '#engine/bundle/tar.ts'
import { readRuleHeader, type RuleHeader } from './metadata.ts'
import { readOpaErrors, runOpa, type OpaProcess } from './opa.ts'
import { compareText, ruleInvalid, type RuleProblem } from './problem.ts'
import { readSet } from './readset.ts'
import { checkReference, relocate, staysInScope } from './relocate.ts'
import { findRootReferences, packagePath, ruleName, type SyntaxTree } from './syntax.ts'

const MAX_SOURCE_BYTES = 1 << 20
const MAX_SOURCES = 500
const MAX_WASM_BYTES = 16 << 20
const PARALLEL_PARSES = 4
const CAPABILITIES = fileURLToPath(new URL('capabilities.json', import.meta.url))
const SCOPE = /^(root|namespace\/[a-z0-9-]{1,63})$/
const PACKAGE_NAME = /^[a-z][a-z0-9_]*$/
const LIBRARY = 'lib'
const RESERVED_PACKAGES = new Set([POLICY_DATA, 'signet', 'system'])

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
  checkOptions(options)
  const sources = [...options.sources].sort((a, b) => compareText(a.path, b.path))
  const directory = await mkdtemp(join(tmpdir(), 'signet-compile-'))
  const opa: OpaProcess = { binary: options.opa, directory, deadline: performance.now() + options.timeoutMs }
  try {
    const parsed = await parseSources(opa, sources)
    analyse(parsed.sources, parsed.problems)
    if (parsed.problems.length > 0) throw ruleInvalid(parsed.problems)
    const rules: CompiledRule[] = []
    parsed.sources.forEach((source, index) => {
      if (source.header === undefined) return
      const entrypoint = `signet/${scopePackage(options.scope)}/${source.names.join('/')}/decision`
      rules.push({ ...source.header, entrypoint, reads: readSet(parsed.sources, index) })
    })
    rules.sort((a, b) => compareText(a.id, b.id))
    const name = scopePackage(options.scope)
    const aggregate = `signet/aggregate_${name}/decisions`
    const wasm = await buildWasm(opa, options.scope, parsed.sources, rules, aggregate)
    const path = options.scope === 'root' ? '/root/policy.wasm' : '/ns/policy.wasm'
    return { wasm, module: { scope: options.scope, path, aggregate, rules } }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}

function checkOptions({ scope, sources }: CompileOptions): void {
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
  const check = await runOpa(opa, [
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
    } else if (RESERVED_PACKAGES.has(source.names[0]!) || dotted === LIBRARY) {
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

async function buildWasm(
  opa: OpaProcess,
  scope: string,
  sources: readonly ParsedSource[],
  rules: readonly CompiledRule[],
  aggregate: string,
): Promise<Buffer> {
  const paths = new Map<string, string>()
  for (const source of sources) {
    // The name is in the module's abort messages: it must be the same on every machine, and say which rule it was.
    const name = `${source.names.join('.')}.rego`
    paths.set(name, source.path)
    await writeFile(join(opa.directory, name), relocate(source.text, source.tree, scope))
  }
  const names = [...paths.keys()].sort(compareText)
  const trees = await parseTrees(opa, names, paths)
  trees.forEach((tree, index) => {
    if (staysInScope(tree, scope)) return
    const file = paths.get(names[index]!)!
    throw ruleInvalid([{ file, line: 1, column: 1, message: 'a reference cannot be kept inside the scope' }])
  })
  await writeFile(join(opa.directory, '_aggregate.rego'), aggregateSource(aggregate, rules))
  const entrypoints = [aggregate, ...rules.map((rule) => rule.entrypoint)]
  const result = await runOpa(opa, [
    'build',
    '--target=wasm',
    '--prune-unused',
    `--capabilities=${CAPABILITIES}`,
    ...entrypoints.map((entrypoint) => `--entrypoint=${entrypoint}`),
    '--output=module.tar.gz',
    ...names,
    '_aggregate.rego',
  ])
  if (result.code !== 0) throw ruleInvalid(readOpaErrors(result.stderr || result.stdout, paths))
  const output = join(opa.directory, 'module.tar.gz')
  if ((await stat(output)).size > MAX_WASM_BYTES) throw tooLarge()
  const bundle = await promisify(gunzip)(await readFile(output), { maxOutputLength: 4 * MAX_WASM_BYTES })
  const wasm = readTar(bundle).get('policy.wasm')
  if (wasm === undefined) throw new SignetError('OPA_UNAVAILABLE', 'opa build made no policy.wasm')
  if (wasm.length > MAX_WASM_BYTES) throw tooLarge()
  return Buffer.from(wasm)
}

/** A generated module that puts all rules' decisions in one object, so that one call evaluates them. Rules that are off stay out. */
function aggregateSource(aggregate: string, rules: readonly CompiledRule[]): string {
  const toPath = (entrypoint: string): string => entrypoint.split('/').join('.')
  const [, name] = aggregate.split('/')
  const live = rules.filter((rule) => rule.mode !== 'off')
  const lines = live.map((rule) => `decisions[${JSON.stringify(rule.id)}] := data.${toPath(rule.entrypoint)}`)
  return [`package signet.${name}`, ...(lines.length > 0 ? lines : ['decisions := {}']), ''].join('\n\n')
}

function tooLarge(): SignetError {
  return new SignetError('RULE_INVALID', `the compiled module is larger than ${MAX_WASM_BYTES >> 20} MiB`, {
    details: { errors: [] },
  })
}
