import { setImmediate as nextTurn } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import type { JsonObject } from '#core/json/value.ts'
import { GROUP, VERSION, type ComplianceRuleStatus } from '#core/rule/model.ts'
import type { Publisher } from '#operator/bundles/publisher.ts'
import type { Clock } from '#operator/clock.ts'
import { apiPath } from '#operator/kubernetes/client.ts'
import type { EventRecorder } from '#operator/kubernetes/events.ts'
import { objectKey } from '#operator/kubernetes/object.ts'
import type { StatusWriter } from '#operator/kubernetes/status-writer.ts'
import { createQueue, type Queue, type QueueObserver, type QueueResult } from '#operator/queue/queue.ts'
import { createScopeCompilation, type CompileScope, type ScopeCompilation } from './compilation.ts'
import {
  decideStatus,
  isFaulty,
  isForProxies,
  judgeAcceptance,
  ruleState,
  type RuleFacts,
  type RuleState,
} from './decide.ts'
import { createDistributions } from './distribution.ts'
import { namespaceOf, scopeOf, type RuleIndex, type RuleView, type Scope } from './gather.ts'
import { createPace } from './pace.ts'
import { createPublications } from './publications.ts'
import type { Proxies } from './proxies.ts'

export type RuleReconcilerDeps = {
  readonly operatorNamespace: string
  readonly index: RuleIndex
  readonly proxies: Proxies
  /** Namespaces whose labels ask for proxies. */
  readonly wanted: () => Iterable<string>
  /** Namespaces that have a bundle already, or whose proxies pull one. */
  readonly served: () => Iterable<string>
  /** Whether the namespace is there: for others nothing is published. */
  readonly exists: (namespace: string) => boolean
  /** Removes the bundle of a namespace that is gone. */
  readonly forget: (namespace: string) => Promise<void>
  readonly compile: CompileScope
  readonly policy: {
    /** `data.policy` of a namespace's bundle. */
    of(namespace: string): JsonObject
    /** Whether pods of the namespace may be the tenant. */
    isFor(namespace: string, tenant: string): boolean
  }
  readonly publisher: Pick<Publisher, 'publish'>
  readonly statuses: StatusWriter<ComplianceRuleStatus>
  readonly events: EventRecorder
  readonly clock: Clock
  readonly random: () => number
  readonly observer: RuleObserver
}

export type RuleObserver = {
  queue(name: 'root-rules' | 'rules' | 'statuses' | 'bundles'): QueueObserver
  compiled(scope: Scope, durationMs: number, result: 'success' | 'error'): void
  states(scope: Scope, counts: Readonly<Record<RuleState, number>>): void
  failed(what: string, key: string, error: unknown): void
}

export type RuleReconciler = {
  /** Begins with everything there is. */
  start(): void
  /** The rules of a scope changed, or only what their status says. */
  onRules(scope: Scope, what: 'spec' | 'status'): void
  /** What rules are applied to changed for a tenant. */
  onPolicyData(tenant: string): void
  /** A namespace came, went, or wants proxies now. */
  onNamespace(namespace: string): void
  /** Its pods, or what they report, changed. */
  onProxies(namespace: string): void
  stop(graceMs?: number): Promise<void>
}

/** Changes within this time are compiled together. */
const DEBOUNCE_MS = 200
const STATUS_AFTER_COMPILE_MS = 1_000
const STATUS_AFTER_PUBLISH_MS = 150
const STATUS_AFTER_REPORT_MS = 1_000
/** Pods settle, and silent ones are dropped, without anybody telling. */
const STATUS_EVERY_MS = 30_000
const RULES_A_TURN = 100
/** A status that says no more than that publication is on its way would hold up the next one for 10 s: it waits for so long. */
const PENDING_GRACE_MS = 5_000
const PENDING_AGAIN_MS = 500

/**
 * From rules to bundles and back to statuses, by keys: `compile` of a scope leads to `publish` of the namespaces that have it, and both
 * lead to `status` of a scope. Level-based: each step reads what is there now, so that steps may be repeated, merged and lost.
 */
export function createRuleReconciler(deps: RuleReconcilerDeps): RuleReconciler {
  const { index, clock, observer, operatorNamespace } = deps
  const scopes = new Map<Scope, ScopeCompilation>()
  const publications = createPublications()
  const distributions = createDistributions({
    publications,
    proxies: deps.proxies,
    namespaces: () => needed(),
    operatorNamespace,
  })
  const failures = new Map<string, string>()
  /** What was last published, by namespace: the namespace map may change without anybody telling. */
  const policies = new Map<string, JsonObject>()
  const compiledMs = new Map<Scope, number>()
  const pace = createPace(clock)
  let serial = 0
  let stopTimer = (): void => {}

  const compilationOf = (scope: Scope): ScopeCompilation => {
    const found =
      scopes.get(scope) ?? createScopeCompilation(scope, { compile: deps.compile, nextSerial: () => ++serial })
    scopes.set(scope, found)
    return found
  }
  const needed = (): Set<string> => {
    const names = new Set<string>([operatorNamespace])
    for (const scope of index.scopes()) names.add(namespaceOf(scope) ?? operatorNamespace)
    for (const source of [deps.wanted(), deps.served(), deps.proxies.namespaces()])
      for (const name of source) names.add(name)
    return new Set([...names].filter((name) => deps.exists(name)))
  }

  const compile = async (scope: Scope): Promise<QueueResult> => {
    const rules = index.rules(scope)
    const startedMs = clock.monotonicMs()
    const compilation = compilationOf(scope)
    pace.take(scope)
    let retryAfterMs: number | undefined
    try {
      retryAfterMs = await compilation.compile(rules)
      observer.compiled(scope, clock.monotonicMs() - startedMs, 'success')
    } catch (error) {
      observer.compiled(scope, clock.monotonicMs() - startedMs, 'error')
      throw error
    } finally {
      // On failure too: the namespaces' own parts, or the root alone, can still be published, and the status has to say it.
      const namespace = namespaceOf(scope)
      if (namespace === null) for (const name of needed()) publishing.add(name)
      else publishing.add(namespace)
      // Authors hear of faults at once; for the others a first status that tells how far the rule has come is worth a second.
      compiledMs.set(scope, clock.monotonicMs())
      telling.add(`faults ${scope}`)
      telling.addAfter(`status ${scope}`, STATUS_AFTER_COMPILE_MS)
    }
    if (rules.length === 0 && scope !== 'root') {
      scopes.delete(scope)
      compiledMs.delete(scope)
    }
    return retryAfterMs === undefined ? undefined : { requeueAfterMs: retryAfterMs }
  }

  const publish = async (namespace: string): Promise<void> => {
    if (!deps.exists(namespace)) {
      publications.forget(namespace)
      failures.delete(namespace)
      policies.delete(namespace)
      await deps.forget(namespace)
      return
    }
    const root = scopes.get('root')
    const rootPart = root?.part
    if (root === undefined || rootPart === undefined || rootPart === null) return
    const scope = scopeOf(namespace, operatorNamespace)
    const own = scope === 'root' ? undefined : scopes.get(scope)
    const hasRules = scope !== 'root' && index.rules(scope).length > 0
    // Its compilation is on the way, and publishes when it ends: without it the namespace's rules would be lost for a moment.
    if (hasRules && (own === undefined || own.part === null)) return
    const serials = { root: root.serial, own: own?.serial ?? 0 }
    const policy = deps.policy.of(namespace)
    policies.set(namespace, policy)
    try {
      const parts = { root: rootPart, namespace: own?.part ?? ({ state: 'none' } as const), policy }
      const publication = await deps.publisher.publish(namespace, parts)
      publications.record(namespace, publication, serials)
      failures.delete(namespace)
      for (const { part, error } of publication.problems) observer.failed(`publish ${part}`, namespace, error)
    } catch (error) {
      failures.set(namespace, error instanceof Error ? error.message : String(error))
      throw error
    } finally {
      telling.addAfter(`status ${scope}`, STATUS_AFTER_PUBLISH_MS)
      telling.addAfter('status root', scope === 'root' ? STATUS_AFTER_PUBLISH_MS : STATUS_AFTER_REPORT_MS)
    }
  }

  const status = async (scope: Scope): Promise<void> => {
    const rules = index.rules(scope)
    const counts: Record<RuleState, number> = {
      invalid: 0,
      faulty: 0,
      pending: 0,
      distributing: 0,
      in_force: 0,
      for_governance: 0,
    }
    const view = distributions.view(scope, failures)
    const isFresh = clock.monotonicMs() - (compiledMs.get(scope) ?? -Infinity) < PENDING_GRACE_MS
    let waits = false
    await eachRule(rules, (rule) => {
      const facts = factsOf(scope, rule, view)
      counts[ruleState(facts)] += 1
      const isOnItsWay = facts.compilation.state === 'compiled' && facts.distribution.state === 'pending'
      if (isFresh && isOnItsWay) waits = true
      else writeStatus(rule, facts)
    })
    observer.states(scope, counts)
    if (waits) telling.addAfter(`status ${scope}`, PENDING_AGAIN_MS)
  }
  const faults = async (scope: Scope): Promise<void> => {
    const view = distributions.view(scope, failures)
    await eachRule(index.rules(scope), (rule) => {
      const facts = factsOf(scope, rule, view)
      if (isFaulty(facts.acceptance, facts.compilation)) writeStatus(rule, facts)
    })
  }
  const factsOf = (scope: Scope, rule: RuleView, view: ReturnType<typeof distributions.view>): RuleFacts => {
    const pending = { compilation: { state: 'pending' }, serial: Infinity } as const
    const { compilation, serial: since } = scopes.get(scope)?.of(rule) ?? pending
    return {
      rule,
      acceptance: judgeAcceptance(rule),
      compilation,
      distribution: isForProxies(rule) ? view(rule, since) : { state: 'not-for-proxies' },
      nowMs: clock.wallMs(),
    }
  }
  const writeStatus = (rule: RuleView, facts: RuleFacts): void => {
    const { name, namespace, uid } = rule.metadata
    const path = apiPath(`apis/${GROUP}/${VERSION}`, 'namespaces', namespace, 'compliancerules', name)
    const next = decideStatus(facts)
    deps.statuses.set({ key: objectKey(rule.metadata), path, uid }, next, rule.status)
    const [, compiled] = next.conditions ?? []
    const before = rule.status?.conditions?.find(({ type }) => type === 'Compiled')
    if (compiled?.status !== 'False' || (before?.reason === compiled.reason && before.message === compiled.message))
      return
    deps.events.record({
      regarding: {
        apiVersion: `${GROUP}/${VERSION}`,
        kind: 'ComplianceRule',
        namespace,
        name,
        ...(uid === undefined ? {} : { uid }),
      },
      type: 'Warning',
      reason: compiled.reason,
      action: 'Compile',
      note: facts.acceptance.accepted ? compiled.message : facts.acceptance.message,
    })
  }

  const compileQueue = (name: 'root-rules' | 'rules', concurrency: number): Queue =>
    createQueue({
      clock,
      random: deps.random,
      concurrency,
      backoff: { baseMs: 500, maxMs: 60_000 },
      observer: observer.queue(name),
      reconcile: (scope) => compile(scope as Scope),
      onError: (scope, error) => observer.failed('compile', scope, error),
    })
  // The platform's rules have a place of their own, and so have statuses: no namespace's rules, however slow, hold them up.
  const compilingRoot = compileQueue('root-rules', 1)
  const compilingOwn = compileQueue('rules', 2)
  const compiling = (scope: Scope): Queue => (scope === 'root' ? compilingRoot : compilingOwn)
  const telling: Queue = createQueue({
    clock,
    random: deps.random,
    concurrency: 2,
    rate: { perSecond: 50, burst: 200 },
    backoff: { baseMs: 500, maxMs: 60_000 },
    observer: observer.queue('statuses'),
    reconcile: async (key) => {
      const [what, scope] = key.split(' ') as ['faults' | 'status', Scope]
      await (what === 'faults' ? faults(scope) : status(scope))
    },
    onError: (key, error) => observer.failed('reconcile', key, error),
  })
  const publishing: Queue = createQueue({
    clock,
    random: deps.random,
    concurrency: 4,
    backoff: { baseMs: 250, maxMs: 30_000 },
    observer: observer.queue('bundles'),
    reconcile: (namespace) => publish(namespace),
    onError: (key, error) => observer.failed('publish', key, error),
  })
  const everySoOften = (): void => {
    stopTimer = clock.timer(STATUS_EVERY_MS, () => {
      for (const scope of new Set<Scope>(['root', ...index.scopes()])) telling.add(`status ${scope}`)
      for (const [namespace, policy] of policies)
        if (!isDeepStrictEqual(deps.policy.of(namespace), policy)) publishing.add(namespace)
      everySoOften()
    })
  }

  return {
    start() {
      for (const scope of new Set<Scope>(['root', ...index.scopes()])) compiling(scope).add(scope)
      // Those too that have a bundle and are gone: it is removed.
      for (const namespace of new Set([...needed(), ...deps.served()])) publishing.add(namespace)
      everySoOften()
      compilingRoot.start()
      compilingOwn.start()
      telling.start()
      publishing.start()
    },
    onRules(scope, what) {
      if (what === 'spec') compiling(scope).addAfter(scope, Math.max(DEBOUNCE_MS, pace.waitMs(scope)))
      // Somebody else wrote a status: ours is put back, if it was ours that was overwritten.
      else telling.addAfter(`status ${scope}`, STATUS_EVERY_MS / 2)
    },
    onPolicyData(tenant) {
      for (const namespace of needed())
        if (deps.policy.isFor(namespace, tenant)) publishing.addAfter(namespace, DEBOUNCE_MS)
    },
    onNamespace(namespace) {
      publishing.addAfter(namespace, DEBOUNCE_MS)
    },
    onProxies(namespace) {
      if (!publications.has(namespace)) publishing.addAfter(namespace, DEBOUNCE_MS)
      const scope = scopeOf(namespace, operatorNamespace)
      if (index.rules(scope).length > 0) telling.addAfter(`status ${scope}`, STATUS_AFTER_REPORT_MS)
      telling.addAfter('status root', STATUS_AFTER_REPORT_MS)
    },
    async stop(graceMs) {
      stopTimer()
      await Promise.all([compilingRoot, compilingOwn, telling, publishing].map((queue) => queue.stop(graceMs)))
    },
  }
}

/** Thousands of rules must not hold up webhooks and bundles. */
async function eachRule(rules: readonly RuleView[], visit: (rule: RuleView) => void): Promise<void> {
  for (const [position, rule] of rules.entries()) {
    if (position % RULES_A_TURN === RULES_A_TURN - 1) await nextTurn()
    visit(rule)
  }
}
