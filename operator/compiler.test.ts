import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import type { DecisionInput } from '#core/policy/decision.ts'
import type { RuleObject } from '#core/rule/model.ts'
import type { checkDifferential } from '#engine/compile/differential.ts'
import { createOpaMemory } from '#engine/compile/opa-memory.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createCompiler, readStandardSamples, readStandardSources } from './compiler.ts'

const opa = await ensureOpa()
const rule = (name: string, limit = 500): RuleObject => ({
  name,
  spec: {
    description: `Rule ${name}`,
    severity: 'low',
    conditions: { all: [{ fact: 'response.status', operator: 'lessThan', value: limit }] },
  },
})

type Trial = Parameters<typeof checkDifferential>[0]

/** A compiler whose trials end as `judge` says; what was tried is kept. */
function bench(judge: (trial: Trial) => Awaited<ReturnType<typeof checkDifferential>> = () => []) {
  const tried: string[][] = []
  const clock = { ms: 0 }
  const compile = createCompiler({
    opa,
    memory: createOpaMemory(2_048),
    now: () => clock.ms,
    timeoutMs: 60_000,
    files: [],
    samples: [{}] as unknown as DecisionInput[],
    differential: async (trial) => {
      tried.push([...(trial.only ?? [])].sort())
      return judge(trial)
    },
  })
  return { tried, compile, clock }
}

const outcome = { kind: 'undecidable' } as never
const difference = (id: string) => ({ rule: id, sample: 3, wasm: outcome, opa: outcome })
const idsOf = ({ module }: Awaited<ReturnType<ReturnType<typeof createCompiler>>>): string[] =>
  module.module.rules.map(({ id }) => id)

describe('a compiled scope', () => {
  it('has been tried on the samples: once each rule, and again when it changed', async () => {
    const { tried, compile } = bench()
    await compile('root', [rule('a'), rule('b')])
    await compile('root', [rule('a'), rule('b')])
    await compile('root', [rule('a'), rule('b', 400)])
    await compile('namespace/payments', [rule('a')])
    expect(tried).toEqual([['a', 'b'], ['b'], ['a']])
  })

  it('with many rules is tried in parts, and one that fails there is left out of the whole', async () => {
    const { tried, compile } = bench(({ only }) => (only?.has('r-7') === true ? [difference('r-7')] : []))
    const rules = Array.from({ length: 230 }, (_, index) => rule(`r-${index}`))
    const compiled = await compile('root', rules)
    expect(idsOf(compiled)).toHaveLength(229)
    expect(compiled.problems.has('r-7')).toBe(true)
    expect(tried.map(({ length }) => length)).toEqual([100, 100, 30])
    expect(new Set(tried.flat()).size).toBe(230)
    // One that changed is tried alone.
    await compile('root', [rule('r-0', 400), ...rules.filter(({ name }) => name !== 'r-0' && name !== 'r-7')])
    expect(tried.slice(3)).toEqual([['r-0']])
  })

  it('leaves out a rule that wasm and OPA judge differently, and says so', async () => {
    const { compile } = bench(({ only }) => (only?.has('b') === true ? [difference('b'), difference('b')] : []))
    const compiled = await compile('root', [rule('a'), rule('b')])
    expect(idsOf(compiled)).toEqual(['a'])
    expect(compiled.problems.get('b')).toEqual([
      expect.objectContaining({ file: 'b', message: expect.stringContaining('sample 4') as string }),
    ])
  })

  it('leaves out a rule that stops the evaluation', async () => {
    const { compile } = bench(({ only }) => {
      if (only?.has('b') !== true) return []
      const errors = [{ file: 'b', line: 2, column: 1, message: 'two values at once' }]
      throw new SignetError('RULE_INVALID', 'b', { details: { errors } })
    })
    const compiled = await compile('root', [rule('a'), rule('b')])
    expect(idsOf(compiled)).toEqual(['a'])
    expect(compiled.problems.get('b')?.[0]?.message).toBe('two values at once')
  })

  it('tries the others again when one stopped the evaluation: what was not compared has not passed', async () => {
    const { tried, compile } = bench(({ only }) => {
      if (only?.has('stops') !== true) return only?.has('differs') === true ? [difference('differs')] : []
      const errors = [{ file: 'stops', line: 1, column: 1, message: 'x' }]
      throw new SignetError('RULE_INVALID', 'x', { details: { errors } })
    })
    const rules = [rule('differs'), rule('fine'), rule('stops')]
    const compiled = await compile('root', rules)
    expect([idsOf(compiled), [...compiled.problems.keys()].sort()]).toEqual([['fine'], ['differs', 'stops']])
    // What failed is not run again with each change beside it.
    tried.length = 0
    const again = await compile('root', [...rules, rule('new')])
    expect([tried, [...again.problems.keys()].sort()]).toEqual([[['new']], ['differs', 'stops']])
  })

  it('says when a rule that did not end is worth another trial: ever later; one that decides otherwise is not', async () => {
    const slow = { rule: 'slow', sample: 0, wasm: { undecidable: 'wasm: took 5 s' } as never, opa: outcome }
    let heals = false
    const { tried, compile, clock } = bench(({ only }) => {
      const found = only?.has('other') === true ? [difference('other')] : []
      return only?.has('slow') === true && !heals ? [...found, slow] : found
    })
    const rules = [rule('fine'), rule('other'), rule('slow')]
    const waits: (number | undefined)[] = []
    for (let round = 0; round < 7; round += 1) {
      const { retryAfterMs } = await compile('root', rules)
      waits.push(retryAfterMs)
      clock.ms += retryAfterMs ?? 0
    }
    expect(waits).toEqual([10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000])
    heals = true
    const healed = await compile('root', rules)
    expect([[...healed.problems.keys()], healed.retryAfterMs]).toEqual([['other'], undefined])
    expect(tried.length).toBeGreaterThan(7)
  })

  it('is refused as a whole where nobody can be named, and tried again the next time', async () => {
    let fails = true
    const { tried, compile } = bench(() => {
      if (fails) throw new SignetError('RULE_INVALID', 'time ran out', { details: { errors: [] } })
      return []
    })
    await expect(compile('root', [rule('a')])).rejects.toThrow('time ran out')
    fails = false
    await compile('root', [rule('a')])
    expect(tried).toEqual([['a'], ['a']])
  })

  it('with the shipped rules passes on their samples, really tried', async () => {
    const [files, samples] = await Promise.all([readStandardSources(), readStandardSamples()])
    expect(samples.length).toBeGreaterThan(20)
    const compile = createCompiler({ opa, memory: createOpaMemory(2_048), timeoutMs: 60_000, files, samples })
    const compiled = await compile('root', [rule('mine')])
    expect(compiled.problems.size).toBe(0)
    expect(idsOf(compiled)).toContain('mine')
    expect(idsOf(compiled).length).toBeGreaterThan(5)
  })
})
