import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ensureOpa } from '#tools/opa/build.ts'

const MAIN = path.resolve(import.meta.dirname, '../main.ts')
let opa: string
let folder: string
beforeAll(async () => {
  opa = await ensureOpa()
  folder = await mkdtemp(path.join(tmpdir(), 'signet-rules-test-'))
}, 600_000)
afterAll(() => rm(folder, { recursive: true, force: true }))

async function run(args: string[], env: Record<string, string> = { SIGNET_OPA: opa }) {
  return new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [MAIN, 'rules', ...args], { env, cwd: folder }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr })
    })
  })
}

async function files(name: string, content: Record<string, string>): Promise<string> {
  const directory = path.join(folder, name)
  await mkdir(directory, { recursive: true })
  for (const [file, text] of Object.entries(content)) await writeFile(path.join(directory, file), text)
  return name
}

const rule = (name: string, spec: string): string =>
  `apiVersion: signet.dev/v1alpha1\nkind: ComplianceRule\nmetadata: {name: ${name}}\nspec:\n  description: Few addresses\n  severity: low\n  ${spec}\n`
const FEW = 'conditions: {fact: response.facts.email.count, operator: lessThan, value: 5}'

describe('signet rules test', () => {
  it('judges the rules and samples of docs/write-a-rule.md, and prints what it says', async () => {
    const guide = await readFile(path.resolve(import.meta.dirname, '../../docs/write-a-rule.md'), 'utf8')
    const blocks = [...guide.matchAll(/```yaml\n([^]*?)```/g)].map(([, text]) => text!)
    const shown = /signet rules test rules\/\n```\n\n```\n([^]*?)```/.exec(guide)![1]
    const [first, second, samples] = blocks
    const directory = await files('guide', {
      'no-bulk-contacts.yaml': first!,
      'no-bulk-contacts.samples.yaml': samples!,
    })
    expect(await run(['test', directory])).toEqual({ code: 0, stdout: shown, stderr: '' })
    const balanced = (total: number, want: string) =>
      `samples: [{title: t, rule: invoices-are-balanced, want: ${want}, input: {request: {path: /invoices/7}, response: {body: {total: ${total}, lines: [{amount: 1}, {amount: 2}]}}}}]`
    await files('rego', {
      'r.yaml': second!,
      'a.samples.yaml': balanced(3, 'allow'),
      'b.samples.yaml': balanced(4, 'violations'),
    })
    expect(await run(['test', 'rego'])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('The lines add up to 3, not to 4') as string,
    })
  })

  it('fails where a sample is judged otherwise, or a rule does not compile', async () => {
    const samples =
      'samples:\n  - {title: none, want: violations}\n  - {title: many, want: undecidable, input: {response: {facts: {email: {count: 9}}}}}\n  - {title: unread, want: undecidable, unread: [response.facts.email]}\n'
    const directory = await files('bad', {
      'few.yaml': rule('few', FEW),
      'few.samples.yaml': samples,
      'broken.yaml': rule('broken', 'rego: |\n    package a\n\n    decision := {'),
      'other.yaml': 'kind: ConfigMap\n',
    })
    const { code, stdout } = await run(['test', directory, '--json'])
    expect(code).toBe(1)
    const report = JSON.parse(stdout) as {
      passed: boolean
      results: { title: string; got: string }[]
      problems: unknown[]
    }
    expect(report.passed).toBe(false)
    expect(report.results.map(({ title, got }) => [title, got])).toEqual([
      ['none', 'allow'],
      ['many', 'violations'],
      ['unread', 'undecidable'],
      ['(no samples)', 'does not compile'],
    ])
    expect(report.problems).toContainEqual(
      expect.objectContaining({ rule: 'broken', line: 4, file: path.join('bad', 'broken.yaml') }),
    )
    expect((await run(['test', directory])).stdout).toMatch(/^FAIL +few +none +violations +allow/m)
  })

  it('says that a bare off is false in YAML', async () => {
    const directory = await files('off', { 'a.yaml': rule('a', `enforcement: {mode: off}\n  ${FEW}`) })
    expect((await run(['test', directory])).stdout).toContain(
      'spec.enforcement.mode: must be one of off, shadow, enforce (in YAML "off" needs its quotes)',
    )
  })

  it.each([
    ['no command', [], /there is no command rules/],
    ['an unknown command', ['tset'], /there is no command rules tset/],
    ['a folder that is not there', ['test', 'nowhere'], /there is no file or folder nowhere/],
    ['no rules', ['test', 'empty'], /no ComplianceRule in empty/],
    ['YAML that is none', ['test', 'yaml'], /is not YAML/],
    ['samples that are none', ['test', 'samples'], /a\.samples\.yaml: samples/],
    ['two rules of one name', ['test', 'twice'], /the rule a is in/],
    ['a time that is none', ['test', 'off', '--timeout', 'x'], /--timeout/],
    ['no OPA', ['test', 'off', '--opa', '/nonexistent/opa'], /is no program/],
  ])('exits 2 for %s', async (_, args, want) => {
    await files('empty', { 'x.yaml': 'kind: Pod\n' })
    await files('off', { 'a.yaml': rule('a', FEW) })
    await files('yaml', { 'x.yaml': 'a: [\n' })
    await files('samples', { 'a.yaml': rule('a', FEW), 'a.samples.yaml': 'samples: 7\n' })
    await files('twice', { 'a.yaml': rule('a', FEW), 'b.yaml': rule('a', FEW) })
    expect(await run(args)).toMatchObject({ code: 2, stderr: expect.stringMatching(want) as string })
  })
})
