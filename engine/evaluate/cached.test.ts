import { beforeAll, describe, expect, it } from 'vitest'
import type { DecisionInput } from '#core/policy/decision.ts'
import {
  compileSample,
  PASS,
  ruleSource,
  sampleInput,
  sampleSources,
  verifiedBundle,
} from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createCachedEvaluator, type CachedEvaluator } from './cached.ts'
import { createEvaluator, type Evaluator } from './evaluator.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

/** An evaluator that counts, with a cache before it. */
async function counted(
  rules: Record<string, string>,
  maxEntries = 100,
): Promise<{ cached: CachedEvaluator; calls: () => number }> {
  const sources = Object.entries(rules).map(([id, body]) => ruleSource(id, body))
  const bundle = await verifiedBundle([await compileSample(opa, sources)])
  const inner = await createEvaluator(bundle, { timeoutMs: 200, maxMemoryMiB: 32 })
  let calls = 0
  const counting: Evaluator = {
    ...inner,
    evaluate(...args) {
      calls++
      return inner.evaluate(...args)
    },
  }
  return { cached: createCachedEvaluator(counting, { maxEntries }), calls: () => calls }
}

const READS = `default decision := {"evaluated": true, "violations": []}
decision := {"evaluated": true, "violations": [], "classification": "restricted"} if {
  input.channel == "external"
  input.response.facts.email.count > 0
  input.approvals == []
  input.route == null
}`

function withFacts(facts: Record<string, object>): DecisionInput {
  const input = sampleInput({ emails: 1 })
  return { ...input, response: { ...input.response, facts } }
}

describe('createCachedEvaluator', () => {
  it('gives the same array for inputs that no rule can tell apart, and another for others', async () => {
    const { cached, calls } = await counted({ a: READS })
    const first = cached.evaluate(sampleInput({ emails: 1 }), [])
    expect(cached.evaluate(sampleInput({ emails: 1, path: '/elsewhere' }), [])).toBe(first)
    expect(cached.evaluate({ ...sampleInput({ emails: 1 }), tenant: 'other' }, [])).toBe(first)
    expect(calls()).toBe(1)
    const others: [string, DecisionInput, string[]][] = [
      ['a number', sampleInput({ emails: 2 }), []],
      ['a string', sampleInput({ emails: 1, channel: 'internal' }), []],
      ['an array', { ...sampleInput({ emails: 1 }), approvals: [{ id: 'x', approved_by: 'y', expires_at: 'z' }] }, []],
      ['an object for null', { ...sampleInput({ emails: 1 }), route: {} }, []],
      ['a fact that is absent', withFacts({}), []],
      ['a fact of another type', withFacts({ email: { count: '1' } }), []],
      ['an undecidable path', sampleInput({ emails: 1 }), ['response.facts.email']],
      ['another undecidable path', sampleInput({ emails: 1 }), ['response.facts.iban']],
    ]
    for (const [what, input, undecidable] of others) {
      const before = calls()
      expect(cached.evaluate(input, undecidable), what).not.toBe(first)
      expect(calls(), what).toBe(before + 1)
    }
    expect(cached.evaluate(sampleInput({ emails: 1 }), [])).toBe(first)
  })

  it('does not confuse values that run into each other', async () => {
    const { cached, calls } = await counted({
      a: 'decision := {"evaluated": true, "violations": [], "x": [input.request.method, input.request.path, input.tenant]}',
    })
    const make = (method: string, path: string, tenant: string): DecisionInput => ({
      ...sampleInput(),
      tenant,
      request: { ...sampleInput().request, method, path },
    })
    const inputs = [
      make('a', 'b', 'c'),
      make('ab', '', 'c'),
      make('a', 'bs1:c', ''),
      make('', 'ab', 'c'),
      make('as1:b', '', 'c'),
    ]
    const results = new Set(inputs.map((input) => cached.evaluate(input, [])))
    expect(results.size).toBe(inputs.length)
    expect(calls()).toBe(inputs.length)
  })

  it('keeps at most so many, and forgets all when told', async () => {
    const { cached, calls } = await counted({ a: READS }, 2)
    for (const emails of [1, 2, 3, 3, 2, 1]) cached.evaluate(sampleInput({ emails }), [])
    expect(calls()).toBe(4)
    cached.clear()
    cached.evaluate(sampleInput({ emails: 1 }), [])
    expect(calls()).toBe(5)
  })

  it('keeps nothing that a fault decided', async () => {
    const { cached, calls } = await counted({
      a: PASS,
      aborts: `${PASS}\ndecision := {"evaluated": true, "violations": [], "classification": "public"} if input.channel == "external"`,
    })
    const first = cached.evaluate(sampleInput(), [])
    expect(cached.evaluate(sampleInput(), [])).not.toBe(first)
    expect(calls()).toBe(2)
  })

  it('keeps nothing where a rule reads the body', async () => {
    const bundle = await verifiedBundle([await compileSample(opa, await sampleSources())], {
      policy: { limits: { email: 2 } },
    })
    const cached = createCachedEvaluator(await createEvaluator(bundle, { timeoutMs: 200, maxMemoryMiB: 32 }), {
      maxEntries: 10,
    })
    const label = (text: string): number => {
      const [outcome] = cached.evaluate(sampleInput(), [], Buffer.from(JSON.stringify({ items: [{ label: text }] })))
      return outcome !== undefined && 'decision' in outcome ? outcome.decision.violations.length : -1
    }
    expect([label('open'), label('secret'), label('open')]).toEqual([0, 1, 0])
    expect(cached.reads('response.body')).toBe(true)
  })
})
