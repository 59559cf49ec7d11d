import { execFile } from 'node:child_process'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { injectPod } from '#core/injection/inject.ts'
import { pod as plainPod, requiredSettings, settings, TEST_CA } from '#core/injection/injection.fixture.ts'
import { readPod, type PodObject } from '#core/injection/pod.ts'
import { helm } from '#tools/kubernetes/helm.ts'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'
import { podsOf, type WorkloadPod } from '../support/kubernetes/workloads.ts'

/*
 * Workloads that others wrote: what Kubernetes ships in the very module that the API server under test is built from (add-ons and the
 * manifests of its end-to-end tests: databases, CSI drivers, device plugins, DNS, metrics). Each is a pod that the server takes,
 * injected with either capture it is one too, and the fence of a namespace that requires Signet lets it in or says why not.
 * `SIGNET_MANIFESTS` names a folder with more (charts rendered with helm): what is asked of those is the same, but for the names. What could not
 * be tried is reported at the end; more of it than `SIGNET_MANIFESTS_UNTRIED` (0) fails.
 */
const MODULE = path.resolve(import.meta.dirname, '../../tools/kubernetes/modules/kubernetes')
const CHART = path.resolve(import.meta.dirname, '../../charts/signet')
const FOLDERS = ['cluster/addons', 'test/e2e/testing-manifests']
/** Files that are templates of another tool. */
const SHIPPED_TEMPLATES = 9
const FREE = 'payments'
const FENCED = 'fenced'

/** Verdicts of injection and of the fence that are not "let in". */
const HOST_NETWORK = ['calico-node', 'calico-typha', 'csi-gce-pd-controller', 'ip-masq-agent', 'kube-network-policies']
HOST_NETWORK.push('metadata-proxy-v0.1', 'node-local-dns', 'nvidia-driver-installer')
const HOST_PATH = ['csi-gce-pd-node', 'csi-hostpath-socat', 'csi-hostpathplugin', 'csi-mockplugin']
HOST_PATH.push('csi-mockplugin-attacher', 'csi-mockplugin-resizer', 'csi-mockplugin-snapshotter', 'dra-test-driver')
HOST_PATH.push('event-exporter-v0.3.4', 'nvidia-gpu-device-plugin', 'sample-device-plugin', 'sample-device-plugin-beta')

/** Warnings of injection, by workload that has them with both captures, and with named-port alone. */
const NO_PORT = [
  'calico-node-vertical-autoscaler',
  'calico-typha-horizontal-autoscaler',
  'calico-typha-vertical-autoscaler',
]
NO_PORT.push('volume-snapshot-controller', 'dra-test-driver', 'nvidia-gpu-device-plugin', 'sample-device-plugin-beta')
NO_PORT.push('volume-data-source-validator', 'csi-hostpath-socat', 'csi-mockplugin-attacher', 'csi-mockplugin-resizer')
NO_PORT.push('csi-mockplugin-snapshotter')
const SEVERAL_PORTS = ['agnhost-primary', 'service-loadbalancer', 'cassandra', 'cockroachdb', 'etcd', 'mysql', 'zoo']
SEVERAL_PORTS.push('csi-hostpathplugin')
const NOT_HTTP = ['redis-master', 'redis-slave']
const UNNAMED = ['l7-default-backend', 'frontend', 'agnhost-primary', 'service-loadbalancer', 'netexec', 'my-nginx']
UNNAMED.push('cassandra-test-server', 'etcd-test-server', 'mysql-test-server')
const HOST_PORT = ['service-loadbalancer', 'netexec']
/** One of this name has a container with two ports, another has one. */
const EITHER = ['csi-mockplugin']

const KINDS = {
  'no port': /^no container declares a TCP port: nothing is captured/,
  'several ports': /^the pod has ports [\d, ]+; \S+ is captured\. Say which with signet\.dev\/port$/,
  'not HTTP': /^port \d+ looks like \S+, and the proxy speaks HTTP\/1\.1: /,
  unnamed: /^port \d+ has no name, so Services lead to it by number, around the proxy: /,
  'host port': /^port \d+ has a hostPort, which leads to the application around the proxy; /,
  mesh: /(Istio|Linkerd)/,
  asked: /^signet\.dev\//,
} as const

/** What kind of warning each is; one that is of none stays as it is. */
const kindsOf = (warnings: readonly string[]): string[] =>
  warnings.map((warning) => Object.entries(KINDS).find(([, kind]) => kind.test(warning))?.[0] ?? warning)

function wantedKinds(own: string, capture: 'named-port' | 'redirect'): string[] {
  const named = capture === 'named-port'
  return [
    ...(NO_PORT.includes(own) ? ['no port'] : []),
    ...(SEVERAL_PORTS.includes(own) ? ['several ports'] : []),
    ...(NOT_HTTP.includes(own) ? ['not HTTP'] : []),
    ...(named && UNNAMED.includes(own) ? ['unnamed'] : []),
    ...(named && HOST_PORT.includes(own) ? ['host port'] : []),
  ]
}

type Found = WorkloadPod & { readonly file: string }
/** What was not tried, and why. */
const untried: string[] = []
const UNTRIED_ALLOWED = Number(process.env['SIGNET_MANIFESTS_UNTRIED'] ?? 0)

async function folderOfKubernetes(): Promise<string> {
  const { stdout } = await promisify(execFile)('go', ['mod', 'download', '-json', 'k8s.io/kubernetes'], { cwd: MODULE })
  return (JSON.parse(stdout) as { Dir: string }).Dir
}

/** Manifests with placeholders of a deployment tool are no YAML yet: they are reported. */
function workloadsIn(folder: string, patterns: readonly string[]): Found[] {
  return patterns
    .flatMap((pattern) => globSync(pattern, { cwd: folder }))
    .toSorted()
    .flatMap((file) => {
      const text = readFileSync(path.join(folder, file), 'utf8')
      if (text.includes('{{')) untried.push(`${file}: has {{ in it, and is no manifest yet`)
      return text.includes('{{') ? [] : podsOf(text).map((workload) => ({ ...workload, file }))
    })
}

const shipped = workloadsIn(
  await folderOfKubernetes(),
  FOLDERS.map((folder) => `${folder}/**/*.yaml`),
)
const shippedUntried = untried.splice(0)
const more = process.env['SIGNET_MANIFESTS'] ? workloadsIn(process.env['SIGNET_MANIFESTS'], ['**/*.yaml']) : []

let server: TestApiServer
beforeAll(async () => {
  server = await startApiServer()
  await server.createNamespace('signet-system')
  await server.createNamespace(FREE)
  await server.createNamespace(FENCED, { 'signet.dev/required': 'true' })
  const fence = await helm([
    'template',
    'signet',
    CHART,
    '--namespace=signet-system',
    '--show-only=templates/fence.yaml',
  ])
  expect(fence.stderr).toBe('')
  await server.kubectl(['apply', '--server-side', '-f', '-'], fence.stdout)
  await server.request('POST', '/api/v1/namespaces/signet-system/configmaps', {
    metadata: { name: 'signet-trust' },
    data: { 'ca.crt': TEST_CA },
  })
  // Policies come into force within a second or so.
  while ((await create(FENCED, plainPod())).status === 201) await sleep(100)
  while ((await create(FENCED, injectPod(plainPod(), fenced).pod)).status !== 201) await sleep(100)
})
afterAll(() => server.stop())

const fenced = requiredSettings({ name: FENCED, tenant: FENCED, tenants: [FENCED] })
const create = (namespace: string, body: object): ReturnType<TestApiServer['request']> =>
  server.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All&fieldValidation=Strict`, body)

async function createAccount(pod: PodObject): Promise<void> {
  const name = pod.spec.serviceAccountName || pod.spec.serviceAccount
  if (name === undefined || name === '') return
  for (const namespace of [FREE, FENCED]) await server.createServiceAccount(namespace, name)
}

it('finds what it is about', () => {
  expect(shipped.length).toBeGreaterThanOrEqual(40)
  // Templates of Kubernetes' own tools, every one of them: what comes to be left out is looked at.
  process.stdout.write(`not tried, of what Kubernetes ships:\n${shippedUntried.map((line) => `  ${line}\n`).join('')}`)
  expect(shippedUntried.length).toBeLessThanOrEqual(SHIPPED_TEMPLATES)
})

describe.each([...shipped, ...more])('$file $name', ({ file, name, pod: body }) => {
  const pod = readPod(body)
  const isShipped = shipped.some((one) => one.pod === body)
  const own = name.split('/')[1] ?? ''

  it('is taken by the API server, injected or not, and injected once', async () => {
    await createAccount(pod)
    const bare = await create(FREE, body)
    // A chart rendered with its default values is not always a pod. Nothing can be learnt of it, and it is told.
    if (!isShipped && bare.status !== 201) {
      untried.push(`${file} ${name}: refused as it is: ${bare.text.slice(0, 300)}`)
      return
    }
    expect(bare.text).toContain('"kind":"Pod"')
    for (const capture of ['named-port', 'redirect'] as const) {
      const how = settings({ template: { capture } })
      const injection = injectPod(pod, how)
      expect(injection.eligibility.verdict, injection.eligibility.reason).not.toBe('skip')
      if (isShipped) expect(injection.eligibility.verdict).toBe(HOST_NETWORK.includes(own) ? 'refuse' : 'inject')
      if (injection.eligibility.verdict !== 'inject') {
        expect(injection.warnings).toEqual([expect.stringMatching(/^not injected: spec\.(host|share)/)])
        continue
      }
      const kinds = kindsOf(injection.warnings)
      if (isShipped && !EITHER.includes(own)) expect(kinds).toEqual(wantedKinds(own, capture))
      expect(kinds.filter((kind) => !Object.hasOwn(KINDS, kind))).toEqual([])
      const answer = await create(FREE, injection.pod)
      expect(answer.text).toContain('"kind":"Pod"')
      expect(injectPod(injection.pod, how).patch).toEqual([])
      // Completed by the server, and found to be what it was: an account by its deprecated name too.
      expect(injectPod(readPod(answer.json()), how).patch).toEqual([])
    }
  })

  it('is let in where Signet is required, or refused by name', async () => {
    if (!isShipped && (await create(FREE, body)).status !== 201) return
    await createAccount(pod)
    const answer = await create(FENCED, injectPod(pod, fenced).pod)
    if (isShipped) {
      expect(answer.status, answer.text).toBe([...HOST_NETWORK, ...HOST_PATH].includes(own) ? 422 : 201)
      if (HOST_PATH.includes(own)) expect(answer.text).toContain('hostPath volumes are not allowed')
    }
    if (answer.status !== 201) expect(answer.text).toContain('Signet is required here: ')
  })
})

it('has tried all that it was given', () => {
  if (more.length > 0 || untried.length > 0)
    process.stdout.write(
      `${more.length} pods of SIGNET_MANIFESTS; not tried:\n${untried.map((line) => `  ${line}\n`).join('')}`,
    )
  expect(untried.length, untried.join('\n')).toBeLessThanOrEqual(UNTRIED_ALLOWED)
})
