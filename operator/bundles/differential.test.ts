import { beforeAll, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { sampleInput } from '#engine/compile/fixtures/sample.ts'
import { compileRuleSet, type CompiledRules } from '#engine/compile/rule-set.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createActivationGate } from './activation-gate.ts'
import { createDifferentialCheck } from './differential.ts'

const TIMEOUT_MS = 60_000
let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

/** One rule for each number: at most so many addresses. */
async function compile(...limits: number[]): Promise<CompiledRules> {
  const rules = limits.map((value, n) => ({
    name: `rule-${n}`,
    spec: {
      description: 'Few addresses',
      severity: 'high' as const,
      frameworks: ['GDPR'],
      conditions: { fact: 'response.facts.email.count', operator: 'lessThanInclusive' as const, value },
    },
  }))
  const { module, problems } = await compileRuleSet({ scope: 'root', rules, opa, timeoutMs: TIMEOUT_MS })
  expect([...problems]).toEqual([])
  return module
}

describe('the differential check', () => {
  it('passes what wasm and OPA judge alike, and names what they do not', async () => {
    const check = createDifferentialCheck({ samples: [sampleInput({ emails: 3 })], opa, timeoutMs: TIMEOUT_MS })
    const good = await compile(1, 2)
    await check(good)
    const tampered = { ...good, wasm: (await compile(1, 5)).wasm }
    await expect(
      createDifferentialCheck({ samples: [sampleInput({ emails: 3 })], opa, timeoutMs: TIMEOUT_MS })(tampered),
    ).rejects.toMatchObject({
      code: 'RULE_INVALID',
      message: expect.stringContaining('rule-1') as string,
    })
  })

  it('compares only what has changed since it passed', async () => {
    const asked: string[][] = []
    const check = createDifferentialCheck({
      samples: [],
      opa,
      timeoutMs: TIMEOUT_MS,
      check: async ({ only }) => (asked.push([...(only ?? [])]), []),
    })
    await check(await compile(1, 2))
    await check(await compile(1, 2))
    await check(await compile(1, 5))
    await check(await compile(1, 5, 1))
    expect(asked).toEqual([['rule-0', 'rule-1'], ['rule-1'], ['rule-2']])
  })

  it('refuses a module of which it does not know the Rego', async () => {
    const { module, wasm } = await compile(1)
    const check = createDifferentialCheck({ samples: [], opa, timeoutMs: TIMEOUT_MS })
    await expect(check({ module, wasm })).rejects.toMatchObject({ code: 'RULE_INVALID' })
  })
})

describe('the activation gate', () => {
  it('asks once a module, and again when the answer was about OPA', async () => {
    const module = await compile(1)
    const answers: (SignetError | null)[] = [
      new SignetError('OPA_UNAVAILABLE', 'away'),
      new SignetError('RULE_INVALID', 'no'),
    ]
    let asked = 0
    const gate = createActivationGate({
      async compare() {
        const answer = answers[asked++] ?? null
        if (answer !== null) throw answer
      },
    })
    const codes = [await gate.check(module), await gate.check(module), await gate.check(module)].map(
      (error) => error?.code,
    )
    expect([codes, asked]).toEqual([['OPA_UNAVAILABLE', 'RULE_INVALID', 'RULE_INVALID'], 2])
  })
})
