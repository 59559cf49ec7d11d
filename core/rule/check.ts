import { Compile } from 'typebox/compile'
import { MAX_CONDITION_DEPTH, MAX_CONDITIONS, type Condition, type Operator } from './condition.ts'
import { durationDays } from './duration.ts'
import { FACTS, factKind, parseFactPath, type FactKind, type FactType } from './fact.ts'
import {
  ComplianceRuleSpec,
  RetentionPolicySpec,
  RULE_NAME_PATTERN,
  type RuleMatch,
  type RuleObject,
  type Stage,
} from './model.ts'
import type { RetentionObject } from './retention.ts'

/** What is wrong with an object. `path`: as Kubernetes writes it, `spec.match.statuses[0]`. */
export interface SpecFault {
  path: string
  message: string
}

const ruleChecker = Compile(ComplianceRuleSpec)
const retentionChecker = Compile(RetentionPolicySpec)
const MAX_FAULTS = 20

/** All that the API server checks of a ComplianceRule, and what it cannot: facts, operators, values, texts. Empty: it is valid. */
export function checkRuleObject(rule: { name: string; spec: unknown }): SpecFault[] {
  const faults = checkName(rule.name)
  const { spec } = rule
  faults.push(...schemaFaults(ruleChecker, spec))
  if (faults.length > 0) return faults
  checkRuleSpec((rule as RuleObject).spec, faults)
  return faults.slice(0, MAX_FAULTS)
}

/** The same for a RetentionPolicy. */
export function checkRetentionObject(policy: { name: string; spec: unknown }): SpecFault[] {
  const faults = checkName(policy.name)
  faults.push(...schemaFaults(retentionChecker, policy.spec))
  if (faults.length > 0) return faults
  const { hot, archive, legalHold, erasure } = (policy as RetentionObject).spec
  if (durationDays(hot) > durationDays(archive)) {
    faults.push({
      path: 'spec',
      message: 'archive counts from when the record was written, as hot does: it cannot be shorter than hot',
    })
  }
  if (legalHold?.active === true && legalHold.reason === undefined) {
    faults.push({ path: 'spec.legalHold', message: 'an active legal hold gives its reason' })
  }
  if (erasure?.allowed === false && erasure.within !== undefined) {
    faults.push({ path: 'spec.erasure', message: 'within needs allowed: true' })
  }
  if (erasure?.within !== undefined && durationDays(erasure.within) > 366) {
    faults.push({ path: 'spec.erasure', message: 'within is at most 366 days' })
  }
  return faults
}

function checkName(name: string): SpecFault[] {
  if (new RegExp(RULE_NAME_PATTERN).test(name)) return []
  return [
    {
      path: 'metadata.name',
      message: 'must be a DNS label of at most 63 lower-case letters, digits and -, that starts with a letter',
    },
  ]
}

function schemaFaults(
  checker: { Check(v: unknown): boolean; Errors(v: unknown): unknown },
  spec: unknown,
): SpecFault[] {
  if (checker.Check(spec)) return []
  const errors = [...(checker.Errors(spec) as Iterable<SchemaError>)]
  // A member of a closed object, or one of several alternatives, gives more than one error: the deepest says most.
  const faults = errors.map((error) => ({ path: kubernetesPath(error.instancePath), message: explain(error) }))
  const distinct = new Map(faults.map((fault) => [`${fault.path}\n${fault.message}`, fault]))
  return [...distinct.values()].slice(0, MAX_FAULTS)
}

interface SchemaError {
  keyword: string
  instancePath: string
  message: string
  params?: { additionalProperties?: readonly string[]; allowedValues?: readonly unknown[]; pattern?: string }
}

function explain({ keyword, message, params }: SchemaError): string {
  if (keyword === 'boolean') return 'there is no such member'
  if (keyword === 'additionalProperties')
    return `there is no member ${params?.additionalProperties?.join(', ') ?? ''}`.trim()
  if (keyword === 'enum' && params?.allowedValues !== undefined) {
    const { allowedValues } = params
    // YAML 1.1, which Kubernetes reads, takes a bare off for false.
    const hint = allowedValues.includes('off') ? ' (in YAML "off" needs its quotes)' : ''
    return `must be one of ${allowedValues.join(', ')}${hint}`
  }
  return message
}

function kubernetesPath(pointer: string): string {
  const parts = pointer.split('/').slice(1)
  return `spec${parts.map((part) => (/^\d+$/.test(part) ? `[${part}]` : `.${part}`)).join('')}`
}

function checkRuleSpec(spec: ComplianceRuleSpec, faults: SpecFault[]): void {
  const fault = (path: string, message: string): void => {
    faults.push({ path, message })
  }
  const stage = spec.stage ?? 'egress'
  if ((spec.conditions === undefined) === (spec.rego === undefined)) {
    fault('spec', 'give exactly one of conditions and rego')
  }
  if (spec.enforcement?.mode === 'off' && spec.enforcement.percentage !== undefined) {
    fault('spec.enforcement', 'percentage says nothing where mode is off')
  }
  const tenants = spec.enforcement?.tenants ?? []
  tenants.forEach(({ tenant, mode, percentage }, i) => {
    const path = `spec.enforcement.tenants[${i}]`
    if (mode === 'off' && percentage !== undefined) fault(path, 'percentage says nothing where mode is off')
    if (tenants.findIndex((each) => each.tenant === tenant) < i) fault(path, `tenant ${tenant} is there twice`)
  })
  if (stage !== 'egress') {
    for (const name of ['methods', 'pathTemplates', 'statuses', 'contentTypes', 'channel'] as const) {
      if (spec.match?.[name] !== undefined) fault(`spec.match.${name}`, 'needs stage egress: only a response has it')
    }
    if (spec.obligations !== undefined) fault('spec.obligations', 'need stage egress: only a response is stamped')
  }
  checkTemplates(spec.match, fault)
  checkText(spec, 'spec', fault)
  if (spec.conditions !== undefined) {
    const count = checkCondition(spec.conditions, 'spec.conditions', stage, 0, fault)
    if (count > MAX_CONDITIONS) fault('spec.conditions', `${count} conditions; at most ${MAX_CONDITIONS} are allowed`)
  }
}

function checkTemplates(match: RuleMatch | undefined, fault: (path: string, message: string) => void): void {
  match?.pathTemplates?.forEach((template, i) => {
    const segments = template.split('/').filter((segment) => segment !== '')
    const path = `spec.match.pathTemplates[${i}]`
    if (segments.slice(0, -1).includes('**')) fault(path, '** is allowed at the end only')
    const isFair = (segment: string): boolean =>
      /^\{[^{}]*\}$/.test(segment) || !/[{}*?#]/.test(segment) || segment === '**'
    if (!segments.every(isFair)) {
      fault(path, 'a segment is text, {name} for any one segment, or a last **; *, ?, # and braces are nothing else')
    }
    if (
      segments.some(
        (segment) => segment === '.' || segment === '..' || segment.includes(';') || /%[0-9a-f]{2}/i.test(segment),
      )
    ) {
      fault(path, 'paths are compared decoded, with dot segments resolved and ;parameters cut: write the template so')
    }
  })
}

/** Text that no UTF-8 can carry, or that hides in a terminal or a log. */
function checkText(value: unknown, path: string, fault: (path: string, message: string) => void): void {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) fault(path, 'is not Unicode text')
    // Tab and line ends are fine.
    // oxlint-disable-next-line no-control-regex
    else if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(value)) fault(path, 'holds control characters')
  } else if (Array.isArray(value)) {
    value.forEach((each, i) => checkText(each, `${path}[${i}]`, fault))
  } else if (typeof value === 'object' && value !== null) {
    for (const [name, each] of Object.entries(value)) {
      checkText(name, path, fault)
      checkText(each, `${path}.${name}`, fault)
    }
  }
}

/** Gives the number of leaves. */
function checkCondition(
  condition: Condition,
  path: string,
  stage: Stage,
  depth: number,
  fault: (path: string, message: string) => void,
): number {
  const { all, any, fact, operator, value } = condition
  const given = [all, any, fact].filter((each) => each !== undefined).length
  if (given !== 1) {
    fault(path, 'a condition is exactly one of all, any and fact')
    return 1
  }
  const inner = all ?? any
  if (inner !== undefined) {
    if (operator !== undefined || value !== undefined) fault(path, 'operator and value need a fact')
    if (depth >= MAX_CONDITION_DEPTH) {
      fault(path, `all and any are nested at most ${MAX_CONDITION_DEPTH} deep`)
      return 1
    }
    const name = all === undefined ? 'any' : 'all'
    return inner.reduce(
      (count, each, i) => count + checkCondition(each, `${path}.${name}[${i}]`, stage, depth + 1, fault),
      0,
    )
  }
  if (operator === undefined || value === undefined) {
    fault(path, 'a fact comes with operator and value')
    return 1
  }
  checkLeaf(condition as Leaf, path, stage, fault)
  return 1
}

type Leaf = Required<Pick<Condition, 'fact' | 'operator' | 'value'>>

function checkLeaf(
  { fact, operator, value }: Leaf,
  path: string,
  stage: Stage,
  fault: (path: string, message: string) => void,
): void {
  const parsed = parseFactPath(fact)
  if (parsed === undefined) {
    fault(`${path}.fact`, 'is no path: names with dots between, ["…"] for a member of any name, [0] for an element')
    return
  }
  const kind = stage === 'egress' ? factKind(parsed) : undefined
  if (stage === 'egress' && kind === undefined) {
    fault(`${path}.fact`, unknownFact(fact))
    return
  }
  const reason = valueFault(operator, value, kind?.type ?? 'any')
  if (reason !== undefined) fault(`${path}.value`, reason)
}

function unknownFact(fact: string): string {
  const [first = ''] = fact.split(/[.[]/, 1)
  const below = FACTS.filter(({ path }) => path.startsWith(`${fact}.`) || path.split('.')[0] === first)
  const shown = (below.length > 0 ? below : FACTS).map(({ path, names }: FactKind) =>
    path.includes('{name}') && names !== undefined ? path.replace('{name}', `{${names.join('|')}}`) : path,
  )
  return `there is no fact ${fact}; there are ${[...new Set(shown)].slice(0, 12).join(', ')}${shown.length > 12 ? ', …' : ''}`
}

const COMPARES_NUMBERS: readonly Operator[] = ['lessThan', 'lessThanInclusive', 'greaterThan', 'greaterThanInclusive']

/** Why a value does not go with an operator on a fact of this type. */
function valueFault(operator: Operator, value: Leaf['value'], type: FactType): string | undefined {
  const isList = Array.isArray(value)
  if (operator === 'in' || operator === 'notIn') {
    if (!isList || value.length === 0) return `${operator} needs a list of values`
    if (type === 'list') return `the fact is a list: use contains`
    return value.map((each) => typeFault(each, type)).find((reason) => reason !== undefined)
  }
  if (isList) return `${operator} needs one value; a list goes with in and notIn`
  if (operator === 'exists') return typeof value === 'boolean' ? undefined : 'exists needs true or false'
  if (COMPARES_NUMBERS.includes(operator)) {
    if (typeof value !== 'number') return `${operator} needs a number`
    return type === 'number' || type === 'any' ? undefined : `${operator} needs a fact that is a number, not ${type}`
  }
  if (operator === 'matches') {
    if (typeof value !== 'string') return 'matches needs a regular expression (RE2) as text'
    return type === 'text' || type === 'any' ? undefined : `matches needs a fact that is text, not ${type}`
  }
  if (operator === 'contains' || operator === 'notContains') {
    if (type === 'any') return undefined
    if (type !== 'text' && type !== 'list') return `${operator} needs a fact that is text or a list, not ${type}`
    return typeof value === 'string' ? undefined : `${operator} needs text here`
  }
  if (type === 'list') return `the fact is a list: use contains`
  return typeFault(value, type)
}

function typeFault(value: string | number | boolean, type: FactType): string | undefined {
  const want = { text: 'string', number: 'number', boolean: 'boolean', list: 'string', any: typeof value }[type]
  if (typeof value === want) return undefined
  return `the fact is ${type === 'text' ? 'text' : `a ${type}`}; ${JSON.stringify(value)} never equals it`
}
