import type { Distribution } from './decide.ts'
import { namespaceOf, type RuleView, type Scope } from './gather.ts'
import type { Proxies } from './proxies.ts'
import type { Publications } from './publications.ts'

export type Distributions = {
  /**
   * How far the rules of a scope have come, as of now: a function of the rule and of the compilation that was the first with it.
   * Counts are shared by the rules that have the same one and the same namespaces: nearly all.
   */
  view(scope: Scope, failures: ReadonlyMap<string, string>): (rule: RuleView, serial: number) => Distribution
}

export function createDistributions(deps: {
  readonly publications: Publications
  readonly proxies: Proxies
  /** All that need a bundle. */
  readonly namespaces: () => ReadonlySet<string>
  readonly operatorNamespace: string
}): Distributions {
  const { publications, proxies, operatorNamespace } = deps

  const decide = (
    scope: Scope,
    namespaces: readonly string[],
    serial: number,
    failures: ReadonlyMap<string, string>,
  ): Distribution => {
    const home = namespaceOf(scope) ?? operatorNamespace
    const part = scope === 'root' ? 'root' : 'namespace'
    let expected = 0
    let current = 0
    let settled = true
    for (const namespace of namespaces) {
      const carrying = publications.carrying(namespace, scope, serial)
      const count = proxies.count(namespace, carrying.state === 'carried' ? carrying.sequence : null)
      settled &&= count.settled
      expected += count.expected
      current += count.current
      // A namespace without proxies keeps nobody waiting, unless it is the rule's own.
      if (carrying.state === 'carried' && !publications.held(namespace)) continue
      if (count.expected === 0 && namespace !== home) continue
      if (publications.held(namespace)) {
        return { state: 'held', message: `In namespace ${namespace} an earlier revision was put in force by a person` }
      }
      const problem = publications.problems(namespace).find((found) => found.part === part || found.part === 'bundle')
      if (problem !== undefined) {
        const message = `Namespace ${namespace}: ${problem.error.message}`
        return { state: 'refused', reason: 'ActivationRefused', message }
      }
      const failure = failures.get(namespace)
      if (failure === undefined) return { state: 'pending' }
      return { state: 'refused', reason: 'PublicationFailed', message: `Namespace ${namespace}: ${failure}` }
    }
    const own = publications.carrying(home, scope, serial)
    const revision = own.state === 'carried' ? own.revision : null
    return { state: 'counted', expected, current, settled, revision }
  }

  return {
    view(scope, failures) {
      const known = new Map<string, Distribution>()
      const all = scope === 'root' ? [...deps.namespaces()].sort() : []
      const home = namespaceOf(scope)
      return (rule, serial) => {
        const only = home === null ? (rule.spec.match?.namespaces ?? null) : null
        const key = `${serial} ${only?.join(' ') ?? ''}`
        const found = known.get(key)
        if (found !== undefined) return found
        // A root rule is in every bundle; whom it does not match it keeps nobody waiting for.
        const namespaces = home !== null ? [home] : only === null ? all : all.filter((name) => only.includes(name))
        const distribution = decide(scope, namespaces, serial, failures)
        known.set(key, distribution)
        return distribution
      }
    },
  }
}
