import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { beforeAll, describe, expect, it } from 'vitest'
import { DecisionInput, RuleDecision, type FactName } from '#core/policy/decision.ts'
import type { CompiledModule, CompiledRule } from '#core/policy/manifest.ts'
import { compileModule } from '#engine/compile/compile.ts'
import { generateBundleKey, signBundle } from '#engine/bundle/sign.ts'
import { loadBundle } from '#engine/bundle/load.ts'
import { createEvaluator } from '#engine/evaluate/evaluator.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { compileStandardPack } from '#tools/opa/build-standard-pack.ts'

const run = promisify(execFile)
const PACK = fileURLToPath(new URL('standard', import.meta.url))
const SAMPLES = join(PACK, 'samples')

/** A sample: the whole input of one decision, and what its rule must make of it. Members that `want` leaves out must be absent. */
const Sample = Type.Object(
  {
    title: Type.String({ minLength: 1 }),
    input: DecisionInput,
    want: Type.Object(
      {
        violations: Type.Integer({ minimum: 0 }),
        ...Type.Omit(RuleDecision, ['evaluated', 'violations']).properties,
      },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
)
type Sample = Type.Static<typeof Sample>
const sampleChecker = Compile(Sample)
const decisionChecker = Compile(RuleDecision)

const samples: { rule: string; name: string; sample: Sample }[] = []
for (const rule of (await readdir(SAMPLES)).sort()) {
  for (const file of (await readdir(join(SAMPLES, rule))).sort()) {
    const sample: unknown = JSON.parse(await readFile(join(SAMPLES, rule, file), 'utf8'))
    if (!sampleChecker.Check(sample)) {
      throw new Error(`${rule}/${file}: ${JSON.stringify(sampleChecker.Errors(sample)[0])}`)
    }
    samples.push({ rule, name: basename(file, '.json'), sample })
  }
}

let opa: string
let module: CompiledModule
let wasm: Buffer
beforeAll(async () => {
  opa = await ensureOpa()
  const files = await compileStandardPack(opa)
  module = JSON.parse(files.get('module.json')!.toString()) as CompiledModule
  wasm = files.get('root.wasm')!
}, 600_000)

async function loadEvaluator() {
  const { key, trust } = await generateBundleKey()
  const now = new Date('2026-11-23T09:30:00.000Z')
  const expiresAt = new Date(now.getTime() + 60_000)
  const bytes = await signBundle({
    modules: [{ module, wasm }],
    policy: {},
    scope: '*',
    sequence: 1,
    issuedAt: now,
    expiresAt,
    key,
  })
  return createEvaluator(await loadBundle(bytes, { trust, scope: '*', now }), { timeoutMs: 1000, maxMemoryMiB: 32 })
}

function ruleOf(id: string): CompiledRule {
  const rule = module.rules.find((candidate) => candidate.id === id)
  if (rule === undefined) throw new Error(`there is no rule ${id}`)
  return rule
}

describe('the standard rules', () => {
  it('pass their own tests', async () => {
    const { stdout } = await run(opa, ['test', '--format=json', '--ignore=*.json', PACK])
    const results = JSON.parse(stdout) as { name: string; fail?: boolean; skip?: boolean }[]
    expect(results.length).toBeGreaterThan(40)
    expect(results.filter((result) => result.fail === true || result.skip === true)).toEqual([])
  })

  it('are formatted as OPA formats', async () => {
    const { stdout } = await run(opa, ['fmt', '--list', PACK])
    expect(stdout).toBe('')
  })

  it('have samples allowed, and refused where they can refuse', () => {
    for (const { id } of module.rules) {
      const names = samples.filter((sample) => sample.rule === id).map((sample) => sample.name)
      expect({ id, isAllowed: names.some((name) => name.startsWith('allowed-')) }).toEqual({ id, isAllowed: true })
      // Regulations are named, never refused.
      const canRefuse = id !== 'regulations'
      expect({ id, isRefused: names.some((name) => name.startsWith('refused-')) }).toEqual({ id, isRefused: canRefuse })
    }
  })

  it.each(samples)('$rule/$name is named for its outcome', ({ name, sample }) => {
    expect(name).toMatch(sample.want.violations === 0 ? /^allowed-/ : /^refused-/)
  })

  it('decide the samples as they say, in OPA and in wasm alike', async () => {
    const inOpa = await decideInOpa()
    const evaluator = await loadEvaluator()
    for (const [index, { rule, name, sample }] of samples.entries()) {
      const at = `${rule}/${name}`
      const decision = inOpa[index]
      expect(decisionChecker.Check(decision), `${at}: ${JSON.stringify(decision)}`).toBe(true)
      const { evaluated, violations, ...obligations } = decision as RuleDecision
      expect({ at, evaluated, violations: violations.length, ...obligations }).toEqual({
        at,
        evaluated: true,
        ...sample.want,
      })
      for (const { severity } of violations) expect({ at, severity }).toEqual({ at, severity: ruleOf(rule).severity })
      const outcome = evaluator.evaluate(sample.input, []).find((candidate) => candidate.rule === rule)
      expect({ at, outcome }).toEqual({ at, outcome: { rule, decision } })
    }
    evaluator.close()
  })

  it('decide nothing when what they read is absent', async () => {
    const evaluator = await loadEvaluator()
    const whole = samples.find(({ rule, name }) => rule === 'external-approval' && name === 'refused-confidential')!
      .sample.input
    const isJudged = (input: DecisionInput, rule: string): boolean =>
      evaluator.evaluate(input, []).some((outcome) => outcome.rule === rule && 'decision' in outcome)
    for (const [rule, facts] of Object.entries(FACTS_READ)) {
      expect({ rule, isJudged: isJudged(whole, rule) }).toEqual({ rule, isJudged: true })
      for (const fact of facts) {
        const input = structuredClone(whole)
        delete input.response.facts[fact]
        // A finding that is there may decide alone; without any, the absent one is missing.
        for (const found of Object.values(input.response.facts)) found.count = 0
        expect({ rule, fact, isJudged: isJudged(input, rule) }).toEqual({ rule, fact, isJudged: false })
      }
    }
    evaluator.close()
  })

  it('read little: decisions are kept by what they read', () => {
    const reads = Object.fromEntries(module.rules.map((rule) => [rule.id, rule.reads]))
    const personal = ['email', 'iban', 'national_id', 'payment_card', 'person_name', 'phone']
    const facts = (names: readonly string[]): string[] => names.map((name) => `response.facts.${name}.count`)
    expect(reads).toEqual({
      classification: ['channel', 'lineage.declared_classification', ...facts(personal), 'route'],
      containment: ['blocks'],
      'external-approval': ['approvals', 'channel', 'lineage.declared_classification', ...facts(personal), 'route'],
      'forged-stamp': ['response.upstream_stamp'],
      'payment-card-egress': ['channel', 'response.facts.payment_card.count', 'route.regulations'],
      regulations: [
        ...facts(['email', 'financial_statement', 'iban', 'national_id', 'payment_card', 'person_name', 'phone']),
        'route',
      ],
      residency: ['channel', 'request.caller.region', 'route'],
    })
  })
})

describe('policies/README.md', () => {
  it('lists the standard rules as their METADATA has them', async () => {
    const text = await readFile(fileURLToPath(new URL('README.md', import.meta.url)), 'utf8')
    const rows = module.rules.map(({ id, title, severity, frameworks, mode, undecidable }) => {
      const names = frameworks.length === 0 ? '-' : frameworks.join(', ')
      return `| \`${id}\` | ${title} | ${severity} | ${names} | ${mode} | ${undecidable.external} / ${undecidable.internal} |`
    })
    const listed = text.split('\n').filter((line) => /^\| `.* (?:closed|open) \|$/.test(line))
    expect(listed).toEqual(rows)
  })

  it('shows a rule that compiles', async () => {
    const text = await readFile(fileURLToPath(new URL('README.md', import.meta.url)), 'utf8')
    const [, source] = /```rego\n([^]*?)```/.exec(text)!
    const compiled = await compileModule({
      scope: 'root',
      sources: [{ path: 'README.md', text: source! }],
      opa,
      timeoutMs: 60_000,
    })
    expect(compiled.module.rules[0]).toMatchObject({ id: 'no-bulk-contacts', reads: ['response.facts.email.count'] })
  })
})

const PERSONAL: FactName[] = ['email', 'iban', 'national_id', 'payment_card', 'person_name', 'phone']
const FACTS_READ: Readonly<Record<string, readonly FactName[]>> = {
  classification: PERSONAL,
  'external-approval': PERSONAL,
  regulations: [...PERSONAL, 'financial_statement'],
  'payment-card-egress': ['payment_card'],
}

/** Each sample's decision by its rule, by OPA's own evaluator. */
async function decideInOpa(): Promise<unknown[]> {
  const directory = await mkdtemp(join(tmpdir(), 'signet-samples-'))
  try {
    const data = join(directory, 'samples.json')
    const inputs = samples.map(({ rule, sample }) => ({ rule: rule.replaceAll('-', '_'), input: sample.input }))
    await writeFile(data, JSON.stringify({ samples: inputs }))
    // As a module: in a query, OPA 1.22 does not see the input that a comprehension sets.
    const rules = [...new Set(inputs.map(({ rule }) => rule))].map(
      (rule) =>
        `decisions[i] := d if { some i, s in data.samples; s.rule == "${rule}"; d := data.${rule}.decision with input as s.input }`,
    )
    const query = join(directory, 'query.rego')
    await writeFile(query, ['package query', ...rules, ''].join('\n\n'))
    const args = [
      'eval',
      '--format=json',
      '--ignore=allowed-*,refused-*,*_test.rego',
      '-d',
      data,
      '-d',
      query,
      '-d',
      PACK,
    ]
    const { stdout } = await run(opa, [...args, 'data.query.decisions'])
    const { result } = JSON.parse(stdout) as { result: [{ expressions: [{ value: Record<string, unknown> }] }] }
    const byIndex = result[0].expressions[0].value
    return inputs.map((_, index) => byIndex[index])
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
}
