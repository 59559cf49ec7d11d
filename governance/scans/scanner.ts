import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject, JsonValue } from '#core/json/value.ts'
import type { RuleDecision } from '#core/policy/decision.ts'
import { compileRuleSet, createCompileCache } from '#engine/compile/rule-set.ts'
import { gatherFacts, type FactDeps } from '../facts/registry.ts'
import type { CompilerDeps } from '../policies/compile.ts'
import type { Judge, Judged } from '../rego/judge.ts'
import { factsOf, isAboutUsers, ruleObject, type Rule } from '../rules/rule.ts'
import { MAX_SCANNED_USERS } from '../store/scan-facts.ts'

export type ScannerDeps = { readonly facts: FactDeps; readonly compiler: CompilerDeps; readonly judge: Judge }

/** What one rule found about the organisation, or about one user of it. */
export type Found = {
  readonly rule: Rule
  readonly userId: string | null
  readonly passed: boolean
  readonly finding: string
  /** The facts that the rule looked at, as they were; null where there was none. */
  readonly details: JsonObject
}
export type Scanned = { readonly found: readonly Found[]; readonly problems: Readonly<Record<string, string>> }

export type Scanner = {
  /**
   * Applies rules to the facts of a tenant, those in `given` in place of what would be gathered (`given.user`: one user's). `userId`: that user alone.
   * @throws SignetError OPA_UNAVAILABLE, RULE_INVALID, EVALUATION_LIMIT, REQUEST_INVALID (too many users)
   */
  scan(tenant: string, rules: readonly Rule[], given: JsonObject, userId?: string): Promise<Scanned>
}

const TIMEOUT_MS = 60_000
const EVALUATION_MS = 5_000
const KEPT_MODULES = 16
const CACHED_RULES = 4_000
const MAX_DETAIL = 500
const MAX_RESULTS = 100_000

export function createScanner({ facts, compiler, judge }: ScannerDeps): Scanner {
  const cache = createCompileCache({ maxEntries: CACHED_RULES })
  const modules = new LRUCache<string, Judged>({ max: KEPT_MODULES })

  async function moduleOf(rules: readonly Rule[]): Promise<Judged> {
    const objects = rules.map(ruleObject)
    const key = createHash('sha256').update(JSON.stringify(objects)).digest('hex')
    const known = modules.get(key)
    if (known !== undefined) return known
    if (compiler.opa === undefined)
      throw new SignetError('OPA_UNAVAILABLE', 'this governance has no OPA (SIGNET_OPA): it cannot compile rules')
    const { module, problems } = await compileRuleSet({
      scope: 'root',
      stage: 'scan',
      rules: objects,
      opa: compiler.opa,
      memory: compiler.memory.root,
      timeoutMs: TIMEOUT_MS,
      cache,
    })
    const [first] = problems
    if (first !== undefined)
      throw new SignetError('RULE_INVALID', `the rule ${first[0]}: ${first[1][0]?.message ?? 'does not compile'}`)
    const digest = createHash('sha256').update(module.wasm).digest('hex')
    const judged = { digest, wasm: module.wasm, entrypoint: module.module.aggregate }
    modules.set(key, judged)
    return judged
  }

  async function judgeAll(rules: readonly Rule[], input: JsonObject, userId: string | null): Promise<Found[]> {
    if (rules.length === 0) return []
    const decisions = (await judge.evaluate(await moduleOf(rules), input, EVALUATION_MS)) as Record<
      string,
      RuleDecision
    >
    return rules.map((rule) => {
      const decision = decisions[rule.id]
      if (decision === undefined) throw new SignetError('INTERNAL', `the rule ${rule.id} decided nothing`)
      const passed = decision.violations.length === 0
      const details = Object.fromEntries(factsOf(rule.conditions).map((fact) => [fact, short(valueAt(input, fact))]))
      return { rule, userId, passed, finding: passed ? `${rule.name}: holds` : rule.description, details }
    })
  }

  return {
    async scan(tenant, rules, given, userId) {
      const wanted = new Set(
        rules
          .flatMap(({ conditions }) => factsOf(conditions).map((fact) => fact.split('.')[0] ?? ''))
          .filter((name) => !(name in given)),
      )
      const gathered = await gatherFacts(facts, tenant, wanted, userId)
      if (gathered.users.length > MAX_SCANNED_USERS)
        throw new SignetError('REQUEST_INVALID', `a scan looks at ${MAX_SCANNED_USERS} users at most`)
      const perUser = 'user' in given ? 1 : gathered.users.length
      const count = rules.filter(isAboutUsers).length * perUser + rules.filter((rule) => !isAboutUsers(rule)).length
      if (count > MAX_RESULTS)
        throw new SignetError(
          'REQUEST_INVALID',
          `this scan would have ${count} results, ${MAX_RESULTS} at most are kept; name fewer rules`,
        )
      const own: JsonObject = { ...gathered.facts, ...given }
      // Facts that could not be had make no rule hold: absent facts satisfy no comparison.
      const found = await judgeAll(
        rules.filter((rule) => !isAboutUsers(rule)),
        own,
        null,
      )
      const aboutUsers = rules.filter(isAboutUsers)
      if ('user' in given) {
        found.push(...(await judgeAll(aboutUsers, own, null)))
      } else {
        for (const user of gathered.users) {
          found.push(...(await judgeAll(aboutUsers, { ...own, user: { ...user, roles: [...user.roles] } }, user.id)))
        }
      }
      return { found, problems: gathered.problems }
    },
  }
}

function valueAt(input: JsonValue, path: string): JsonValue {
  let value: JsonValue | undefined = input
  for (const name of path.split('.')) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return null
    value = (value as JsonObject)[name]
  }
  return value ?? null
}

/** Evidence, not a copy of everything: cut between characters, as half of one cannot be kept. */
function short(value: JsonValue): JsonValue {
  const text = JSON.stringify(value)
  return text.length <= MAX_DETAIL ? value : `${text.slice(0, MAX_DETAIL).toWellFormed()}…`
}
