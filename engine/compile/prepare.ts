import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import { checkRuleObject } from '#core/rule/check.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { patternsOf } from '#core/rule/rego.ts'
import { OPERATORS_REGO } from '#core/rule/rego.ts'
import { writeAll, type ModuleFile } from './module.ts'
import { CAPABILITIES, readOpaErrors, runOpa, type OpaProcess } from './opa.ts'
import { parseTexts } from './parse.ts'
import { problemsOf, type RuleProblem } from './problem.ts'
import { isMoved, moveAuthor, parseAuthor, prepareRule, type AuthorSource, type PreparedRule } from './rule-source.ts'

/** What became of a rule by itself. */
export type Preparation =
  | { prepared: PreparedRule; problems?: undefined; isTransient?: false }
  | {
      problems: readonly RuleProblem[]
      /** Time or memory ran out: another time it may go. */
      isTransient: boolean
    }

const PARALLEL = 2
/** A rule that takes longer to compile by itself, or more memory, is left out. Ordinary ones take 20 ms and 50 MiB. */
const RULE_LIMITS = { timeoutMs: 4_000, maxMemoryMiB: 256 }
const TRIAL_GROUP = 32

/**
 * Checks and compiles each rule by itself, as far as its fault is its own: spec, regular expressions, syntax, references, types, and what it
 * costs to compile. `onPrepared` hears of each as it is done: what is ready when the time for all is over need not be done again.
 * Throws OPA_UNAVAILABLE, and RULE_INVALID when the time for all of them is over.
 */
export async function prepareRules(
  opa: OpaProcess,
  scope: string,
  rules: readonly RuleObject[],
  onPrepared?: (name: string, preparation: Preparation) => void,
): Promise<Map<string, Preparation>> {
  const results = new Map<string, Preparation>()
  const settle = (name: string, preparation: Preparation): void => {
    results.set(name, preparation)
    onPrepared?.(name, preparation)
  }
  const fail = (name: string, problems: readonly RuleProblem[], isTransient = false): void => {
    settle(name, { problems, isTransient })
  }
  const sound = rules.filter((rule) => {
    const faults = checkRuleObject(rule)
    if (faults.length === 0) return true
    fail(
      rule.name,
      faults.map(({ path, message }) => ({ file: rule.name, line: 1, column: 1, message: `${path}: ${message}` })),
    )
    return false
  })
  const badPatterns = await invalidPatterns(opa, sound)
  const authors: { rule: RuleObject; author: AuthorSource }[] = []
  const toParse: RuleObject[] = []
  for (const rule of sound) {
    const bad = patternsOf(rule.spec.conditions).filter((pattern) => badPatterns.has(pattern))
    if (bad.length > 0) {
      const message = `spec.conditions: ${JSON.stringify(bad[0])} is no regular expression of RE2 syntax`
      fail(rule.name, [{ file: rule.name, line: 1, column: 1, message }])
    } else if (rule.spec.rego === undefined) settle(rule.name, { prepared: prepareRule(scope, rule, undefined) })
    else toParse.push(rule)
  }
  await inParallel(toParse, async (rule, index) => {
    const parsed = await parseAuthor(limited(opa), rule, index)
    if ('problems' in parsed) {
      if (parsed.isTransient && isOver(opa)) throw overtime()
      return fail(rule.name, parsed.problems, parsed.isTransient)
    }
    const moved = moveAuthor(scope, rule, parsed.tree)
    if ('problems' in moved) fail(rule.name, moved.problems)
    else authors.push({ rule, author: moved.author })
  })
  const trees = await parseTexts(
    opa,
    authors.map(({ author }) => author),
  )
  const moved = authors.filter(({ rule }, index) => {
    if (isMoved(scope, rule.name, trees[index])) return true
    const message = 'a reference cannot be kept inside the rule'
    fail(rule.name, [{ file: rule.name, line: 1, column: 1, message }])
    return false
  })
  const candidates = moved.map(({ rule, author }) => ({ rule, prepared: prepareRule(scope, rule, author) }))
  const groups: (typeof candidates)[] = []
  for (let at = 0; at < candidates.length; at += TRIAL_GROUP) groups.push(candidates.slice(at, at + TRIAL_GROUP))
  await inParallel(groups, async (group, index) => {
    const faults = await tryGroup(opa, group, index)
    for (const { rule, prepared } of group) {
      const fault = faults.get(rule.name)
      if (fault === undefined) settle(rule.name, { prepared })
      else fail(rule.name, fault.problems, fault.isTransient)
    }
  })
  return results
}

type Candidate = { rule: RuleObject; prepared: PreparedRule }
type Fault = { problems: readonly RuleProblem[]; isTransient: boolean }

/** Builds a group at once; only where that fails, each by itself. */
async function tryGroup(opa: OpaProcess, group: readonly Candidate[], index: number): Promise<Map<string, Fault>> {
  const faults = new Map<string, Fault>()
  if (group.length > 1 && (await tryBuild(opa, group, `group${index}`)) === undefined) return faults
  for (const candidate of group) {
    const fault = await tryBuild(opa, [candidate], `group${index}`)
    if (fault === undefined) continue
    const { rule } = candidate
    const precise = fault.isTransient ? [] : await checkAuthor(opa, rule, index)
    faults.set(rule.name, precise.length > 0 ? { problems: precise, isTransient: false } : fault)
  }
  return faults
}

/** Builds wasm of these rules and throws it away. */
async function tryBuild(opa: OpaProcess, group: readonly Candidate[], prefix: string): Promise<Fault | undefined> {
  const files = new Map<string, ModuleFile>([['_operators.rego', { path: '', text: OPERATORS_REGO }]])
  for (const { prepared } of group) for (const [name, file] of prepared.files) files.set(name, file)
  const paths = new Map([...files].map(([name, file]) => [`${prefix}_${name}`, file.path]))
  await writeAll(opa.directory, new Map([...files].map(([name, file]) => [`${prefix}_${name}`, file])))
  const [first] = group
  try {
    const result = await runOpa(limited(opa), [
      'build',
      '--target=wasm',
      `--capabilities=${CAPABILITIES}`,
      ...group.map(({ prepared }) => `--entrypoint=${prepared.compiled.entrypoint}`),
      `--output=${prefix}.tar.gz`,
      ...paths.keys(),
    ])
    if (result.code === 0) return undefined
    return { problems: readOpaErrors(result.stderr || result.stdout, paths), isTransient: false }
  } catch (error) {
    if (!(error instanceof SignetError) || error.code !== 'RULE_INVALID' || isOver(opa)) throw error
    return { problems: problemsOf(error, first!.rule.name), isTransient: true }
  }
}

/** The compiler's errors in an author's own text, with its columns. */
async function checkAuthor(opa: OpaProcess, rule: RuleObject, index: number): Promise<readonly RuleProblem[]> {
  const file = `check${index}.rego`
  await writeFile(join(opa.directory, file), rule.spec.rego!)
  const result = await runOpa(limited(opa), ['check', '--format=json', `--capabilities=${CAPABILITIES}`, file])
  return result.code === 0 ? [] : readOpaErrors(result.stderr || result.stdout, new Map([[file, rule.name]]))
}

/** Which regular expressions of conditions RE2 does not take. */
async function invalidPatterns(opa: OpaProcess, rules: readonly RuleObject[]): Promise<ReadonlySet<string>> {
  const patterns = [...new Set(rules.flatMap((rule) => patternsOf(rule.spec.conditions)))]
  if (patterns.length === 0) return new Set()
  await writeFile(join(opa.directory, '_patterns.json'), JSON.stringify(patterns))
  const query = '[pattern | some pattern in input; not regex.is_valid(pattern)]'
  const result = await runOpa(opa, ['eval', '--format=raw', '--input=_patterns.json', query])
  if (result.code !== 0) throw new SignetError('OPA_UNAVAILABLE', 'opa eval did not judge the regular expressions')
  return new Set(JSON.parse(result.stdout) as string[])
}

/** The process with the limits of one rule. */
function limited(opa: OpaProcess): OpaProcess {
  const { timeoutMs, maxMemoryMiB } = RULE_LIMITS
  return { ...opa, timeoutMs, maxMemoryMiB: Math.min(maxMemoryMiB, opa.memory?.ruleMiB ?? Infinity) }
}

function overtime(): SignetError {
  return new SignetError('RULE_INVALID', 'OPA did not finish in time: the rules are too many for the time given', {
    details: { errors: [] },
  })
}

function isOver(opa: OpaProcess): boolean {
  return performance.now() >= opa.deadline
}

async function inParallel<T>(items: readonly T[], run: (item: T, index: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) await run(items[index]!, index)
  }
  await Promise.all(Array.from({ length: Math.min(PARALLEL, items.length) }, worker))
}
