import { execFile } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { parseAllDocuments } from 'yaml'
import { describe, expect, it } from 'vitest'
import { TEMPLATE } from '#core/injection/injection.fixture.ts'
import { UsageError } from '../usage.ts'
import { inject } from './inject.ts'

const folder = mkdtempSync(path.join(tmpdir(), 'signet-inject-'))
const file = (name: string, content: string): string => {
  const target = path.join(folder, name)
  writeFileSync(target, content)
  return target
}
const settings = file('settings.json', JSON.stringify(TEMPLATE))

async function run(input: string, ...args: string[]): Promise<{ code: number; out: string; warnings: string[] }> {
  let out = ''
  const warnings: string[] = []
  const code = await inject(['-f', '-', '--settings', settings, ...args], {
    readStdin: async () => input,
    write: (text) => void (out += text),
    warn: (line) => void warnings.push(line),
  })
  return { code, out, warnings }
}

type Loose = any // oxlint-disable-line typescript/no-explicit-any
const documents = (text: string): Loose[] => parseAllDocuments(text, { version: '1.1' }).map((each) => each.toJS())

const POD_SPEC = `
      containers:
        - {name: app, image: x, ports: [{name: http, containerPort: 8080}]}`
const template = (kind: string, apiVersion: string): string => `apiVersion: ${apiVersion}
kind: ${kind}
metadata: {name: reports, namespace: payments}
spec:
  template:
    metadata: {labels: {app: reports}}
    spec:${POD_SPEC}
`

describe('every kind that has pods', () => {
  it.each([
    ['Deployment', 'apps/v1'],
    ['StatefulSet', 'apps/v1'],
    ['DaemonSet', 'apps/v1'],
    ['ReplicaSet', 'apps/v1'],
    ['ReplicationController', 'v1'],
    ['Job', 'batch/v1'],
  ])('%s', async (kind, apiVersion) => {
    const { code, out } = await run(template(kind, apiVersion))
    const [object] = documents(out)
    expect(code).toBe(0)
    expect(object.spec.template.spec.initContainers[0].name).toBe('signet-proxy')
    expect(object.spec.template.spec.initContainers[0].env).toContainEqual({ name: 'SIGNET_TENANT', value: 'payments' })
    expect(object.metadata.annotations).toBeUndefined()
  })
  it('CronJob, Pod, PodTemplate and List, several documents, JSON', async () => {
    const cron = template('CronJob', 'batch/v1').replace(
      '  template:',
      '  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: x}]}}}}\n  was:',
    )
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'p' },
      spec: { containers: [{ name: 'a', image: 'x' }] },
    }
    const podTemplate = { apiVersion: 'v1', kind: 'PodTemplate', metadata: { name: 't' }, template: { spec: pod.spec } }
    const list = {
      apiVersion: 'v1',
      kind: 'List',
      items: [pod, { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' } }, podTemplate],
    }
    const { out } = await run(`${cron}---\n${JSON.stringify(list)}\n---\n${JSON.stringify(pod)}`)
    const [first, second, third] = documents(out)
    expect(first.spec.jobTemplate.spec.template.spec.initContainers[0].name).toBe('signet-proxy')
    expect(second.items.map((item: Loose) => (item.spec ?? item.template?.spec)?.initContainers?.[0].name)).toEqual([
      'signet-proxy',
      undefined,
      'signet-proxy',
    ])
    expect(third.spec.initContainers[0].name).toBe('signet-proxy')
  })
})

describe('what is left as it is', () => {
  it('other kinds, with their comments', async () => {
    const text = '# why\napiVersion: v1\nkind: Service # here\nmetadata:\n  name: s\n'
    expect((await run(text)).out).toBe(text)
  })
  it('kinds of that name of others', async () => {
    const text = template('Job', 'batch.volcano.sh/v1alpha1')
    expect((await run(text)).out).not.toContain('signet')
  })
  it('who declines', async () => {
    const { out, code } = await run(
      template('Deployment', 'apps/v1').replace('{app: reports}', '{app: reports, signet.dev/inject: disabled}'),
    )
    expect(out).not.toContain('signet-proxy')
    expect(code).toBe(0)
  })
  it('no document at all', async () => expect((await run('# nothing\n---\n')).out).toBe(''))
})

it('injects again what it has injected, and changes nothing', async () => {
  const once = (await run(template('Deployment', 'apps/v1'))).out
  const twice = (await run(once)).out
  expect(documents(twice)).toEqual(documents(once))
  expect(twice).toBe(once)
})

it('reads and writes YAML as kubectl does', async () => {
  const text = `apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {a: "off", b: "0755", c: "1e3", d: "yes", e: "22:22"}}
spec:
  containers: [{name: app, image: x, args: [12:30, 2026-01-01, "on"], tty: off}]
  volumes: [{name: v, configMap: {name: c, defaultMode: 0755}}]
`
  const { out } = await run(text)
  expect(out).toContain('a: "off"')
  expect(out).toContain('d: "yes"')
  const [pod] = documents(out)
  expect(pod.spec.volumes[0].configMap.defaultMode).toBe(493)
  expect(pod.spec.containers[0].tty).toBe(false)
  expect(pod.metadata.annotations).toMatchObject({ a: 'off', b: '0755', c: '1e3' })
  expect(out).toMatch(/- "?12:30"?\n/)
  expect(out).toMatch(/- "?2026-01-01"?\n/)
})

describe('flags', () => {
  it('--namespace, --namespace-map and --required', async () => {
    const map = file(
      'map.yaml',
      'version: 1\nnamespaces:\n  other: {tenant: acme, channel: internal, passthroughPorts: [9090]}\n',
    )
    const text = template('Deployment', 'apps/v1').replace(', namespace: payments', '')
    const { out } = await run(text, '-n', 'other', '--namespace-map', map, '--required')
    const { initContainers } = documents(out)[0].spec.template.spec
    expect(initContainers.map(({ name }: Loose) => name)).toEqual(['signet-redirect', 'signet-proxy'])
    expect(initContainers[0].env).toContainEqual({ name: 'SIGNET_REDIRECT_PASSTHROUGH', value: '9090' })
    expect(initContainers[1].env).toContainEqual({ name: 'SIGNET_TENANT', value: 'acme' })
    expect(initContainers[1].env).toContainEqual({ name: 'SIGNET_INTERNAL_LISTEN', value: '0.0.0.0:15080' })
  })
  it('says who the warning is for, or nothing', async () => {
    const text = template('Deployment', 'apps/v1').replace('{name: http, containerPort: 8080}', '{containerPort: 8080}')
    expect((await run(text)).warnings[0]).toMatch(/^signet: Deployment payments\/reports: port 8080 has no name/)
    expect((await run(text, '--quiet')).warnings).toEqual([])
  })
  it('fails where one cannot be injected, and still writes', async () => {
    const text = template('Deployment', 'apps/v1').replace('    spec:\n', '    spec:\n      hostNetwork: true\n')
    const { code, out, warnings } = await run(text)
    expect(code).toBe(1)
    expect(out).toContain('hostNetwork')
    expect(warnings[0]).toContain('spec.hostNetwork is true')
  })
  it('takes the authority from a file', async () => {
    const { trustCa, ...rest } = TEMPLATE
    const bare = file('bare.yaml', JSON.stringify(rest))
    const ca = file('ca.crt', trustCa)
    const io = { readStdin: async () => '', write: () => {}, warn: () => {} }
    expect(await inject(['-f', '-', '--settings', bare, '--trust-ca', ca], io)).toBe(0)
    await expect(inject(['-f', '-', '--settings', bare], io)).rejects.toThrow('--trust-ca')
  })
})

describe('what cannot be used', () => {
  it.each([
    { args: [], want: 'needs a file' },
    { args: ['-f', '-'], want: '--settings' },
    { args: ['-f', '/nowhere', '--settings', settings], want: 'there is no such file' },
    { args: ['-f', file('bad.yaml', 'a: [1'), '--settings', settings], want: 'is not YAML' },
    {
      args: [
        '-f',
        file('pod.yaml', 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: 1}'),
        '--settings',
        settings,
      ],
      want: 'Pod default/p: not a pod: /spec/containers',
    },
    { args: ['-f', '-', '--settings', file('bad.json', '{"version": 7}')], want: 'injection settings cannot be used' },
    {
      args: ['-f', '-', '--settings', settings, '--namespace-map', file('m.yaml', 'version: 2')],
      want: 'not a namespace map',
    },
  ])('$want', async ({ args, want }) => {
    await expect(inject(args, { readStdin: async () => '', write: () => {}, warn: () => {} })).rejects.toThrow(want)
  })
  const BOMB = `a: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefghi'
    .split('')
    .map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(', ')}]`)
    .join('\n')}\n`
  const POD = 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: x, args: '
  const deep = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth)
  const BOMBS = [
    { what: 'aliases', text: BOMB, want: 'aliases that repeat more than 1000 things' },
    { what: 'an alias of nothing', text: 'a: *b\n', want: /alias/i },
    {
      what: 'a pod that holds itself',
      text: 'apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: &s {containers: [{name: a, image: x, self: *s}]}\n',
      want: /alias|nested/i,
    },
    { what: 'lists in lists', text: deep(100_000), want: /nested too deep|is not YAML/ },
    {
      what: 'lists in lists of a pod',
      text: `${POD}${deep(3_000)}}]}\n`,
      want: /nested too deep|not a pod|is not YAML/,
    },
    {
      what: 'maps in maps',
      text: `${'{a: '.repeat(20_000)}${'}'.repeat(20_000)}`,
      want: /nested too deep|is not YAML/,
    },
    { what: 'keys that merge', text: `<<: &a [{<<: *a}]\n`, want: /alias|nested|YAML|not YAML|Merge/i },
  ]
  it.each(BOMBS)('a bomb of $what', async ({ text, want }) => {
    await expect(run(text)).rejects.toThrow(want)
    await expect(run(text)).rejects.toBeInstanceOf(UsageError)
  })
  it.each(BOMBS)('as a command: one line and exit code 2, for $what', async ({ text }) => {
    const command = ['cli/main.ts', 'inject', '-f', file('bomb.yaml', text), '--settings', settings]
    const cwd = path.resolve(import.meta.dirname, '../..')
    const ended = promisify(execFile)(process.execPath, command, { cwd })
    const { code, stderr } = await ended.then(
      () => ({ code: 0, stderr: '' }),
      (error: { code: number; stderr: string }) => error,
    )
    expect([code, stderr.trim().split('\n').length, stderr]).toEqual([2, 1, expect.stringMatching(/^signet: /)])
  })
})

it('is a command', async () => {
  const manifest = file('deployment.yaml', template('Deployment', 'apps/v1'))
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['cli/main.ts', 'inject', '-f', manifest, '--settings', settings],
    { cwd: path.resolve(import.meta.dirname, '../..') },
  )
  expect(stdout).toContain('signet-proxy')
  const help = await promisify(execFile)(process.execPath, ['cli/main.ts', 'help', 'inject'], {
    cwd: path.resolve(import.meta.dirname, '../..'),
  })
  expect(help.stdout).toContain('signet inject -f FILE')
})
