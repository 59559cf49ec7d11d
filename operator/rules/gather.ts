import { Compile } from 'typebox/compile'
import { ComplianceRuleStatus, type ComplianceRuleSpec } from '#core/rule/model.ts'
import type { Change } from '#operator/kubernetes/informer.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'

/** What the operator keeps of a ComplianceRule. */
export type RuleView = {
  readonly metadata: ObjectMeta & { readonly namespace: string }
  readonly spec: ComplianceRuleSpec
  readonly status?: ComplianceRuleStatus
}

/** Rules are compiled by scope: those of the operator's namespace apply everywhere, others to their own. */
export type Scope = 'root' | `namespace/${string}`

export function scopeOf(namespace: string, operatorNamespace: string): Scope {
  return namespace === operatorNamespace ? 'root' : `namespace/${namespace}`
}

/** The namespace of a namespace's scope; null for root. */
export function namespaceOf(scope: Scope): string | null {
  return scope === 'root' ? null : scope.slice('namespace/'.length)
}

const statusChecker = Compile(ComplianceRuleStatus)

/** A status as far as it is one: where the CRD was changed, or is an older one, anything may be stored. */
export function keepStatus<S>(status: S | undefined, checker: { Check(value: unknown): boolean }): { status?: S } {
  return status !== undefined && checker.Check(status) ? { status } : {}
}

/** The same of a spec: what is no object is none, and is then told to be invalid. */
export function keepSpec<S>(spec: S): S {
  return typeof spec === 'object' && spec !== null && !Array.isArray(spec) ? spec : ({} as S)
}

/** A rule without what nobody here reads: labels, annotations (the last applied spec is among them) and managed fields. */
export function keepRule(rule: RuleView): RuleView {
  const { name, namespace, uid, resourceVersion, generation } = rule.metadata
  return {
    metadata: {
      name,
      namespace,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      ...(generation === undefined ? {} : { generation }),
    },
    spec: keepSpec(rule.spec),
    ...keepStatus(rule.status, statusChecker),
  }
}

export type RuleIndex = {
  /** Takes a change of the informer; tells whose rules it was, and whether what they say changed or only their status. */
  apply(change: Change<RuleView>): { readonly scope: Scope; readonly what: 'spec' | 'status' | 'nothing' } | null
  /** By name, in order of names. */
  rules(scope: Scope): readonly RuleView[]
  /** Scopes with at least one rule. */
  scopes(): readonly Scope[]
  readonly size: number
}

/** The rules of the cluster by scope. */
export function createRuleIndex(operatorNamespace: string): RuleIndex {
  const byScope = new Map<Scope, Map<string, RuleView>>()
  /** Asked for more often than changed: webhooks ask with each review. */
  const sorted = new Map<Scope, readonly RuleView[]>()
  let size = 0
  return {
    apply({ before, after }) {
      const rule = after ?? before
      if (rule === undefined) return null
      const scope = scopeOf(rule.metadata.namespace, operatorNamespace)
      const rules = byScope.get(scope) ?? new Map<string, RuleView>()
      const known = rules.get(rule.metadata.name)
      sorted.delete(scope)
      if (after === undefined) {
        if (rules.delete(rule.metadata.name)) size -= 1
        if (rules.size === 0) byScope.delete(scope)
        return { scope, what: 'spec' }
      }
      if (known === undefined) size += 1
      rules.set(after.metadata.name, after)
      byScope.set(scope, rules)
      if (known === undefined || !sameContent(known, after)) return { scope, what: 'spec' }
      return { scope, what: known === after ? 'nothing' : 'status' }
    },
    rules(scope) {
      const found = sorted.get(scope) ?? [...(byScope.get(scope)?.values() ?? [])].sort(byName)
      if (found.length > 0) sorted.set(scope, found)
      return found
    },
    scopes: () => [...byScope.keys()],
    get size() {
      return size
    },
  }
}

/** The API server raises `generation` with each change of the spec, and gives another `uid` to a new object of the same name. */
export function sameContent(a: RuleView, b: RuleView): boolean {
  return a.metadata.uid === b.metadata.uid && a.metadata.generation === b.metadata.generation
}

function byName(a: RuleView, b: RuleView): number {
  return a.metadata.name < b.metadata.name ? -1 : 1
}
