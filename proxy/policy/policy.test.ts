import { pino } from 'pino'
import { describe, expect, it } from 'vitest'
import type { DecisionInput, RuleOutcome } from '#core/policy/decision.ts'
import type { CompiledRule } from '#core/policy/manifest.ts'
import { sampleInput } from '#engine/compile/fixtures/sample.ts'
import type { Evaluator } from '#engine/evaluate/evaluator.ts'
import type { PolicyData } from './data.ts'
import { PolicyHolder } from './holder.ts'
import { createPolicy } from './policy.ts'

function rule(change: Partial<CompiledRule> = {}): CompiledRule {
  return {
    id: 'a',
    title: 'A',
    severity: 'high',
    frameworks: [],
    entrypoint: 'signet/root/a/decision',
    reads: [],
    mode: 'enforce',
    undecidable: { external: 'closed', internal: 'open' },
    ...change,
  }
}

/** Of rules that always have a violation; the same outcome each time, as from a cache. */
function evaluatorOf(rules: CompiledRule[]): Evaluator {
  const violations = [{ severity: 'high', message: 'no', remediation: { hint: 'do' }, frameworks: [] }] as const
  const outcomes: readonly RuleOutcome[] = rules.map(({ id }) => ({
    rule: id,
    decision: { evaluated: true, violations: violations.map((each) => ({ ...each, frameworks: [] })) },
  }))
  return { revision: '1-0', rules, reads: () => false, evaluate: () => outcomes, close() {} }
}

const DATA: PolicyData = { version: 1 }
const inputOf = (tenant: string): DecisionInput => ({ ...sampleInput(), tenant })
const policyOf = (rules: CompiledRule[], data: PolicyData = DATA) =>
  createPolicy(evaluatorOf(rules), data, 'd', 'enforce')
const ids = Array.from({ length: 400 }, (_, i) => `request-${i}`)

/** How many of 400 requests are refused, and how many would have been. */
function count(rules: CompiledRule[], tenant: string, data: PolicyData = DATA): { refused: number; shadow: number } {
  const policy = policyOf(rules, data)
  const judgements = ids.map((id) => policy.judge(inputOf(tenant), [], id))
  return {
    refused: judgements.filter(({ violations }) => violations.length > 0).length,
    shadow: judgements.filter(({ shadow }) => shadow.length > 0).length,
  }
}

describe('how far a rule is in force', () => {
  it('is its mode where nothing else is said', () => {
    expect(count([rule()], 'acme')).toEqual({ refused: 400, shadow: 0 })
    expect(count([rule({ mode: 'shadow' })], 'acme')).toEqual({ refused: 0, shadow: 400 })
  })

  it('is its percentage of requests; the rest get the next milder mode', () => {
    const { refused, shadow } = count([rule({ enforcement: { percentage: 25 } })], 'acme')
    expect(refused).toBeGreaterThan(60)
    expect(refused).toBeLessThan(140)
    expect(refused + shadow).toBe(400)
    expect(count([rule({ enforcement: { percentage: 0 } })], 'acme')).toEqual({ refused: 0, shadow: 400 })
    expect(count([rule({ enforcement: { percentage: 100 } })], 'acme')).toEqual({ refused: 400, shadow: 0 })
  })

  it('is another one for a tenant that has its own, on the same cached decision', () => {
    const policy = policyOf([
      rule({
        mode: 'off',
        enforcement: { percentage: 100, tenants: { acme: { mode: 'enforce' }, globex: { mode: 'shadow' } } },
      }),
    ])
    const modes = ['acme', 'globex', 'initech', 'acme'].map((tenant) => {
      const { violations, shadow } = policy.judge(inputOf(tenant), [], 'r')
      return [violations.length, shadow.length]
    })
    expect(modes).toEqual([
      [1, 0],
      [0, 1],
      [0, 0],
      [1, 0],
    ])
    expect(policy.judge(inputOf('acme'), [], 'r')).toBe(policy.judge(inputOf('acme'), [], 'other'))
  })

  it('is what the policy data says where that says anything', () => {
    const own = rule({ enforcement: { percentage: 0, tenants: { acme: { mode: 'off' } } } })
    const data: PolicyData = { version: 1, modes: { rules: { a: { mode: 'enforce' } } } }
    expect(count([own], 'acme', data)).toEqual({ refused: 400, shadow: 0 })
  })

  it('matches the templates of rules that are live', () => {
    const policy = policyOf([
      rule({ match_templates: ['/a/{b}', '/c'] }),
      rule({ id: 'b', match_templates: ['/c', '/**'] }),
      rule({ id: 'c', mode: 'off', match_templates: ['/a/**'] }),
    ])
    expect(policy.matchedTemplates('/a/1')).toEqual(['/**', '/a/{b}'])
    expect(policy.matchedTemplates('/c')).toEqual(['/**', '/c'])
  })
})

describe('PolicyHolder', () => {
  it('gives rules the labels of the pod, and new entity tags when they change', () => {
    const holder = new PolicyHolder('enforce', pino({ level: 'silent' }))
    holder.useEvaluator(evaluatorOf([rule()]))
    const tags = [holder.current!.etagRevision(0)]
    expect(holder.current!.labels).toEqual({})
    holder.useLabels('app="shop"\n')
    tags.push(holder.current!.etagRevision(0))
    expect(holder.current!.labels).toEqual({ app: 'shop' })
    expect(() => holder.useLabels('app')).toThrow(/line 1/)
    expect(holder.current!.labels).toEqual({ app: 'shop' })
    holder.useLabels('app="other"\n')
    tags.push(holder.current!.etagRevision(0))
    expect(new Set(tags).size).toBe(3)
  })
})
