import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import type { DecisionInput } from '#core/policy/decision.ts'
import type { Condition } from '#core/rule/condition.ts'
import type { ComplianceRuleSpec, RuleObject } from '#core/rule/model.ts'
import { WHOLE_RULE } from '#core/rule/rule.fixture.ts'
import { createEvaluator } from '#engine/evaluate/evaluator.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { checkDifferential, readSamples } from './differential.ts'
import { PASS, ruleSource, sampleInput, sampleSources, verifiedBundle } from './fixtures/sample.ts'
import { checkRule, compileRuleSet, createCompileCache, type RuleSetOptions } from './rule-set.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

const SPEC = { description: 'Few addresses', severity: 'high', frameworks: ['GDPR'] } as const
const FEW: Condition = { fact: 'response.facts.email.count', operator: 'lessThanInclusive', value: 3 }

function rego(body: string, more: Partial<ComplianceRuleSpec> = {}): ComplianceRuleSpec {
  return { ...SPEC, frameworks: ['GDPR'], rego: `package my.pkg\n\n${body}\n`, ...more }
}
function conditions(condition: Condition, more: Partial<ComplianceRuleSpec> = {}): ComplianceRuleSpec {
  return { ...SPEC, frameworks: ['GDPR'], conditions: condition, ...more }
}
const compile = (rules: RuleObject[], more: Partial<RuleSetOptions> = {}) =>
  compileRuleSet({ scope: 'root', rules, opa, timeoutMs: 60_000, ...more })

/** One evaluation of rules, as the proxy does it. */
async function judge(rules: RuleObject[], input: DecisionInput, unread: string[] = [], more = {}) {
  const { module, problems } = await compile(rules, more)
  expect([...problems]).toEqual([])
  const evaluator = await createEvaluator(await verifiedBundle([module]), { timeoutMs: 5_000, maxMemoryMiB: 64 })
  const outcomes = evaluator.evaluate(input, unread)
  evaluator.close()
  return Object.fromEntries(
    outcomes.map((outcome) => [outcome.rule, 'decision' in outcome ? outcome.decision : outcome.undecidable]),
  )
}

function input(change: (input: DecisionInput) => void = () => {}): DecisionInput {
  const whole = sampleInput()
  whole.request.matched_templates = []
  whole.workload.labels = {}
  change(whole)
  return whole
}

describe('compileRuleSet', () => {
  it('describes what the spec says', async () => {
    const { module, problems } = await compile([{ name: 'whole', spec: WHOLE_RULE }])
    expect([...problems]).toEqual([])
    expect(module.module.rules).toEqual([
      {
        id: 'whole',
        title: 'Contacts are not handed out in bulk',
        severity: 'high',
        frameworks: ['GDPR'],
        entrypoint: expect.stringMatching(/^signet\/root\/rules_[0-9a-f]{2}\/whole\/decision$/) as string,
        reads: [
          'channel',
          'request.caller.region',
          'request.caller.roles',
          'request.matched_templates',
          'request.method',
          'response.body.page.of-many',
          'response.facts.email.count',
          'response.media_type',
          'response.status',
          'tenant',
          'workload.labels',
          'workload.namespace',
        ],
        mode: 'enforce',
        undecidable: { external: 'closed', internal: 'open' },
        enforcement: {
          percentage: 50,
          tenants: { acme: { mode: 'shadow' }, globex: { mode: 'enforce', percentage: 10 } },
        },
        match_templates: ['/customers/{id}', '/reports/**'],
        guard: [
          'channel',
          'request.matched_templates',
          'request.method',
          'response.media_type',
          'response.status',
          'tenant',
          'workload.labels',
          'workload.namespace',
        ],
      },
    ])
  })

  it('leaves faulty rules out, says where they are wrong, and compiles the others', async () => {
    const { module, problems } = await compile([
      { name: 'good', spec: conditions(FEW) },
      { name: 'good-rego', spec: rego(PASS) },
      { name: 'same-package', spec: rego(PASS) },
      { name: 'builtin', spec: rego(`${PASS}\n\nx := http.send({})`) },
      { name: 'syntax', spec: rego('decision := {{') },
      { name: 'elsewhere', spec: rego(`${PASS}\n\nx := data.signet.root.good`) },
      { name: 'neighbour', spec: rego(`${PASS}\n\nx := data.other.pkg`) },
      { name: 'undecided', spec: rego('x := 1') },
      { name: 'two-values', spec: rego(`${PASS}\n\ndecision(x) := x`) },
      { name: 'policy', spec: { ...rego(PASS), rego: `package policy\n\n${PASS}\n` } },
      { name: 'entry', spec: { ...rego(PASS), rego: `# METADATA\n# entrypoint: true\npackage a\n\n${PASS}\n` } },
      { name: 'pattern', spec: conditions({ fact: 'request.path', operator: 'matches', value: '(' }) },
      { name: 'fact', spec: conditions({ fact: 'response.facts.emial.count', operator: 'equal', value: 1 }) },
      { name: 'both', spec: { ...conditions(FEW), rego: 'package x' } },
    ])
    expect(module.module.rules.map(({ id }) => id)).toEqual(['good', 'good-rego', 'same-package'])
    const found = Object.fromEntries(
      [...problems].map(([name, [first]]) => [
        name,
        `${first?.file} ${first?.line}:${first?.column} ${first?.message}`,
      ]),
    )
    expect(found).toEqual({
      builtin: 'builtin 5:6 undefined function http.send',
      syntax: expect.stringMatching(/^syntax 4:1 unexpected eof/) as string,
      elsewhere: expect.stringMatching(/^elsewhere 5:6 refers to data.signet.root.good/) as string,
      neighbour: expect.stringMatching(/^neighbour 5:6 refers to data.other.pkg/) as string,
      undecided: 'undecided 1:1 package my.pkg has no rule decision',
      'two-values': expect.stringMatching(/^two-values 3:1 conflicting rules/) as string,
      policy: expect.stringMatching(/^policy 1:1 .*policy data/) as string,
      entry: expect.stringMatching(/^entry 1:1 a METADATA block must not have entrypoint/) as string,
      pattern: 'pattern 1:1 spec.conditions: "(" is no regular expression of RE2 syntax',
      fact: expect.stringMatching(/^fact 1:1 spec.conditions.fact: there is no fact/) as string,
      both: 'both 1:1 spec: give exactly one of conditions and rego',
    })
  })

  it('compiles shipped rule files with them, which keep their names', async () => {
    const files = [...(await sampleSources()), ruleSource('taken', PASS)]
    const rules = [
      { name: 'taken', spec: conditions(FEW) },
      { name: 'mine', spec: conditions(FEW) },
    ]
    const { module, problems } = await compile(rules, { files })
    expect(module.module.rules.map(({ id }) => id)).toEqual(['body', 'mine', 'personal-data', 'route', 'taken'])
    expect([...problems.keys()]).toEqual(['taken'])
    await expect(compile([], { files: [ruleSource('a', 'x := {')] })).rejects.toMatchObject({ code: 'RULE_INVALID' })
  })

  it('gives the same bytes in any order, with and without cache, and compiles what changed only', async () => {
    const rules = Array.from({ length: 12 }, (_, i) => ({
      name: `rule-${i}`,
      spec: i % 2 === 0 ? rego(`${PASS}\n\nx := ${i}`) : conditions({ ...FEW, value: i }),
    }))
    const cache = createCompileCache({ maxEntries: 100 })
    const first = await compile(rules, { cache })
    expect(cache.size).toBe(12)
    for (const again of [await compile(rules.toReversed()), await compile(rules, { cache })]) {
      expect(again.module.wasm.equals(first.module.wasm)).toBe(true)
      expect(again.module.module).toEqual(first.module.module)
    }
    rules[0] = { name: 'rule-0', spec: rego('decision := {') }
    expect([...(await compile(rules, { cache })).problems.keys()]).toEqual(['rule-0'])
    expect(cache.size).toBe(13)
  })

  it('leaves out other stages, and compiles nothing at all', async () => {
    const scan = { ...conditions({ fact: 'cluster.version', operator: 'equal', value: '1' }), stage: 'scan' as const }
    const { module, problems } = await compile([{ name: 'scan', spec: scan }])
    expect([module.module.rules, problems.size]).toEqual([[], 0])
    expect(module.wasm.length).toBeGreaterThan(1000)
  })

  it('survives Rego bombs, and leaves only them out', async () => {
    const nested = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
    // Each level has two alternatives: what is reached doubles.
    const wide = Array.from({ length: 24 }, (_, i) => `f${i}(x) := [f${i + 1}(x), f${i + 1}(x)]`).join('\n')
    const started = performance.now()
    const { module, problems } = await compile([
      { name: 'nested', spec: rego(`${PASS}\n\nx := ${nested}`) },
      { name: 'wide', spec: rego(`${wide}\nf24(x) := x\nx := f0(1)\n${PASS}`) },
      { name: 'good', spec: rego(PASS) },
    ])
    expect(module.module.rules.map(({ id }) => id)).toContain('good')
    expect(problems.get('nested')?.length).toBeGreaterThan(0)
    expect(performance.now() - started).toBeLessThan(50_000)
  }, 60_000)
})

describe('the cache of a compilation', () => {
  it('forgets what ran out of time after five seconds, then after twice as long each time, five minutes at most', () => {
    let nowMs = 0
    const cache = createCompileCache({ maxEntries: 10, now: () => nowMs })
    const failed = { problems: [{ file: 'a', line: 1, column: 1, message: 'late' }], isTransient: true }
    const waits = Array.from({ length: 8 }, () => {
      expect(cache.get('a')).toBeUndefined()
      cache.set('a', failed)
      const waitMs = cache.retryAfterMs('a')!
      nowMs += waitMs - 1
      expect(cache.get('a')).toBe(failed)
      nowMs += 1
      return waitMs / 1_000
    })
    expect(waits).toEqual([5, 10, 20, 40, 80, 160, 300, 300])
    cache.set('a', { ...failed, isTransient: false })
    expect([cache.get('a')?.problems, cache.retryAfterMs('a'), cache.retryAfterMs('b')]).toEqual([
      failed.problems,
      undefined,
      undefined,
    ])
  })

  it('says when to compile again: what OPA could not do in its memory may go another time', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'signet-rule-set-'))
    try {
      // A parser that takes longer than the first look at its memory, of which a rule has none here.
      const slow = join(directory, 'opa')
      const script = `#!/bin/sh\ncase "$1" in parse) exec /bin/sleep 5 ;; *) exec ${opa} "$@" ;; esac\n`
      await writeFile(slow, script, { mode: 0o755 })
      const memory = { maxMiB: 2_048, ruleMiB: 0, take: () => Promise.resolve(() => {}) }
      const rules = [
        { name: 'late', spec: rego(PASS) },
        { name: 'soon', spec: conditions(FEW) },
      ]
      const cache = createCompileCache({ maxEntries: 10 })
      const found = await compile(rules, { opa: slow, memory, cache })
      expect(found.module.module.rules.map(({ id }) => id)).toEqual(['soon'])
      expect([...found.problems.keys()]).toEqual(['late'])
      expect(found.retryAfterMs).toBeGreaterThan(3_000)
      expect((await compile(rules, { cache: createCompileCache({ maxEntries: 10 }) })).retryAfterMs).toBeUndefined()
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  })
})

describe('checkRule', () => {
  it('says what keeps a rule from being compiled', async () => {
    const check = (spec: ComplianceRuleSpec) => checkRule({ name: 'a', spec }, { opa, timeoutMs: 10_000 })
    expect(await check(rego(PASS))).toEqual([])
    expect(await check(conditions(FEW))).toEqual([])
    expect(await check(rego(`${PASS}\n\nx := y`))).toEqual([
      { file: 'a', line: 5, column: 6, message: expect.stringContaining('unsafe') as string },
    ])
  })
})

describe('a rule with Rego', () => {
  const leak = `decision := {"evaluated": true, "violations": [{"message": "leak"}]}`

  it('gets from its spec what its violations leave out, and at least what the spec obliges to', async () => {
    const obligations: ComplianceRuleSpec['obligations'] = {
      classification: 'confidential',
      regulations: ['SOX'],
      approval: 'pending-approval',
      canonicalization: 'jcs',
    }
    const more: Partial<ComplianceRuleSpec> = {
      obligations,
      remediation: { hint: 'Do less', link: 'https://example.com/' },
    }
    const own = (members: string) =>
      `decision := {"evaluated": true, "violations": {{"message": "b", "severity": "low"}}, ${members}}`
    const decisions = await judge(
      [
        { name: 'plain', spec: rego(leak, more) },
        {
          name: 'weaker',
          spec: rego(own('"classification": "public", "approval_status": "approved", "regulations": {"GDPR"}'), more),
        },
        { name: 'stricter', spec: rego(own('"classification": "restricted", "approval_status": "rejected"'), more) },
      ],
      input(),
    )
    const violation = {
      message: 'leak',
      severity: 'high',
      frameworks: ['GDPR'],
      remediation: { hint: 'Do less', url: 'https://example.com/' },
    }
    const obliged = {
      classification: 'confidential',
      approval_status: 'pending-approval',
      canonicalization: 'jcs',
      regulations: ['SOX'],
    }
    expect(decisions).toEqual({
      plain: { evaluated: true, violations: [violation], ...obliged },
      weaker: {
        evaluated: true,
        violations: [{ ...violation, message: 'b', severity: 'low' }],
        ...obliged,
        regulations: ['GDPR', 'SOX'],
      },
      stricter: {
        evaluated: true,
        violations: [{ ...violation, message: 'b', severity: 'low' }],
        ...obliged,
        classification: 'restricted',
        approval_status: 'rejected',
      },
    })
  })

  it.each([
    ['violations are text', '{"evaluated": true, "violations": ""}'],
    ['a violation is text', '{"evaluated": true, "violations": ["no"]}'],
    ['violations are missing', '{"evaluated": true}'],
    ['the sentinel is missing', '{"violations": []}'],
    ['it is a number', '7'],
    ['it is undefined', '{"evaluated": input.nothing, "violations": []}'],
    ['regulations are text', '{"evaluated": true, "violations": [], "regulations": "SOX"}'],
    ['the classification is none', '{"evaluated": true, "violations": [], "classification": "secret"}'],
  ])('is undecidable where %s', async (_, decision) => {
    const spec = rego(`decision := ${decision}`, { obligations: { regulations: ['SOX'], classification: 'public' } })
    expect(await judge([{ name: 'a', spec }], input())).toEqual({ a: expect.any(String) as string })
  })

  it('cannot say itself that it is outside', async () => {
    const spec = rego('decision := {"evaluated": true, "violations": [], "outside": true} if input.response.body', {
      match: { channel: 'external' },
    })
    const whole = input((each) => (each.response.body = {}))
    expect(await judge([{ name: 'a', spec }], whole, ['response.body'])).toEqual({
      a: 'response.body could not be determined',
    })
  })
})

describe('match', () => {
  const matches: [string, ComplianceRuleSpec['match'], (input: DecisionInput) => void, boolean][] = [
    ['nothing', undefined, () => {}, true],
    ['an empty match', {}, () => {}, true],
    ['the method', { methods: ['GET'] }, () => {}, true],
    ['HEAD as GET', { methods: ['GET'] }, (each) => (each.request.method = 'HEAD'), true],
    ['another method', { methods: ['GET'] }, (each) => (each.request.method = 'POST'), false],
    ['a status', { statuses: ['200'] }, () => {}, true],
    ['a class', { statuses: ['4xx', '2xx'] }, () => {}, true],
    ['another status', { statuses: ['201', '5xx'] }, () => {}, false],
    ['a media type', { contentTypes: ['application/json'] }, () => {}, true],
    ['a kind', { contentTypes: ['application/*'] }, () => {}, true],
    ['another type', { contentTypes: ['text/*'] }, () => {}, false],
    ['no type', { contentTypes: ['text/*'] }, (each) => (each.response.media_type = ''), false],
    ['the channel', { channel: 'external' }, () => {}, true],
    ['another channel', { channel: 'internal' }, () => {}, false],
    ['a tenant', { tenants: ['globex', 'acme'] }, () => {}, true],
    ['another tenant', { tenants: ['globex'] }, () => {}, false],
    ['a namespace', { namespaces: ['reports'] }, () => {}, true],
    ['another namespace', { namespaces: ['shop'] }, () => {}, false],
    ['labels', { workloadLabels: { 'a.b/c': 'x' } }, (each) => (each.workload.labels = { 'a.b/c': 'x', d: 'e' }), true],
    ['another label', { workloadLabels: { 'a.b/c': 'x' } }, (each) => (each.workload.labels = { 'a.b/c': 'y' }), false],
    ['no label', { workloadLabels: { 'a.b/c': 'x' } }, () => {}, false],
    ['a path template', { pathTemplates: ['/a/{b}', '/c'] }, (each) => (each.request.matched_templates = ['/c']), true],
    ['another path', { pathTemplates: ['/a/{b}'] }, (each) => (each.request.matched_templates = ['/c']), false],
    ['all but one', { methods: ['GET'], channel: 'internal' }, () => {}, false],
  ]

  it('decides whether a rule applies', async () => {
    // All in one module: one rule each, that always has a violation where it applies.
    const never = { fact: 'response.status', operator: 'equal', value: 0 } as const
    for (const [name, match, change, want] of matches) {
      const spec = conditions(never, match === undefined ? {} : { match })
      const { a } = await judge([{ name: 'a', spec }], input(change))
      const outside = { evaluated: true, violations: [], outside: true }
      expect([name, typeof a === 'object' && a.violations.length === 1]).toEqual([name, want])
      if (!want) expect(a).toEqual(outside)
    }
  }, 60_000)

  it('is undecidable where what it asks for is not known, and never mind else', async () => {
    const reads = { fact: 'response.body.x', operator: 'equal', value: 1 } as const
    const outside = conditions(reads, { match: { contentTypes: ['application/json'] } })
    const html = input((each) => (each.response.media_type = 'text/html'))
    const rules = [{ name: 'a', spec: outside }]
    expect((await judge(rules, html, ['response.body']))['a']).toMatchObject({ outside: true })
    expect((await judge(rules, input(), ['response.body']))['a']).toBe('response.body could not be determined')
    expect((await judge(rules, html, ['response.media_type', 'response.body']))['a']).toMatch(/could not be determined/)
    const labels = conditions(FEW, { match: { workloadLabels: { a: 'b' } } })
    const unknown = input((each) => delete each.workload.labels)
    expect((await judge([{ name: 'a', spec: labels }], unknown))['a']).toBe('the rule has no decision')
  })
})

describe('conditions', () => {
  const holds: [string, Condition, boolean][] = [
    ['equal', { fact: 'response.status', operator: 'equal', value: 200 }, true],
    ['equal, another type', { fact: 'response.body.number', operator: 'equal', value: '1' }, false],
    ['equal, as written otherwise', { fact: 'response.body.float', operator: 'equal', value: 1 }, true],
    ['equal, absent', { fact: 'response.body.absent', operator: 'equal', value: 1 }, false],
    ['notEqual', { fact: 'response.status', operator: 'notEqual', value: 201 }, true],
    ['notEqual, absent', { fact: 'response.body.absent', operator: 'notEqual', value: 1 }, false],
    ['notEqual, null', { fact: 'response.body.null', operator: 'notEqual', value: 1 }, false],
    ['in', { fact: 'response.status', operator: 'in', value: [201, 200] }, true],
    ['in, absent', { fact: 'response.body.absent', operator: 'in', value: [1] }, false],
    ['notIn', { fact: 'response.status', operator: 'notIn', value: [201] }, true],
    ['notIn, in', { fact: 'response.status', operator: 'notIn', value: [200] }, false],
    ['notIn, absent', { fact: 'response.body.absent', operator: 'notIn', value: [1] }, false],
    ['contains, text', { fact: 'request.path', operator: 'contains', value: 'port' }, true],
    ['contains, list', { fact: 'response.body.list', operator: 'contains', value: 'a' }, true],
    ['contains, list of numbers', { fact: 'response.body.list', operator: 'contains', value: 2 }, true],
    ['contains, object', { fact: 'response.body.object', operator: 'contains', value: 'x' }, false],
    ['contains, absent', { fact: 'response.body.absent', operator: 'contains', value: 'x' }, false],
    ['notContains, text', { fact: 'request.path', operator: 'notContains', value: 'x' }, true],
    ['notContains, list', { fact: 'response.body.list', operator: 'notContains', value: 'x' }, true],
    ['notContains, absent', { fact: 'response.body.absent', operator: 'notContains', value: 'x' }, false],
    ['lessThan', { fact: 'response.status', operator: 'lessThan', value: 200 }, false],
    ['lessThanInclusive', { fact: 'response.status', operator: 'lessThanInclusive', value: 200 }, true],
    ['greaterThan', { fact: 'response.status', operator: 'greaterThan', value: 199.5 }, true],
    ['greaterThanInclusive', { fact: 'response.status', operator: 'greaterThanInclusive', value: 200 }, true],
    ['lessThan, text', { fact: 'response.body.text', operator: 'lessThan', value: 5 }, false],
    ['greaterThan, text', { fact: 'response.body.text', operator: 'greaterThan', value: 5 }, false],
    ['lessThan, absent', { fact: 'response.body.absent', operator: 'lessThan', value: 5 }, false],
    ['exists', { fact: 'response.body.false', operator: 'exists', value: true }, true],
    ['exists: false', { fact: 'response.body.absent', operator: 'exists', value: false }, true],
    ['exists, absent', { fact: 'response.body.absent.deeper', operator: 'exists', value: true }, false],
    ['exists, null', { fact: 'response.body.null', operator: 'exists', value: true }, false],
    ['exists: false, null', { fact: 'response.body.null', operator: 'exists', value: false }, true],
    ['exists: false, false', { fact: 'response.body.false', operator: 'exists', value: false }, false],
    ['matches', { fact: 'request.path', operator: 'matches', value: '^/rep.*/[0-9]+$' }, true],
    ['matches, number', { fact: 'response.body.number', operator: 'matches', value: '1' }, false],
    ['a member of any name', { fact: 'response.body["od.d \\"key"]', operator: 'equal', value: true }, true],
    ['an element', { fact: 'response.body.list[1]', operator: 'equal', value: 2 }, true],
    [
      'all',
      {
        all: [
          { fact: 'tenant', operator: 'equal', value: 'acme' },
          { fact: 'channel', operator: 'equal', value: 'x' },
        ],
      },
      false,
    ],
    [
      'any',
      {
        any: [
          { fact: 'tenant', operator: 'equal', value: 'acme' },
          { fact: 'channel', operator: 'equal', value: 'x' },
        ],
      },
      true,
    ],
    ['any of none', { any: [{ fact: 'tenant', operator: 'equal', value: 'x' }] }, false],
  ]
  const whole = (): DecisionInput =>
    input((each) => {
      each.response.body = {
        number: 1,
        text: '7',
        list: ['a', 2],
        object: { x: 1 },
        null: null,
        false: false,
        'od.d "key': true,
      }
    })

  it('hold or do not, in wasm and in OPA alike', async () => {
    const rules = holds.map(([, condition], i) => ({ name: `rule-${i}`, spec: conditions(condition) }))
    const { module, problems } = await compile(rules)
    expect([...problems]).toEqual([])
    expect(await checkDifferential({ module, samples: [whole()], opa, timeoutMs: 60_000 })).toEqual([])
    const evaluator = await createEvaluator(await verifiedBundle([module]), { timeoutMs: 5_000, maxMemoryMiB: 64 })
    const { body, ...rest } = whole().response
    const text = JSON.stringify(body).replace('{', '{"float":1.0,')
    const outcomes = evaluator.evaluate({ ...whole(), response: rest }, [], Buffer.from(text))
    const byRule = new Map(outcomes.map((outcome) => [outcome.rule, outcome]))
    holds.forEach(([name, , want], i) => {
      const outcome = byRule.get(`rule-${i}`)!
      expect([name, 'decision' in outcome && outcome.decision.violations.length === 0]).toEqual([name, want])
    })
    evaluator.close()
  })

  it('say the same of hostile values, which never become Rego', async () => {
    const hostile = [
      '"] } x { true',
      '\\',
      '\\"',
      '"',
      '`',
      '$"{input}"',
      '{{',
      '\n',
      '\t',
      '\u2028',
      '𝄞',
      'ö\u0301',
      '\ufeff',
      '#',
      '\\u0022',
      '',
    ]
    const texts = fc.sample(fc.string({ unit: 'grapheme', maxLength: 40 }), { numRuns: 40, seed: 7 })
    // oxlint-disable-next-line no-control-regex
    const values = [...hostile, ...texts.filter((text) => !/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/.test(text))]
    const rules = values.map((value, i) => ({
      name: `rule-${i}`,
      spec: conditions(
        { fact: `response.body[${JSON.stringify(`k${i}`)}]`, operator: 'equal', value },
        { description: value.trim() === '' ? 'x' : value, remediation: { hint: value === '' ? 'x' : value } },
      ),
    }))
    const { module, problems } = await compile(rules)
    expect([...problems]).toEqual([])
    const sample = input(
      (each) => (each.response.body = Object.fromEntries(values.map((value, i) => [`k${i}`, value]))),
    )
    const other = input((each) => (each.response.body = {}))
    expect(await checkDifferential({ module, samples: [sample, other], opa, timeoutMs: 60_000 })).toEqual([])
    const evaluator = await createEvaluator(await verifiedBundle([module]), { timeoutMs: 5_000, maxMemoryMiB: 64 })
    for (const outcome of evaluator.evaluate(sample, []))
      expect(outcome).toMatchObject({ decision: { violations: [] } })
    const messages = evaluator.evaluate(other, []).map((outcome) => {
      const { message } = (outcome as { decision: { violations: { message: string }[] } }).decision.violations[0]!
      return [outcome.rule, message]
    })
    expect(new Map(messages as [string, string][])).toEqual(
      new Map(rules.map(({ name, spec }) => [name, spec.description] as const)),
    )
    evaluator.close()
  }, 60_000)
})

describe('a module with a selector', () => {
  const spins =
    'decision := {"evaluated": count([1 | numbers.range(1, 300)[_]; numbers.range(1, 300)[_]; numbers.range(1, 300)[_]]) > 0, "violations": []}'
  const rules = [
    { name: 'fine', spec: conditions(FEW) },
    { name: 'fine-rego', spec: rego(PASS) },
    { name: 'spins', spec: rego(spins) },
  ]

  it('judges as one without, and keeps a rule’s fault its own', async () => {
    const { module } = await compile(rules, { maxEntrypoints: 2 })
    expect(new Set(module.module.rules.map((rule) => rule.entrypoint))).toEqual(new Set([module.module.selector]))
    const faults: string[] = []
    const evaluator = await createEvaluator(await verifiedBundle([module]), {
      timeoutMs: 400,
      maxMemoryMiB: 64,
      onFault: ({ rule }) => faults.push(rule),
    })
    const outcomes = evaluator.evaluate(input(), [])
    expect(outcomes.map((outcome) => [outcome.rule, 'decision' in outcome])).toEqual([
      ['fine', true],
      ['fine-rego', true],
      ['spins', false],
    ])
    expect(faults).toEqual(['spins'])
    evaluator.close()
  })
})

describe('checkDifferential', () => {
  it('finds none in the shipped pack and in rules beside it, on the shipped samples', async () => {
    const folder = fileURLToPath(new URL('../../policies/standard/', import.meta.url))
    const names = (await readdir(folder, { recursive: true })).filter((name) => /(?<!_test)\.rego$/.test(name))
    const files = await Promise.all(
      names.map(async (path) => ({ path, text: await readFile(join(folder, path), 'utf8') })),
    )
    const { module, problems } = await compile([{ name: 'whole', spec: WHOLE_RULE }], { files })
    expect([module.module.rules.length, problems.size]).toEqual([8, 0])
    const samples = await readSamples(join(folder, 'samples'))
    expect(samples.length).toBeGreaterThan(30)
    expect(await checkDifferential({ module, samples, opa, timeoutMs: 60_000 })).toEqual([])
  })

  it('finds what wasm and OPA judge differently', async () => {
    const { module } = await compile([
      { name: 'a', spec: rego(PASS) },
      { name: 'b', spec: conditions(FEW) },
    ])
    const check = (only?: Set<string>) =>
      checkDifferential({ module: tampered, samples: [input()], opa, timeoutMs: 60_000, ...(only && { only }) })
    const files = new Map(module.sources.files)
    const [name, file] = [...files].find(([, { text }]) => text.includes('"violations": []}'))!
    files.set(name, { ...file, text: file.text.replace('"violations": []}', '"violations": [{"message": "x"}]}') })
    const tampered = { ...module, sources: { ...module.sources, files } }
    const differences = await check()
    expect(differences.length).toBeGreaterThan(0)
    expect(await checkDifferential({ module, samples: [input()], opa, timeoutMs: 60_000 })).toEqual([])
    const guilty = differences[0]!.rule
    expect(await check(new Set([guilty === 'a' ? 'b' : 'a']))).toEqual([])
  })

  it('names the rule that stops the evaluation', async () => {
    const twice = `${PASS}\n\ndecision := {"evaluated": true, "violations": [{"message": "x"}]} if input.channel == "external"`
    const { module } = await compile([
      { name: 'twice', spec: rego(twice) },
      { name: 'fine', spec: conditions(FEW) },
    ])
    const error = await checkDifferential({ module, samples: [input()], opa, timeoutMs: 60_000 }).catch(
      (e: unknown) => e,
    )
    expect(error).toMatchObject({ code: 'RULE_INVALID', details: { errors: [{ file: 'twice' }] } })
  })
})
