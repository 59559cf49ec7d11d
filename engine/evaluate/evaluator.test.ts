import { beforeAll, describe, expect, it } from 'vitest'
import type { RuleOutcome } from '#core/policy/decision.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import {
  compileSample,
  PASS,
  ruleSource,
  sampleInput,
  sampleSources,
  verifiedBundle,
} from '#engine/compile/fixtures/sample.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { createEvaluator, type Evaluator, type EvaluatorOptions } from './evaluator.ts'
import type { RuleFault } from './module-runner.ts'

/** Some 10^12 steps, of which each takes a little memory. */
const LOOP = `loop if {
  ns := numbers.range(1, 1000)
  some a in ns
  some b in ns
  some c in ns
  some d in ns
  d < 0
}`
const LOOPS = `${LOOP}\ndefault decision := {"evaluated": true, "violations": []}\ndecision := {} if loop`
const LOOPS_ON_DEMAND = `${LOOP}\ndefault decision := {"evaluated": true, "violations": []}\ndecision := {} if { input.tenant == "slow"; loop }`
const ABORTS = `${PASS}\ndecision := {"evaluated": true, "violations": [], "classification": "public"} if input.channel == "external"`
const FILLS_MEMORY = PASS.replace('[]', '[v | some n in numbers.range(1, 20000000); n < 0; v := n]')

let opa: string
let sample: BundleModule
beforeAll(async () => {
  opa = await ensureOpa()
  sample = await compileSample(opa, await sampleSources())
}, 600_000)

async function evaluatorOf(
  rules: Record<string, string>,
  options: Partial<EvaluatorOptions> & { custom?: Record<string, string> } = {},
): Promise<Evaluator> {
  const sources = Object.entries(rules).map(([id, body]) => {
    const custom = options.custom?.[id]
    return ruleSource(id, body, custom === undefined ? {} : { custom })
  })
  const bundle = await verifiedBundle([await compileSample(opa, sources)])
  return createEvaluator(bundle, { timeoutMs: 200, maxMemoryMiB: 32, ...options })
}

/** Rule to `ok`, or to the reason why it is undecidable. */
function summary(outcomes: readonly RuleOutcome[]): Record<string, string> {
  return Object.fromEntries(outcomes.map((o) => [o.rule, 'decision' in o ? 'ok' : o.undecidable]))
}

describe('createEvaluator', () => {
  it('judges by all rules, root first, by id', async () => {
    const own = await compileSample(opa, [ruleSource('a-rule', PASS), ruleSource('route', PASS)], 'namespace/shop')
    const bundle = await verifiedBundle([sample, own], { scope: 'namespace/shop', policy: { limits: { email: 2 } } })
    const evaluator = await createEvaluator(bundle, { timeoutMs: 200, maxMemoryMiB: 32 })
    const body = Buffer.from('{"items":[{"label":"secret"},{"label":"open"}]}')
    const outcomes = evaluator.evaluate(sampleInput({ path: '/admin/x', emails: 3 }), [], body)
    const ids = ['body', 'personal-data', 'route', 'shop/a-rule', 'shop/route']
    expect(outcomes.map((outcome) => outcome.rule)).toEqual(ids)
    expect(evaluator.rules.map((rule) => rule.id)).toEqual(ids)
    expect(evaluator.revision).toBe(bundle.revision)
    expect(outcomes.slice(0, 3)).toMatchObject([
      { decision: { violations: [{ message: 'item 0 is secret' }] } },
      {
        decision: { classification: 'confidential', violations: [{ message: '3 e-mail addresses leave by external' }] },
      },
      { decision: { approval_status: 'rejected', violations: [{ message: 'internal route /admin' }] } },
    ])
    expect(Object.isFrozen(outcomes)).toBe(true)
    expect(evaluator.isRepeatable!(outcomes)).toBe(true)
  })

  it('gives a body to rules with all digits of its numbers', async () => {
    const evaluator = await evaluatorOf({
      a: 'decision := {"evaluated": true, "violations": [{"severity": "low", "message": $"{input.response.body}", "remediation": {"hint": ""}, "frameworks": []}]}',
    })
    const text = '[12345678901234567890, 0.10, "é"]'
    const [outcome] = evaluator.evaluate(sampleInput(), [], Buffer.from(text))
    expect(outcome).toMatchObject({ decision: { violations: [{ message: text }] } })
  })

  it('does not go on without input: what cannot be parsed is undecidable', async () => {
    const evaluator = await evaluatorOf({ a: PASS })
    for (const body of ['', '{', 'nul', '{"a":1', '"\xff', '"\\ud800"', '['.repeat(200_000)]) {
      const outcomes = evaluator.evaluate(sampleInput(), [], Buffer.from(body, 'latin1'))
      expect(summary(outcomes)['a'], body.slice(0, 10)).toMatch(/^the input cannot be read/)
    }
    expect(summary(evaluator.evaluate(sampleInput(), []))).toEqual({ a: 'ok' })
  })

  it.each([
    ['no decision', 'decision := {"evaluated": true, "violations": []} if false', /no decision/],
    ['no sentinel', 'decision := {"violations": []}', /sentinel/],
    ['a false sentinel', 'decision := {"evaluated": false, "violations": []}', /sentinel/],
    ['something else', 'decision := "ok"', /sentinel/],
    ['no violations', 'decision := {"evaluated": true}', /wrong form/],
    ['a violation of no form', 'decision := {"evaluated": true, "violations": [1]}', /wrong form: \/violations\/0/],
    [
      'an unknown classification',
      'decision := {"evaluated": true, "violations": [], "classification": "secret"}',
      /wrong form: \/classification/,
    ],
    [
      'an unknown approval status',
      'decision := {"evaluated": true, "violations": [], "approval_status": "yes"}',
      /wrong form/,
    ],
    [
      'too large a result',
      'decision := {"evaluated": true, "violations": [], "x": concat("", [w | some _ in numbers.range(1, 50000); w := `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx`])}',
      /too large/,
    ],
  ])('calls a rule with %s undecidable', async (_, body, want) => {
    expect(
      summary(
        (await evaluatorOf({ a: body, b: PASS }, { timeoutMs: 5_000, maxMemoryMiB: 256 })).evaluate(sampleInput(), []),
      ),
    ).toEqual({
      a: expect.stringMatching(want) as string,
      b: 'ok',
    })
  })

  it('takes violations from a set, in the same order always', async () => {
    const violation = (message: string): string =>
      `{"severity": "low", "message": "${message}", "remediation": {"hint": ""}, "frameworks": []}`
    const evaluator = await evaluatorOf({
      a: `decision := {"evaluated": true, "violations": {${['z', 'b', 'm', 'a'].map(violation).join(', ')}}, "regulations": {"SOX", "GDPR"}}`,
    })
    const [outcome] = evaluator.evaluate(sampleInput(), [])
    expect(outcome).toMatchObject({
      decision: { violations: ['a', 'b', 'm', 'z'].map((message) => ({ message })), regulations: ['GDPR', 'SOX'] },
    })
  })

  it('does not judge rules that read what could not be determined', async () => {
    const evaluator = await createEvaluator(await verifiedBundle([sample], { policy: { limits: { email: 2 } } }), {
      timeoutMs: 200,
      maxMemoryMiB: 32,
    })
    const cases: [string[], string[]][] = [
      [[], []],
      [['response.facts.email'], ['personal-data']],
      [['response.facts.email.count'], ['personal-data']],
      [['response.facts'], ['personal-data']],
      [['response.facts.emails'], []],
      [['response'], ['body', 'personal-data']],
      [
        ['request.path', 'response.body'],
        ['body', 'route'],
      ],
      [['lineage'], []],
      [[''], ['body', 'personal-data', 'route']],
    ]
    for (const [paths, want] of cases) {
      const outcomes = evaluator.evaluate(sampleInput(), paths)
      expect(
        outcomes.filter((o) => 'undecidable' in o).map((o) => o.rule),
        paths.join(),
      ).toEqual(want)
    }
  })

  it('says what its rules read, but not for rules that are off', async () => {
    const evaluator = await evaluatorOf(
      {
        a: `${PASS}\nx := input.response.facts.email.count\ndecision := {} if { x < 0; input.tenant }`,
        b: 'decision := {"evaluated": true, "violations": [], "b": input.response.body}',
      },
      { custom: { b: 'mode: "off"' } },
    )
    const cases: [string, boolean][] = [
      ['response.facts.email', true],
      ['response.facts.email.count', true],
      ['response', true],
      ['', true],
      ['response.facts.iban', false],
      ['response.body', false],
      ['tenants', false],
    ]
    for (const [path, want] of cases) expect(evaluator.reads(path), path).toBe(want)
    expect(summary(evaluator.evaluate(sampleInput(), []))).toEqual({ a: 'ok' })
    expect(evaluator.rules.map((rule) => rule.mode)).toEqual(['enforce', 'off'])
  })

  it('refuses a module that cannot be run', async () => {
    const broken = { ...sample, wasm: Buffer.from('not wasm') }
    const other = { ...sample, wasm: Buffer.from('0061736d01000000', 'hex') }
    for (const module of [broken, other]) {
      await expect(
        createEvaluator(await verifiedBundle([module]), { timeoutMs: 200, maxMemoryMiB: 32 }),
      ).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
    }
    const less = await compileSample(opa, [ruleSource('a', PASS)])
    const mixed = { wasm: less.wasm, module: sample.module }
    await expect(
      createEvaluator(await verifiedBundle([mixed]), { timeoutMs: 200, maxMemoryMiB: 32 }),
    ).rejects.toMatchObject({ code: 'BUNDLE_INVALID' })
  })
})

describe('faults', () => {
  it('leaves the fault of a rule that aborts to itself', async () => {
    const faults: RuleFault[] = []
    const evaluator = await evaluatorOf(
      { a: PASS, aborts: ABORTS, z: PASS },
      { onFault: (fault) => faults.push(fault) },
    )
    for (let round = 1; round <= 3; round++) {
      const outcomes = evaluator.evaluate(sampleInput(), [])
      expect(summary(outcomes)).toEqual({
        a: 'ok',
        aborts: expect.stringMatching(/aborts\.rego:\d+.*conflict/) as string,
        z: 'ok',
      })
      expect(evaluator.isRepeatable!(outcomes)).toBe(false)
    }
    expect(faults.map(({ rule, kind }) => [rule, kind])).toEqual([1, 2, 3].map(() => ['aborts', 'abort']))
    expect(summary(evaluator.evaluate(sampleInput({ channel: 'internal' }), []))).toEqual({
      a: 'ok',
      aborts: 'ok',
      z: 'ok',
    })
  })

  it('interrupts a rule that loops, within its limit, and pauses it', async () => {
    let now = 0
    const faults: RuleFault[] = []
    const evaluator = await evaluatorOf(
      { a: PASS, loops: LOOPS, z: PASS },
      {
        timeoutMs: 150,
        maxMemoryMiB: 1_024,
        now: () => now,
        backoffMs: { first: 1_000, longest: 3_000 },
        onFault: (fault) => faults.push(fault),
      },
    )
    const evaluate = (): { took: number; got: Record<string, string> } => {
      const startedAt = performance.now()
      const got = summary(evaluator.evaluate(sampleInput(), []))
      return { took: performance.now() - startedAt, got }
    }
    const first = evaluate()
    expect(first.got).toEqual({ a: 'ok', loops: expect.stringMatching(/not done after 150 ms/) as string, z: 'ok' })
    // All rules together, then it alone: two limits, and some air for a busy machine.
    expect(first.took).toBeGreaterThan(280)
    expect(first.took).toBeLessThan(1_500)
    // Not run again in its pause; then once more, alone; each pause is twice as long, up to the longest.
    for (const [at, wantRun] of [
      [999, false],
      [1_000, true],
      [2_999, false],
      [3_000, true],
      [5_999, false],
      [6_000, true],
      [8_999, false],
      [9_000, true],
    ] as const) {
      const count = faults.length
      now = at
      const next = evaluate()
      expect(faults.length - count, `at ${at}`).toBe(wantRun ? 1 : 0)
      expect(next.got, `at ${at}`).toEqual({
        a: 'ok',
        loops: expect.stringMatching(wantRun ? /not done/ : /paused/) as string,
        z: 'ok',
      })
    }
  })

  it('takes a rule back when it finishes in time again', async () => {
    let now = 0
    const evaluator = await evaluatorOf(
      { a: PASS, sometimes: LOOPS_ON_DEMAND },
      { timeoutMs: 150, maxMemoryMiB: 1_024, now: () => now, backoffMs: { first: 1_000, longest: 3_000 } },
    )
    expect(summary(evaluator.evaluate({ ...sampleInput(), tenant: 'slow' }, []))['sometimes']).toMatch(/not done/)
    now = 1_000
    expect(summary(evaluator.evaluate(sampleInput(), []))).toEqual({ a: 'ok', sometimes: 'ok' })
    const outcomes = evaluator.evaluate(sampleInput(), [])
    expect(evaluator.isRepeatable!(outcomes)).toBe(true)
  })

  it('holds the caller for no more than three limits, whatever the number of rules that loop', async () => {
    const evaluator = await evaluatorOf(
      { a: LOOPS, b: LOOPS, c: LOOPS, d: LOOPS, e: PASS },
      { timeoutMs: 150, maxMemoryMiB: 1_024 },
    )
    const took = 'not evaluated: other rules took the time'
    expect(summary(evaluator.evaluate(sampleInput(), []))).toMatchObject({ c: took, d: took, e: took })
  })

  it('ends a rule that wants more memory than there is, and pauses it', async () => {
    let now = 0
    const faults: RuleFault[] = []
    const evaluator = await evaluatorOf(
      { a: PASS, fills: FILLS_MEMORY },
      { timeoutMs: 5_000, maxMemoryMiB: 16, now: () => now, onFault: (fault) => faults.push(fault) },
    )
    const steps: [number, RegExp][] = [
      [0, /could not be evaluated: opa_malloc/],
      [1_999, /paused/],
      [2_000, /could not be evaluated: opa_malloc/],
    ]
    for (const [at, want] of steps) {
      now = at
      expect(summary(evaluator.evaluate(sampleInput(), []))).toEqual({
        a: 'ok',
        fills: expect.stringMatching(want) as string,
      })
    }
    expect(faults.map(({ rule, kind }) => [rule, kind])).toEqual([1, 2].map(() => ['fills', 'memory']))
  })

  it('survives an input that is larger than the memory', async () => {
    const evaluator = await evaluatorOf({ a: PASS }, { maxMemoryMiB: 16 })
    const huge = Buffer.from(JSON.stringify({ text: 'x'.repeat(20 << 20) }))
    expect(summary(evaluator.evaluate(sampleInput(), [], huge))['a']).toMatch(/^the input cannot be read/)
    expect(summary(evaluator.evaluate(sampleInput(), []))).toEqual({ a: 'ok' })
  })
})
