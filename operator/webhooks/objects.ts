import { isDeepStrictEqual } from 'node:util'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { SignetError } from '#core/error/signet-error.ts'
import { checkRetentionObject, checkRuleObject, type SpecFault } from '#core/rule/check.ts'
import type { RuleObject } from '#core/rule/model.ts'
import type { RetentionObject } from '#core/rule/retention.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import { retentionConflicts, ruleConflicts } from './conflicts.ts'
import type { AdmissionRequest, Verdict } from './review.ts'

export type ObjectReviewDeps = {
  readonly operatorNamespace: string
  /** Rules that apply in a namespace: root's and its own. */
  readonly rules: (namespace: string) => Iterable<RuleObject>
  readonly policies: () => Iterable<RetentionObject>
  /** What keeps a rule, about to be stored in that namespace, from being compiled. May take its time; throws OPA_UNAVAILABLE, OVERLOADED. */
  readonly checkRule: (rule: RuleObject, namespace: string) => Promise<readonly RuleProblem[]>
}

/** Bytes of a spec as JSON. The CRD bounds each part of it; this bounds them all. */
export const MAX_SPEC_BYTES = 131_072
const MAX_SHOWN = 10

const Body = Compile(
  Type.Object({
    metadata: Type.Object({ name: Type.Optional(Type.String()), generateName: Type.Optional(Type.String()) }),
    spec: Type.Object({}),
  }),
)

/** A rule that is about to be stored: refused where it cannot be compiled, by itself, with line and column. */
export async function reviewRule(request: AdmissionRequest, deps: ObjectReviewDeps): Promise<Verdict> {
  const found = specOf(request)
  if ('allowed' in found) return found
  const rule = found as RuleObject
  const faults = checkRuleObject(rule)
  if (faults.length > 0) return refused(rule.name, faultLines(faults))
  const namespace = request.namespace ?? deps.operatorNamespace
  let problems: readonly RuleProblem[]
  try {
    problems = await deps.checkRule(rule, namespace)
  } catch (error) {
    if (!(error instanceof SignetError)) throw error
    return {
      allowed: false,
      code: error.status,
      message: `ComplianceRule ${rule.name} cannot be checked now: ${error.message}`,
    }
  }
  if (problems.length > 0) {
    return refused(
      rule.name,
      problems.map(({ line, column, message }) =>
        rule.spec.rego === undefined ? message : `spec.rego line ${line}, column ${column}: ${message}`,
      ),
    )
  }
  const isOther = ({ name }: { name: string }): boolean => name !== rule.name
  return {
    allowed: true,
    warnings: [
      ...foreignNamespaces(rule, namespace, deps.operatorNamespace),
      ...ruleConflicts(rule, [...deps.rules(namespace)].filter(isOther)),
    ],
  }
}

/** A retention policy that is about to be stored. */
export function reviewRetention(request: AdmissionRequest, deps: ObjectReviewDeps): Verdict {
  const found = specOf(request)
  if ('allowed' in found) return found
  const policy = found as RetentionObject
  const faults = checkRetentionObject(policy)
  if (faults.length > 0)
    return { allowed: false, code: 422, message: messageOf('RetentionPolicy', policy.name, faultLines(faults)) }
  const before = request.oldObject as { spec?: { legalHold?: { active?: boolean } } } | null | undefined
  const lifted = before?.spec?.legalHold?.active === true && policy.spec.legalHold?.active !== true
  return {
    allowed: true,
    warnings: [
      ...(lifted
        ? [`this lifts the legal hold of ${policy.name}: what it selects can be purged and erased from now on`]
        : []),
      ...retentionConflicts(
        policy,
        [...deps.policies()].filter(({ name }) => name !== policy.name),
      ),
    ],
  }
}

/**
 * The object to judge, or the verdict where there is nothing to: what is being deleted, and what changes in its metadata alone, must not
 * be held up by a rule that was faulty before.
 */
function specOf(request: AdmissionRequest): { name: string; spec: unknown } | Verdict {
  if (request.operation !== 'CREATE' && request.operation !== 'UPDATE') return { allowed: true }
  const { object, oldObject } = request
  if (!Body.Check(object)) return { allowed: false, code: 422, message: 'the object has no metadata or no spec' }
  if (request.operation === 'UPDATE' && Body.Check(oldObject) && isDeepStrictEqual(object.spec, oldObject.spec))
    return { allowed: true }
  const bytes = Buffer.byteLength(JSON.stringify(object.spec))
  if (bytes > MAX_SPEC_BYTES)
    return { allowed: false, code: 413, message: `the spec has ${bytes} bytes; ${MAX_SPEC_BYTES} are allowed` }
  // A generated name is not made yet.
  const name = object.metadata.name ?? request.name ?? ''
  return { name: name === '' ? 'generated' : name, spec: object.spec }
}

function foreignNamespaces(rule: RuleObject, namespace: string, operatorNamespace: string): string[] {
  const named = rule.spec.match?.namespaces
  if (named === undefined || namespace === operatorNamespace || named.includes(namespace)) return []
  return [
    `match.namespaces does not name ${namespace}, and a rule of this namespace applies to no other: it will never match`,
  ]
}

function refused(name: string, lines: readonly string[]): Verdict {
  return { allowed: false, code: 422, message: messageOf('ComplianceRule', name, lines) }
}

function messageOf(kind: string, name: string, lines: readonly string[]): string {
  const shown = lines.slice(0, MAX_SHOWN)
  const more = lines.length > shown.length ? [`and ${lines.length - shown.length} more`] : []
  return `${kind} ${name} is refused: ${[...shown, ...more].join('; ')}`
}

function faultLines(faults: readonly SpecFault[]): string[] {
  return faults.map(({ path, message }) => `${path}: ${message}`)
}
