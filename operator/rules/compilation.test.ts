import { describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import type { RuleObject } from '#core/rule/model.ts'
import type { RuleProblem } from '#engine/compile/problem.ts'
import { createScopeCompilation, type CompileScope } from './compilation.ts'
import { ruleView } from './rule.fixture.ts'

/** A compiler that finds a fault in rules whose description says so, and remembers what it was given. */
function fakeCompiler(): { compile: CompileScope; calls: string[][]; fail: SignetError | null; retryAfterMs?: number } {
  const later = () => (fake.retryAfterMs === undefined ? {} : { retryAfterMs: fake.retryAfterMs })
  const fake: ReturnType<typeof fakeCompiler> = {
    calls: [],
    fail: null,
    compile: async (scope, rules: readonly RuleObject[]) => {
      fake.calls.push(rules.map(({ name, spec }) => `${name}:${spec.description}`))
      if (fake.fail !== null) throw fake.fail
      const problems = new Map<string, readonly RuleProblem[]>()
      for (const { name, spec } of rules) {
        if (spec.description.includes('bad')) problems.set(name, [{ file: name, line: 1, column: 1, message: 'bad' }])
      }
      const wasm = Buffer.from(
        rules
          .filter(({ name }) => !problems.has(name))
          .map(({ name, spec }) => `${name}:${spec.description}`)
          .join(),
      )
      return {
        module: { module: { scope, path: '/ns/policy.wasm', aggregate: '', rules: [] }, wasm },
        problems,
        ...later(),
      }
    },
  }
  return fake
}

function bench() {
  const compiler = fakeCompiler()
  let serial = 0
  const scope = createScopeCompilation('namespace/payments', { compile: compiler.compile, nextSerial: () => ++serial })
  const inForce = (): string | null =>
    scope.part?.state === 'compiled' ? scope.part.module.wasm.toString() : (scope.part?.state ?? null)
  return { compiler, scope, inForce }
}
const rule = (name: string, description: string, generation = 1) =>
  ruleView(name, { generation, spec: { description } })

describe('the compilation of a scope', () => {
  it('leaves a faulty rule out, and keeps the others', async () => {
    const { scope, inForce } = bench()
    const [a, b] = [rule('a', 'good'), rule('b', 'bad')]
    await scope.compile([a, b])
    expect(inForce()).toBe('a:good')
    expect(scope.of(a).compilation).toEqual({ state: 'compiled' })
    expect(scope.of(b).compilation).toMatchObject({ state: 'faulty', formerGeneration: null })
  })

  it('is worth to be made again when the compiler says so', async () => {
    const { compiler, scope } = bench()
    expect(await scope.compile([rule('a', 'bad')])).toBeUndefined()
    compiler.retryAfterMs = 5_000
    expect(await scope.compile([rule('a', 'bad')])).toBe(5_000)
    expect(await scope.compile([])).toBeUndefined()
  })

  it('keeps the last good generation of a rule that an edit broke', async () => {
    const { scope, inForce } = bench()
    await scope.compile([rule('a', 'first')])
    const broken = rule('a', 'bad', 2)
    await scope.compile([broken, rule('b', 'other')])
    expect(inForce()).toBe('a:first,b:other')
    expect(scope.of(broken).compilation).toMatchObject({ state: 'faulty', formerGeneration: 1 })
    // Still, when something else changes.
    await scope.compile([broken, rule('b', 'another', 2)])
    expect(inForce()).toBe('a:first,b:another')
    // And the mended one takes its place.
    await scope.compile([rule('a', 'third', 3)])
    expect(inForce()).toBe('a:third')
  })

  it('does not bring back what a deleted rule of that name said', async () => {
    const { scope, inForce } = bench()
    await scope.compile([rule('a', 'first')])
    await scope.compile([ruleView('a', { uid: 'another', spec: { description: 'bad' } })])
    expect(inForce()).toBe('')
  })

  it('a rule keeps the serial of the compilation that first had its generation', async () => {
    const { scope } = bench()
    const a = rule('a', 'good')
    await scope.compile([a])
    await scope.compile([a, rule('b', 'good')])
    expect(scope.of(a).serial).toBe(1)
    expect(scope.of(rule('b', 'good')).serial).toBe(2)
    expect(scope.serial).toBe(2)
  })

  it('keeps the last module when the compiler fails, and says so of new generations only', async () => {
    const { scope, compiler, inForce } = bench()
    const a = rule('a', 'good')
    await scope.compile([a])
    compiler.fail = new SignetError('OPA_UNAVAILABLE', 'OPA is not there')
    const edited = rule('b', 'good')
    await expect(scope.compile([a, edited])).rejects.toThrow('OPA is not there')
    expect(inForce()).toBe('a:good')
    expect(scope.of(a).compilation).toEqual({ state: 'compiled' })
    expect(scope.of(edited).compilation).toMatchObject({ state: 'failed', reason: 'CompilerUnavailable' })
    compiler.fail = new SignetError('RULE_INVALID', 'too large')
    await expect(scope.compile([a, edited])).rejects.toThrow()
    expect(scope.of(edited).compilation).toMatchObject({ state: 'failed', reason: 'ScopeTooLarge' })
  })

  it('is a failure, not an empty module, when the first compilation fails', async () => {
    const { scope, compiler } = bench()
    expect(scope.part).toBeNull()
    compiler.fail = new SignetError('OPA_UNAVAILABLE', 'OPA is not there')
    await expect(scope.compile([rule('a', 'good')])).rejects.toThrow()
    expect(scope.part).toMatchObject({ state: 'failed' })
  })

  it('has no module where no rule is for proxies; others are compiled all the same', async () => {
    const { scope, compiler, inForce } = bench()
    const scan = ruleView('s', { spec: { stage: 'scan', description: 'bad' } })
    await scope.compile([scan])
    expect(inForce()).toBe('none')
    expect(scope.of(scan).compilation).toMatchObject({ state: 'faulty' })
    await scope.compile([])
    expect(compiler.calls).toHaveLength(1)
    expect(inForce()).toBe('none')
  })
})
