import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { injectPod } from '#core/injection/inject.ts'
import { namespaceFacts, parseInjectionTemplate, type InjectionTemplate } from '#core/injection/settings.ts'
import type { PodObject } from '#core/injection/pod.ts'
import { createAuthority } from '#operator/certificates/authority.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { kubeconfigFor } from '#test/support/kubernetes/kubeconfig.ts'
import { NAMESPACE, objects, render } from './chart/render.ts'

const MAIN = path.resolve(import.meta.dirname, '../../cli/main.ts')
const DAY_MS = 86_400_000
const REVISION = '7-00000000000000aa'
const FORMER = '6-00000000000000bb'

type Report = {
  findings: { check: string; severity: string; namespace: string; object: string; message: string }[]
  restart: string[]
  unchecked: string[]
  pods: number
}
type Ended = { code: number | null; stdout: string; stderr: string }

let server: TestApiServer
let folder: string
let ca: string
let template: InjectionTemplate

/** `signet doctor` as a user runs it. */
function doctor(args: readonly string[], kubeconfig = server.kubeconfig): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, 'doctor', ...args], {
      cwd: folder,
      env: { PATH: process.env['PATH'], HOME: folder, KUBECONFIG: kubeconfig },
    })
    let [stdout, stderr] = ['', '']
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}

async function report(...args: string[]): Promise<Report & { code: number | null }> {
  const { code, stdout, stderr } = await doctor(['--json', ...args])
  expect(stderr).toBe('')
  return { ...(JSON.parse(stdout) as Report), code }
}

function podOf(deployment: string, change: { labels?: object; port?: number } = {}): PodObject {
  return {
    metadata: {
      name: `${deployment}-5c4-x1`,
      labels: { app: deployment, 'pod-template-hash': '5c4', ...change.labels },
    },
    spec: {
      containers: [
        { name: 'app', image: 'localhost/app:1', ports: [{ name: 'http', containerPort: change.port ?? 8080 }] },
      ],
    },
  }
}

/** Makes a pod of a ReplicaSet, as the controllers and the kubelet would, and gives its UID. */
async function runPod(namespace: string, pod: PodObject, ready = true): Promise<string> {
  const owner = pod.metadata?.name?.replace(/-x1$/, '') ?? ''
  const ownerReferences = [
    {
      apiVersion: 'apps/v1',
      kind: 'ReplicaSet',
      name: owner,
      uid: '00000000-0000-4000-8000-000000000001',
      controller: true,
    },
  ]
  const made = await server.request('POST', `/api/v1/namespaces/${namespace}/pods`, {
    ...pod,
    metadata: { ...pod.metadata, ownerReferences },
  })
  expect(made.status, JSON.stringify(made.json())).toBe(201)
  const { metadata } = made.json<{ metadata: { name: string; uid: string } }>()
  const initContainerStatuses = [
    { name: 'signet-proxy', ready, started: true, restartCount: 0, image: 'x', imageID: 'x' },
  ]
  const status = JSON.stringify({ status: { phase: 'Running', ...(hasSidecar(pod) ? { initContainerStatuses } : {}) } })
  await server.kubectl([
    'patch',
    'pod',
    metadata.name,
    '-n',
    namespace,
    '--subresource=status',
    '--type=merge',
    '-p',
    status,
  ])
  return metadata.uid
}

function hasSidecar(pod: PodObject): boolean {
  return pod.spec.initContainers?.some(({ name }) => name === 'signet-proxy') === true
}

function inject(
  namespace: string,
  pod: PodObject,
  change: { labels?: Record<string, string>; template?: Partial<InjectionTemplate> } = {},
): PodObject {
  const labels = change.labels ?? { 'signet.dev/inject': 'enabled' }
  const facts = namespaceFacts({ version: 1, namespaces: {} }, { name: namespace, labels })
  return injectPod(pod, { template: { ...template, ...change.template }, namespace: facts }).pod
}

/** What one replica heard last, and what another had heard of the same proxies before. */
async function keepBundles(reports: Record<string, string>): Promise<void> {
  const index = (name: string): object => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: `signet-bundles-${name}`,
      namespace: NAMESPACE,
      labels: { 'signet.dev/bundle-object': 'index', 'signet.dev/bundle-namespace': name },
      annotations: { 'signet.dev/revision': REVISION },
    },
  })
  const status = (replica: string, reportedMs: number, rows: Record<string, string>): object => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: `signet-bundle-status-${replica}`,
      namespace: NAMESPACE,
      labels: { 'signet.dev/bundle-object': 'status' },
    },
    binaryData: {
      'proxies.json.gz': gzipSync(
        JSON.stringify(
          Object.entries(rows).map(([uid, revision]) => ({
            namespace: 'shop',
            pod: 'x',
            uid,
            revision,
            code: null,
            message: null,
            reportedMs,
          })),
        ),
      ).toString('base64'),
    },
  })
  const former = Object.fromEntries(Object.keys(reports).map((uid) => [uid, FORMER]))
  // The API server lists them in this order.
  await apply(...['shop', 'bank', 'calm'].map(index), status('a', 2, reports), status('b', 1, former))
}

function apply(...items: object[]): Promise<string> {
  return server.kubectl(
    ['apply', '--server-side', '--force-conflicts', '-f', '-'],
    JSON.stringify({ apiVersion: 'v1', kind: 'List', items }),
  )
}

const trust = (pem: string): object => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name: 'signet-trust', namespace: NAMESPACE },
  data: { 'ca.crt': pem, 'previous.crt': pem },
})
const serving = (pem: string): object => ({
  apiVersion: 'v1',
  kind: 'Secret',
  metadata: { name: 'signet-operator-tls', namespace: NAMESPACE },
  data: { 'tls.crt': Buffer.from(pem).toString('base64'), 'tls.key': '' },
})
const service = (name: string, targetPort: number | string): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort }] },
})

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'signet-doctor-'))
  server = await startApiServer({ crds: true })
  await server.createNamespace(NAMESPACE)
  await server.createNamespace('shop', { 'signet.dev/inject': 'enabled' })
  await server.createNamespace('bank', { 'signet.dev/inject': 'enabled' })
  await server.createNamespace('calm')
})
afterAll(async () => {
  await server?.stop()
  await rm(folder, { recursive: true, force: true })
})

describe('signet doctor', () => {
  it('says so where nothing is installed', async () => {
    const { code, stdout } = await doctor([])
    expect(stdout).toMatch(
      /^ERROR {4}signet-system namespace {2}not there: ConfigMap signet-settings, ConfigMap signet-trust, the webhook configurations/,
    )
    expect(code).toBe(1)
  })

  it('finds nothing where all is well, and each thing that is not', async () => {
    const authority = await createAuthority({ now: new Date(), lifetimeMs: 365 * DAY_MS })
    ca = authority.cert
    const rendered = objects(await render())
    const settings = rendered.find(({ metadata }) => metadata.name === 'signet-settings') as {
      data?: Record<string, string>
    }
    const injection = JSON.parse(settings.data?.['injection.json'] ?? '') as object
    template = parseInjectionTemplate({ ...injection, trustCa: ca })
    const configMaps = rendered.filter(
      ({ kind, metadata }) => kind === 'ConfigMap' && /^signet-(settings|identity)$/.test(metadata.name),
    )
    // One that no pod of this test matches: there is nobody behind them.
    const webhooks = rendered
      .filter(({ kind }) => kind === 'MutatingWebhookConfiguration')
      .map((object) => {
        const hooks = object['webhooks'] as { clientConfig: object }[]
        return {
          ...object,
          webhooks: hooks.map((hook) => ({
            ...hook,
            objectSelector: { matchLabels: { nobody: 'has-this' } },
            clientConfig: { ...hook.clientConfig, caBundle: Buffer.from(ca).toString('base64') },
          })),
        }
      })
    await apply(trust(ca), serving(ca), ...configMaps, ...webhooks)

    const well = await runPod('shop', inject('shop', podOf('web')))
    await apply(service('web', 'http'))
    await keepBundles({ [well]: REVISION })
    expect(await report()).toMatchObject({ code: 0, findings: [], restart: [], unchecked: [], pods: 1 })

    // Then, one thing after another.
    await runPod('shop', podOf('api'))
    await runPod('shop', inject('shop', podOf('old'), { template: { drainMs: 1 } }))
    const behind = await runPod('shop', inject('shop', podOf('behind')), false)
    await runPod('bank', inject('bank', podOf('pay')))
    await server.kubectl(['label', 'namespace', 'bank', 'signet.dev/required=true'])
    await apply(service('web', 8080))
    await keepBundles({ [well]: REVISION, [behind]: FORMER })
    const [broken] = webhooks
    if (broken === undefined) throw new Error('the chart renders no webhooks')
    const other = Buffer.from((await createAuthority({ now: new Date(), lifetimeMs: 30 * DAY_MS })).cert).toString(
      'base64',
    )
    const [first, ...others] = broken.webhooks
    await apply({
      ...broken,
      webhooks: [{ ...first, clientConfig: { ...first?.clientConfig, caBundle: other } }, ...others],
    })
    await apply(
      serving((await createAuthority({ now: new Date(Date.now() - 80 * DAY_MS), lifetimeMs: 83 * DAY_MS })).cert),
    )
    await apply(rule('residency'))
    const conditions = [
      {
        type: 'Compiled',
        status: 'False',
        reason: 'RegoInvalid',
        message: 'line 3',
        lastTransitionTime: '2026-06-01T00:00:00Z',
      },
    ]
    const status = JSON.stringify({ status: { observedGeneration: 1, conditions } })
    await server.kubectl([
      'patch',
      'crule',
      'residency',
      '-n',
      'shop',
      '--subresource=status',
      '--type=merge',
      '-p',
      status,
    ])

    const found = await report()
    expect(
      found.findings.map(({ severity, check, namespace, object }) => `${severity} ${check} ${namespace} ${object}`),
    ).toEqual([
      'error not-injected shop pod/api-5c4-x1',
      'error numeric-target-port shop service/web',
      'error rule-not-in-force shop compliancerule/residency',
      'error weak-capture bank pod/pay-5c4-x1',
      'error webhook-ca  mutatingwebhookconfiguration/required.inject.signet.dev',
      'warning bundle-not-current bank pod/pay-5c4-x1',
      'warning bundle-not-current shop pod/behind-5c4-x1',
      'warning bundle-not-current shop pod/old-5c4-x1',
      'warning certificate-expiry signet-system secret/signet-operator-tls',
      'warning sidecar-not-ready shop pod/behind-5c4-x1',
      'warning stale-injection shop pod/old-5c4-x1',
    ])
    expect(found.restart).toEqual([
      'kubectl rollout restart deployment/api -n shop',
      'kubectl rollout restart deployment/old -n shop',
      'kubectl rollout restart deployment/pay -n bank',
    ])
    expect(found.code).toBe(1)
  })

  it('tells people what to do, and looks at one namespace where it is told to', async () => {
    const { code, stdout } = await doctor(['-n', 'shop'])
    expect(stdout).toContain(
      'ERROR    shop pod/api-5c4-x1  has no sidecar, although namespace shop says signet.dev/inject: enabled  [not-injected]',
    )
    expect(stdout).toMatch(
      /To restart:\n {2}kubectl rollout restart deployment\/api -n shop\n {2}kubectl rollout restart deployment\/old -n shop\n/,
    )
    expect(stdout).not.toContain('bank')
    expect(code).toBe(1)
  })

  it('looks at what it may, and says what it may not', async () => {
    await server.createServiceAccount('calm', 'viewer')
    const token = (await server.kubectl(['create', 'token', 'viewer', '-n', 'calm'])).trim()
    const kubeconfig = path.join(folder, 'viewer.json')
    await writeFile(kubeconfig, kubeconfigFor(server.url, server.ca, token))
    const nothing = await doctor(['-n', 'calm'], kubeconfig)
    expect(nothing.stdout).toMatch(/Not checked:\n {2}namespaces: 403 [^]*pods: 403[^]*Secret signet-operator-tls: 403/)
    expect(nothing.code).toBe(3)
    // With a role that reads everything but Secrets.
    const kinds = 'namespaces,pods,services,configmaps,*.signet.dev,*.admissionregistration.k8s.io'
    await server.kubectl(['create', 'clusterrole', 'viewer', '--verb=get,list', `--resource=${kinds}`])
    await server.kubectl([
      'create',
      'clusterrolebinding',
      'viewer',
      '--clusterrole=viewer',
      '--serviceaccount=calm:viewer',
    ])
    const more = await doctor(['-n', 'calm'], kubeconfig)
    expect(more.stdout).toMatch(
      /Not checked:\n {2}Secret signet-operator-tls: 403 secrets "signet-operator-tls" is forbidden: [^\n]*\n {2}Secret signet-ledger-tls[^\n]*\n\n/,
    )
  })

  const unusable: { name: string; args: string[]; want: RegExp }[] = [
    {
      name: 'no such context',
      args: ['--context', 'other'],
      want: /^signet: the kubeconfig has no context other; it has: test/,
    },
    {
      name: 'no such kubeconfig',
      args: ['--kubeconfig', '/nowhere'],
      want: /^signet: the kubeconfig cannot be used: /,
    },
    { name: 'no name of a namespace', args: ['-n', 'Shop'], want: /^signet: Shop is no name of a namespace/ },
    { name: 'an option that there is not', args: ['--fix'], want: /^signet: Unknown option '--fix'/ },
  ]
  it.each(unusable)('leaves with 2: $name', async ({ args, want }) => {
    const { code, stderr } = await doctor(args)
    expect(stderr).toMatch(want)
    expect(code).toBe(2)
  })

  it('leaves with 2 where the API server does not answer', async () => {
    const kubeconfig = path.join(folder, 'gone.json')
    await writeFile(kubeconfig, kubeconfigFor('https://127.0.0.1:1', server.ca, 'x'))
    const { code, stderr } = await doctor([], kubeconfig)
    expect(stderr).toMatch(/^signet: the API server at https:\/\/127\.0\.0\.1:1 does not answer: .*ECONNREFUSED/)
    expect(code).toBe(2)
  })
})

function rule(name: string): object {
  return {
    apiVersion: 'signet.dev/v1alpha1',
    kind: 'ComplianceRule',
    metadata: { name, namespace: 'shop' },
    spec: {
      description: 'Nothing leaves the region',
      frameworks: ['GDPR'],
      severity: 'high',
      stage: 'egress',
      rego: 'package rule\n\ndecision := {"evaluated": true, "violations": []}\n',
    },
  }
}
