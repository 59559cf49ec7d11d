import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { compileModule, type RuleSource } from './compile.ts'
import { BODY_LINE, compileSample, PASS, ruleSource, sampleSources } from './fixtures/sample.ts'
import type { RuleProblem } from './problem.ts'

let opa: string
beforeAll(async () => {
  opa = await ensureOpa()
}, 600_000)

async function problemsOf(sources: RuleSource[], scope = 'root'): Promise<RuleProblem[]> {
  const error = await compileSample(opa, sources, scope).then(
    () => undefined,
    (cause: unknown) => cause,
  )
  expect(error).toBeInstanceOf(SignetError)
  expect((error as SignetError).code).toBe('RULE_INVALID')
  return (error as SignetError).details?.['errors'] as RuleProblem[]
}

describe('compileModule', () => {
  it('describes the rules of the module', async () => {
    const { module } = await compileSample(opa, await sampleSources())
    expect(module.path).toBe('/root/policy.wasm')
    expect(module.aggregate).toBe('signet/aggregate_root/decisions')
    expect(module.rules.map((rule) => rule.id)).toEqual(['body', 'personal-data', 'route'])
    expect(module.rules[1]).toEqual({
      id: 'personal-data',
      title: 'Personal data needs GDPR',
      severity: 'high',
      frameworks: ['GDPR'],
      entrypoint: 'signet/root/personal_data/decision',
      reads: ['channel', 'response.facts.email'],
      mode: 'enforce',
      undecidable: { external: 'closed', internal: 'open' },
    })
    expect(module.rules[0]!.mode).toBe('shadow')
    expect(module.rules[2]!.undecidable).toEqual({ external: 'closed', internal: 'closed' })
  })

  it('gives the same bytes whatever the order of the files, and leaves nothing behind', async () => {
    const sources = await sampleSources()
    const first = await compileSample(opa, sources)
    const second = await compileSample(opa, sources.toReversed())
    expect(second.wasm.equals(first.wasm)).toBe(true)
    expect(second.module).toEqual(first.module)
    const folder = await mkdtemp(join(tmpdir(), 'signet-leftovers-'))
    vi.stubEnv('TMPDIR', folder)
    try {
      await compileSample(opa, sources)
      await problemsOf([ruleSource('broken', 'decision := {')])
      expect(await readdir(folder)).toEqual([])
    } finally {
      vi.unstubAllEnvs()
      await rm(folder, { recursive: true, force: true })
    }
  })

  it.each([
    ['a syntax error', [ruleSource('a', 'decision := {\n  "evaluated": tru e}')], BODY_LINE + 1, 20, /unexpected/],
    ['an unsafe variable', [ruleSource('a', `${PASS}\n\nx if not y`)], BODY_LINE + 2, 6, /var y is unsafe/],
    ['http.send', [ruleSource('a', `${PASS}\nx := http.send({})`)], BODY_LINE + 1, 6, /undefined function http\.send/],
    ['crypto', [ruleSource('a', `${PASS}\nx := crypto.md5("a")`)], BODY_LINE + 1, 6, /undefined function crypto\.md5/],
    [
      'io.jwt',
      [ruleSource('a', `${PASS}\nx := io.jwt.decode("a")`)],
      BODY_LINE + 1,
      6,
      /undefined function io\.jwt\.decode/,
    ],
    ['sprintf', [ruleSource('a', `${PASS}\nx := sprintf("%d", [1])`)], BODY_LINE + 1, 6, /undefined function sprintf/],
    [
      'the clock',
      [ruleSource('a', `${PASS}\nx := time.now_ns()`)],
      BODY_LINE + 1,
      6,
      /undefined function time\.now_ns/,
    ],
    [
      'opa.runtime',
      [ruleSource('a', `${PASS}\nx := opa.runtime()`)],
      BODY_LINE + 1,
      6,
      /undefined function opa\.runtime/,
    ],
    ['no decision', [ruleSource('a', 'x := 1')], 5, 1, /no rule decision/],
    ['a decision that is a function', [ruleSource('a', 'decision(x) := x')], 5, 1, /not a function/],
    ['no METADATA', [{ path: 'a.rego', text: `package a\n\n${PASS}` }], 1, 1, /METADATA/],
    [
      'an unknown severity',
      [{ path: 'a.rego', text: ruleSource('a', PASS).text.replace('low', 'bad') }],
      1,
      1,
      /custom\.severity/,
    ],
    ['a misspelt member', [ruleSource('a', PASS, { custom: 'undecidible: {external: open}' })], 1, 1, /custom/],
    [
      'an id that is not the package',
      [{ path: 'a.rego', text: ruleSource('a', PASS).text.replace('package a', 'package b') }],
      1,
      1,
      /last part/,
    ],
    [
      'a reserved package',
      [{ path: 'a.rego', text: ruleSource('a', PASS).text.replace('package a', 'package policy.a') }],
      5,
      1,
      /reserved/,
    ],
    ['a library with a decision', [{ path: 'a.rego', text: `package lib.a\n\n${PASS}` }], 1, 1, /library/],
    [
      'a package in two files',
      [ruleSource('a', PASS), ruleSource('a', PASS, { path: 'b.rego' })],
      5,
      1,
      /also in a\.rego/,
    ],
    ['NUL in the text', [ruleSource('a', `${PASS}\0`)], 1, 1, /UTF-8/],
    ['a BOM', [{ path: 'a.rego', text: `\uFEFF${ruleSource('a', PASS).text}` }], 1, 1, /BOM/],
  ] as [string, RuleSource[], number, number, RegExp][])(
    'refuses %s',
    async (_, sources, wantLine, wantColumn, wantMessage) => {
      const problems = await problemsOf(sources)
      const found = problems.find((problem) => wantMessage.test(problem.message))
      expect([found?.line, found?.column], JSON.stringify(problems)).toEqual([wantLine, wantColumn])
      expect(sources.map((source) => source.path)).toContain(found?.file)
    },
  )

  it('reports the problems of all files at once', async () => {
    const problems = await problemsOf([
      ruleSource('b', `${PASS}\nx := http.send({})`),
      ruleSource('a', `${PASS}\nx := data.signet.root.b`),
    ])
    expect(problems.map(({ file, line }) => [file, line])).toEqual([
      ['a.rego', BODY_LINE + 1],
      ['b.rego', BODY_LINE + 1],
    ])
  })

  it('refuses too many bytes, a scope of no known form, and a time limit that is too short', async () => {
    const compile = (changes: object): Promise<unknown> =>
      compileModule({ scope: 'root', sources: [ruleSource('a', PASS)], opa, timeoutMs: 30_000, ...changes })
    await expect(compile({ sources: [ruleSource('a', `${PASS}\n#${'x'.repeat(1 << 20)}`)] })).rejects.toMatchObject({
      code: 'RULE_INVALID',
      message: expect.stringContaining('bytes') as string,
    })
    await expect(compile({ scope: 'namespace/../x' })).rejects.toMatchObject({ code: 'RULE_INVALID' })
    await expect(compile({ timeoutMs: 1 })).rejects.toMatchObject({
      code: 'RULE_INVALID',
      message: expect.stringContaining('in time') as string,
    })
    await expect(compile({ opa: '/nonexistent/opa' })).rejects.toMatchObject({ code: 'OPA_UNAVAILABLE' })
  })
})

describe('isolation', () => {
  it.each([
    ['root by its place in the module', 'x := data.signet.root.pii.decision', 6],
    ['the same with brackets', 'x := data["signet"].root', 6],
    ['all of data', 'x := data', 6],
    ['data by a variable', 'x := data[input.tenant]', 6],
    ['data as an argument', 'x := count(data)', 12],
    ['an import', 'import data.signet.root.pii', 8],
    ['an import of all data', 'import data', 8],
    ['another scope’s package', 'x := data.pii.decision', 6],
    ['with … as', 'x := 1 if { true with data.signet.root.pii as {} }', 23],
    ['all of data with … as', 'x := 1 if { true with data as {} }', 23],
    ['a template string', 'x := $"{data.signet.root.pii}"', 9],
    ['a comprehension', 'x := [y | y := data.other.z]', 16],
  ])('refuses to reach %s', async (_, line, wantColumn) => {
    const isImport = line.startsWith('import')
    const body = isImport ? `${line}\n\n${PASS}` : `${PASS}\n${line}`
    const problems = await problemsOf([ruleSource('mine', body)], 'namespace/shop')
    const found = problems.find((problem) => problem.message.includes('allowed are the packages'))
    expect([found?.line, found?.column], JSON.stringify(problems)).toEqual([
      isImport ? BODY_LINE : BODY_LINE + 1,
      wantColumn,
    ])
  })

  it.each([
    ['data as a rule', 'data.signet.root.pii.decision := {}', /shadow data/],
    ['data as a variable', 'x if { some data; data.pii }', /./],
    ['data as an import alias', 'import data.policy as data', /alias/],
    ['input as a rule', 'input := {}', /shadow input/],
  ])('refuses %s', async (_, line, want) => {
    const body = line.startsWith('import') ? `${line}\n\n${PASS}` : `${PASS}\n${line}`
    const messages = (await problemsOf([ruleSource('mine', body)])).map((problem) => problem.message)
    expect(messages).toContainEqual(expect.stringMatching(want))
  })

  it('keeps packages of the same name in two scopes apart', async () => {
    const root = await compileSample(opa, [ruleSource('pii', PASS)])
    const shop = await compileSample(opa, [ruleSource('pii', PASS)], 'namespace/a-b')
    expect(root.module.rules[0]!.entrypoint).toBe('signet/root/pii/decision')
    expect(shop.module.rules[0]!.entrypoint).toBe('signet/ns_a_b/pii/decision')
    expect(shop.module.aggregate).toBe('signet/aggregate_ns_a_b/decisions')
  })

  it('lets rules read libraries, other rules of the scope, and policy data', async () => {
    const library = { path: 'lib/x.rego', text: 'package lib.x\n\nf(a) := a + data.policy.n\n' }
    const uses = ruleSource(
      'a',
      `import data.lib.x\nimport data.lib.x.f as g\n\n${PASS}\ny := [x.f(1), g(2), data.lib["x"].f(3), data.b.decision, $"é𝄞 {data.lib.x.f(1)}"]`,
    )
    await expect(compileSample(opa, [library, uses, ruleSource('b', PASS)])).resolves.toBeDefined()
  })
})
