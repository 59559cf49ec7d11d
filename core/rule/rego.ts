import { CANONICALIZATIONS, CLASSIFICATIONS } from '../stamp/schema.ts'
import { APPROVAL_STRICTNESS } from '../policy/join.ts'
import { type Condition, type ConditionValue, type Operator } from './condition.ts'
import { parseFactPath, readOf, type FactPath } from './fact.ts'
import type { ComplianceRuleSpec, RuleMatch, RuleObligations } from './model.ts'
import { titleOf } from './title.ts'

/** Package of OPERATORS_REGO. */
export const OPERATORS_PACKAGE = 'signet.operators'

/** A rule, generated. */
export interface GeneratedRule {
  /** A whole Rego module with `decision`. Printable ASCII: nothing in a rule can end a string or begin another. */
  text: string
  /** What it reads of `input`, besides what the author's own Rego does. Dotted paths, unsorted. */
  reads: readonly string[]
  /** Of these, what decides whether the rule applies. */
  guardReads: readonly string[]
}

/**
 * What generated rules call. Facts come as a list: empty where the fact is absent, so that every operator is true or false, never
 * undefined. Only built-ins that the wasm runtime has; the same in `opa eval`.
 */
export const OPERATORS_REGO = `package ${OPERATORS_PACKAGE}

outside := {"evaluated": true, "violations": [], "outside": true}

default all(_) := true

all(xs) := false if false in xs

default some_of(_) := false

some_of(xs) := true if true in xs

shares(xs, ys) := count([x | some x in xs; x in ys]) > 0

default equal_to(_, _) := false

equal_to([x], y) if x == y

default not_equal_to(_, _) := false

not_equal_to([x], y) if {
	x != null
	x != y
}

default one_of(_, _) := false

one_of([x], ys) if {
	x != null
	x in ys
}

default none_of(_, _) := false

none_of([x], ys) if {
	x != null
	not x in ys
}

default has(_, _) := false

has([x], y) if {
	is_string(x)
	is_string(y)
	contains(x, y)
}

has([x], y) if {
	is_array(x)
	y in x
}

default lacks(_, _) := false

lacks([x], y) if {
	is_string(x)
	is_string(y)
	not contains(x, y)
}

lacks([x], y) if {
	is_array(x)
	not y in x
}

default less(_, _) := false

less([x], y) if {
	is_number(x)
	x < y
}

default at_most(_, _) := false

at_most([x], y) if {
	is_number(x)
	x <= y
}

default greater(_, _) := false

greater([x], y) if {
	is_number(x)
	x > y
}

default at_least(_, _) := false

at_least([x], y) if {
	is_number(x)
	x >= y
}

default present(_, _) := false

present([], false) := true

present([x], want) if (x != null) == want

default like(_, _) := false

like([x], pattern) if {
	is_string(x)
	regex.match(pattern, x)
}

complete(decision, filling) := object.union(object.remove(decision, ["outside", "violations"]), {"violations": filled}) if {
	type_name(decision.violations) in {"array", "set"}
	filled := [object.union(filling, violation) | some violation in decision.violations; is_object(violation)]
	count(filled) == count(decision.violations)
}

tighten(decision, member, least, weaker) := object.union(decision, {member: least}) if object.get(decision, member, least) in weaker

tighten(decision, member, least, weaker) := decision if not object.get(decision, member, least) in weaker

join(decision, more) := object.union(decision, {"regulations": [each | some each in all_of_them]}) if {
	given := object.get(decision, "regulations", [])
	type_name(given) in {"array", "set"}
	all_of_them := {each | some each in given} | {each | some each in more}
}
`

const CALLS: Readonly<Record<Operator, string>> = {
  equal: 'equal_to',
  notEqual: 'not_equal_to',
  in: 'one_of',
  notIn: 'none_of',
  contains: 'has',
  notContains: 'lacks',
  lessThan: 'less',
  lessThanInclusive: 'at_most',
  greaterThan: 'greater',
  greaterThanInclusive: 'at_least',
  exists: 'present',
  matches: 'like',
}

/** A value as a Rego literal of printable ASCII. Rego's strings and numbers are JSON's (https://www.openpolicyagent.org/docs/policy-language#grammar). */
export function literal(value: ConditionValue | readonly string[]): string {
  if (Array.isArray(value)) return `[${value.map((each: ConditionValue) => literal(each)).join(', ')}]`
  return JSON.stringify(value).replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function reference(path: FactPath): string {
  return `input${path.map((part) => (typeof part === 'number' ? `[${part}]` : `[${literal(part)}]`)).join('')}`
}

/** An expression that is true or false, never undefined: whether the conditions hold. */
export function conditionRego(condition: Condition, reads: Set<string>): string {
  if (condition.all !== undefined) return groupRego('all', condition.all, reads)
  if (condition.any !== undefined) return groupRego('some_of', condition.any, reads)
  const path = parseFactPath(condition.fact ?? '')
  if (path === undefined || condition.operator === undefined || condition.value === undefined) {
    throw new Error('conditionRego() of a condition that was not checked')
  }
  reads.add(readOf(path))
  return `ops.${CALLS[condition.operator]}([x | x := ${reference(path)}], ${literal(condition.value)})`
}

function groupRego(name: string, conditions: readonly Condition[], reads: Set<string>): string {
  return `ops.${name}([\n${conditions.map((each) => conditionRego(each, reads)).join(',\n')},\n])`
}

/** Expressions of which each is true or false where the fact is there, undefined where it is not: whether a rule applies. */
function guardRego(match: RuleMatch | undefined, reads: Set<string>): string[] {
  const guard: string[] = []
  const test = (read: string, expression: (fact: string) => string): void => {
    reads.add(read)
    guard.push(expression(reference(read.split('.'))))
  }
  const among = (values: readonly string[]) => (fact: string) => `${fact} in ${literal(values)}`
  if (match?.namespaces !== undefined) test('workload.namespace', among(match.namespaces))
  if (match?.tenants !== undefined) test('tenant', among(match.tenants))
  if (match?.channel !== undefined) test('channel', among([match.channel]))
  if (match?.methods !== undefined) {
    // An answer to HEAD says of an answer to GET all but its content.
    const withHead = match.methods.includes('GET') ? [...new Set([...match.methods, 'HEAD'])] : match.methods
    test('request.method', among(withHead))
  }
  if (match?.pathTemplates !== undefined) {
    const templates = literal(match.pathTemplates)
    test('request.matched_templates', (fact) => `ops.shares(${fact}, ${templates})`)
  }
  if (match?.statuses !== undefined) test('response.status', statusRego(match.statuses))
  if (match?.contentTypes !== undefined) test('response.media_type', mediaTypeRego(match.contentTypes))
  for (const [name, value] of Object.entries(match?.workloadLabels ?? {})) {
    test('workload.labels', (fact) => `object.get(${fact}, ${literal(name)}, null) == ${literal(value)}`)
  }
  return guard
}

function statusRego(statuses: readonly string[]) {
  const exact = statuses.filter((each) => !each.endsWith('xx'))
  const classes = statuses.filter((each) => each.endsWith('xx')).map((each) => each.slice(0, 1))
  return (fact: string): string =>
    `true in [${fact} in [${exact.join(', ')}], floor(${fact} / 100) in [${classes.join(', ')}]]`
}

function mediaTypeRego(types: readonly string[]) {
  const exact = types.filter((each) => !each.endsWith('/*'))
  const kinds = types.filter((each) => each.endsWith('/*')).map((each) => each.slice(0, -2))
  return (fact: string): string => `true in [${fact} in ${literal(exact)}, split(${fact}, "/")[0] in ${literal(kinds)}]`
}

/**
 * The Rego of a rule. `pack`: its package. `given`: where the author's `decision` is, for a rule with `rego`; undefined for one with
 * `conditions`. The spec must have been checked.
 */
export function ruleRego(spec: ComplianceRuleSpec, pack: string, given: string | undefined): GeneratedRule {
  const guardReads = new Set<string>()
  const guard = guardRego(spec.match, guardReads)
  const reads = new Set<string>(guardReads)
  const branches: [value: string, when: string][] = []
  // A comparison, so that an unknown member leaves the whole rule undefined: undecidable, not outside.
  if (guard.length > 0) branches.push(['ops.outside', 'applies == false'])
  const lines = [`package ${pack}`, `import data.${OPERATORS_PACKAGE} as ops`]
  if (guard.length > 0) lines.push(`applies := ops.all([\n${guard.map((each) => `${each},`).join('\n')}\n])`)
  const filling = violationOf(spec)
  const applies = guard.length > 0 ? ['applies == true'] : []
  if (given !== undefined) {
    lines.push(`given := ${obliged(`ops.complete(data.${given}, ${filling})`, spec.obligations)}`)
    branches.push(['given', [...applies, 'given'].join('; ')])
  } else {
    lines.push(`holds := ${conditionRego(spec.conditions ?? {}, reads)}`)
    const obligations = obligationMembers(spec.obligations)
    const decision = (violations: string): string =>
      `{${['"evaluated": true', `"violations": [${violations}]`, ...obligations].join(', ')}}`
    branches.push([decision(''), [...applies, 'holds == true'].join('; ')])
    branches.push([decision(filling), [...applies, 'holds == false'].join('; ')])
  }
  const chain = branches.map(([value, when], i) => `${i === 0 ? 'decision' : 'else'} := ${value} if { ${when} }`)
  lines.push(chain.join('\n\n'))
  return { text: `${lines.join('\n\n')}\n`, reads: [...reads], guardReads: [...guardReads] }
}

/** The violation of conditions that do not hold, and what an author's violation leaves out. */
function violationOf(spec: ComplianceRuleSpec): string {
  const { hint, link } = spec.remediation ?? {}
  const advice = hint ?? `Change the response so that it meets the rule: ${titleOf(spec)}`
  const remediation = [`"hint": ${literal(advice)}`, ...(link === undefined ? [] : [`"url": ${literal(link)}`])]
  return `{"severity": ${literal(spec.severity)}, "message": ${literal(spec.description)}, "remediation": {${remediation.join(', ')}}, "frameworks": ${literal(spec.frameworks ?? [])}}`
}

function obligationMembers(obligations: RuleObligations | undefined): string[] {
  const { classification, regulations, approval, canonicalization } = obligations ?? {}
  const members: string[] = []
  if (classification !== undefined) members.push(`"classification": ${literal(classification)}`)
  if (regulations !== undefined) members.push(`"regulations": ${literal(regulations)}`)
  if (approval !== undefined) members.push(`"approval_status": ${literal(approval)}`)
  if (canonicalization !== undefined) members.push(`"canonicalization": ${literal(canonicalization)}`)
  return members
}

/** The author's decision with what the spec obliges to: whichever of the two is stricter. */
function obliged(decision: string, obligations: RuleObligations | undefined): string {
  const { classification, regulations, approval, canonicalization } = obligations ?? {}
  let text = decision
  const tighten = <T extends string>(member: string, least: T | undefined, order: readonly T[]): void => {
    if (least === undefined) return
    const weaker = order.slice(0, order.indexOf(least) + 1)
    text = `ops.tighten(${text}, ${literal(member)}, ${literal(least)}, ${literal(weaker)})`
  }
  tighten('classification', classification, CLASSIFICATIONS)
  tighten('approval_status', approval, APPROVAL_STRICTNESS)
  tighten('canonicalization', canonicalization, CANONICALIZATIONS)
  if (regulations !== undefined) text = `ops.join(${text}, ${literal(regulations)})`
  return text
}

/** The regular expressions of a rule: for whoever can say whether RE2 takes them. */
export function patternsOf(condition: Condition | undefined): string[] {
  const patterns: string[] = []
  const visit = (each: Condition): void => {
    if (each.operator === 'matches' && typeof each.value === 'string') patterns.push(each.value)
    for (const inner of [...(each.all ?? []), ...(each.any ?? [])]) visit(inner)
  }
  if (condition !== undefined) visit(condition)
  return patterns
}
