import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SignetError } from '#core/error/signet-error.ts'
import type { CompiledRule } from '#core/policy/manifest.ts'
import { ruleRego } from '#core/rule/rego.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { titleOf } from '#core/rule/title.ts'
import { POLICY_DATA, scopePackage } from '#engine/bundle/layout.ts'
import { reducePaths } from '#engine/evaluate/paths.ts'
import type { ModuleFile } from './module.ts'
import { readOpaErrors, runOpa, type OpaProcess } from './opa.ts'
import { problemsOf, type RuleProblem } from './problem.ts'
import { readSet } from './readset.ts'
import { checkReference, relocate, staysAtHome } from './relocate.ts'
import { findRootReferences, packagePath, ruleName, type SyntaxTree } from './syntax.ts'

/** A rule of a Kubernetes object, as it goes into a module. */
export interface PreparedRule {
  compiled: CompiledRule
  /** By the name that OPA is given. */
  files: ReadonlyMap<string, ModuleFile>
}

/** The author's Rego, parsed and moved to its rule's own package. */
export interface AuthorSource {
  text: string
  /** Where `decision` is, without `data`. */
  decision: string
  reads: readonly string[]
}

const PACKAGE_PART = /^[A-Za-z_][A-Za-z0-9_]{0,62}$/
const MAX_PACKAGE_PARTS = 8

/**
 * Package of a rule: below one of 256, since OPA takes time with the square of how many packages are side by side. `-` of its name
 * becomes `_`.
 */
export function rulePackage(scope: string, name: string): string[] {
  const bucket = createHash('sha256').update(name).digest('hex').slice(0, 2)
  return ['signet', scopePackage(scope), `rules_${bucket}`, name.replaceAll('-', '_')]
}

/** Where the author's packages of a rule are. */
function authorHome(scope: string, name: string): string[] {
  return [...rulePackage(scope, name), 'author']
}

/** Generates what the spec says around the author's Rego, or around its conditions. The spec must have been checked. */
export function prepareRule(scope: string, rule: RuleObject, author: AuthorSource | undefined): PreparedRule {
  const { name, spec } = rule
  const home = rulePackage(scope, name)
  const generated = ruleRego(spec, home.join('.'), author?.decision)
  const file = home.slice(2).join('.')
  const files = new Map<string, ModuleFile>([[`${file}.rego`, { path: name, text: generated.text }]])
  if (author !== undefined) files.set(`${file}.author.rego`, { path: name, text: author.text })
  const { enforcement } = spec
  const compiled: CompiledRule = {
    id: name,
    title: titleOf(spec),
    severity: spec.severity,
    frameworks: [...(spec.frameworks ?? [])],
    entrypoint: [...home, 'decision'].join('/'),
    reads: reducePaths([...generated.reads, ...(author?.reads ?? [])]),
    mode: enforcement?.mode ?? 'enforce',
    undecidable: {
      external: spec.undecidable?.external ?? 'closed',
      internal: spec.undecidable?.internal ?? 'open',
    },
  }
  const rest: NonNullable<CompiledRule['enforcement']> = {}
  if (enforcement?.percentage !== undefined) rest.percentage = enforcement.percentage
  if (enforcement?.tenants !== undefined && enforcement.tenants.length > 0) {
    rest.tenants = Object.fromEntries(enforcement.tenants.map(({ tenant, ...setting }) => [tenant, setting]))
  }
  if (Object.keys(rest).length > 0) compiled.enforcement = rest
  if (spec.match?.pathTemplates !== undefined) compiled.match_templates = [...spec.match.pathTemplates]
  if (generated.guardReads.length > 0) compiled.guard = reducePaths(generated.guardReads)
  return { compiled, files }
}

/** Parses an author's Rego, with locations. `index` keeps the files of parallel calls apart. Throws OPA_UNAVAILABLE. */
export async function parseAuthor(
  opa: OpaProcess,
  rule: RuleObject,
  index: number,
): Promise<{ tree: SyntaxTree } | { problems: RuleProblem[]; isTransient: boolean }> {
  const file = `author${index}.rego`
  await writeFile(join(opa.directory, file), rule.spec.rego!)
  try {
    const result = await runOpa(opa, ['parse', '--format=json', '--json-include=locations,-comments', file])
    if (result.code === 0) return { tree: JSON.parse(result.stdout) as SyntaxTree }
    const problems = readOpaErrors(result.stdout || result.stderr, new Map([[file, rule.name]]))
    return { problems, isTransient: false }
  } catch (error) {
    if (!(error instanceof SignetError) || error.code !== 'RULE_INVALID') throw error
    return { problems: problemsOf(error, rule.name), isTransient: true }
  }
}

/** Checks package, decision and references of an author's tree, and moves it to its rule's package. */
export function moveAuthor(
  scope: string,
  rule: RuleObject,
  tree: SyntaxTree,
): { author: AuthorSource } | { problems: RuleProblem[] } {
  const problems: RuleProblem[] = []
  const names = packagePath(tree)
  const refuse = (message: string, { row: line, col: column } = tree.package.location): void => {
    problems.push({ file: rule.name, line, column, message })
  }
  const dotted = names.join('.')
  if (names.length === 0 || names.length > MAX_PACKAGE_PARTS || !names.every((part) => PACKAGE_PART.test(part))) {
    refuse(`package ${dotted}: one to ${MAX_PACKAGE_PARTS} parts of letters, digits and _`)
  } else if (names[0] === POLICY_DATA) {
    refuse(`package ${dotted}: data.${POLICY_DATA} is the policy data`)
  }
  const decision = tree.rules?.find((each) => ruleName(each) === 'decision')
  if (decision === undefined) refuse(`package ${dotted} has no rule decision`)
  else if (decision.head.args !== undefined) refuse('decision must be a value, not a function')
  for (const annotation of tree.annotations ?? []) {
    if (!('entrypoint' in annotation) && !('schemas' in annotation) && !('compile' in annotation)) continue
    refuse('a METADATA block must not have entrypoint, schemas or compile', annotation.location)
  }
  for (const reference of findRootReferences(tree)) {
    if (reference.head === 'data')
      checkReference(reference, [names], rule.name, problems, `the rule’s own data.${dotted}`)
  }
  if (problems.length > 0) return { problems }
  const home = authorHome(scope, rule.name)
  try {
    return {
      author: {
        text: relocate(rule.spec.rego!, tree, home),
        decision: [...home, ...names, 'decision'].join('.'),
        reads: readSet([{ tree, names }], 0),
      },
    }
  } catch {
    refuse('its references cannot be told from its text')
    return { problems }
  }
}

/** Whether an author's moved source, parsed again, stays in its rule's package. */
export function isMoved(scope: string, name: string, tree: SyntaxTree | undefined): boolean {
  return tree !== undefined && staysAtHome(tree, authorHome(scope, name))
}
