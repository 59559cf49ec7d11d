import { setTimeout as sleep } from 'node:timers/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { pod, requiredSettings, TEST_CA } from '#core/injection/injection.fixture.ts'
import { injectPod } from '#core/injection/inject.ts'
import type { PodObject } from '#core/injection/pod.ts'
import { helm } from '#tools/kubernetes/helm.ts'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'

/*
 * Pods that look like injected ones and would still have let the application answer instead of the proxy, and tokens of the proxy's
 * audiences without a proxy. Namespaces without passthrough ports, without a region, and of the internal channel: what is absent
 * must not be taken for what is empty.
 */
let server: TestApiServer
const CHART = path.resolve(import.meta.dirname, '../../charts/signet')
const MAP = { default: {}, namespaces: { inside: { channel: 'internal' } } }

// The shapes of a pod that cases change, mutable.
// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any

beforeAll(async () => {
  server = await startApiServer()
  await server.createNamespace('signet-system')
  for (const name of ['plain', 'inside']) await server.createNamespace(name, { 'signet.dev/required': 'true' })
  await server.createNamespace('free')
  for (const name of ['plain', 'free']) await server.createServiceAccount(name, 'app')
  const rendered = await helm([
    'template',
    'signet',
    CHART,
    '--namespace=signet-system',
    '--show-only=templates/fence.yaml',
    `--set-json=namespaceMap=${JSON.stringify(MAP)}`,
  ])
  await server.kubectl(['apply', '--server-side', '-f', '-'], rendered.stdout)
  await server.request('POST', '/api/v1/namespaces/signet-system/configmaps', {
    metadata: { name: 'signet-trust' },
    data: { 'ca.crt': TEST_CA },
  })
  for (;;) {
    if ((await create(pod())).text.includes('no complete sidecar') && (await create(injected())).status === 201) break
    await sleep(200)
  }
})
afterAll(() => server.stop())

const create = (body: object, namespace = 'plain'): ReturnType<TestApiServer['request']> =>
  server.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body)

function injected(namespace = 'plain'): PodObject {
  return injectPod(
    pod(),
    requiredSettings({
      name: namespace,
      tenant: namespace,
      tenants: [namespace],
      channel: namespace === 'inside' ? 'internal' : 'external',
    }),
  ).pod
}

const proxyOf = (changed: Loose): Loose => changed.spec.initContainers.find((c: Loose) => c.name === 'signet-proxy')
const redirectOf = (changed: Loose): Loose =>
  changed.spec.initContainers.find((c: Loose) => c.name === 'signet-redirect')
const without = (target: Loose, name: string): void => {
  target.env = target.env.filter((e: Loose) => e.name !== name)
}
const fromConfigMap = (target: Loose, name: string): void => {
  without(target, name)
  target.env.push({ name, valueFrom: { configMapKeyRef: { name: 'mine', key: 'x' } } })
}

describe('kept out', () => {
  it.each<{ what: string; namespace?: string; change: (changed: Loose) => void; want: string }>([
    {
      what: 'passthrough ports that a ConfigMap gives',
      change: (p) => fromConfigMap(redirectOf(p), 'SIGNET_REDIRECT_PASSTHROUGH'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'a region that a ConfigMap gives',
      change: (p) => fromConfigMap(proxyOf(p), 'SIGNET_REGION'),
      want: "not the platform's: SIGNET_REGION",
    },
    {
      what: 'the proxy on loopback alone, so that the app can have its port',
      namespace: 'inside',
      change: (p) => without(proxyOf(p), 'SIGNET_INTERNAL_LISTEN'),
      want: "not the platform's: SIGNET_INTERNAL_LISTEN",
    },
    {
      what: 'a redirect that nobody waits for',
      change: (p) => {
        redirectOf(p).restartPolicy = 'Always'
        redirectOf(p).resources = { limits: { memory: '6Mi' } }
      },
      want: 'signet-redirect must end',
    },
    {
      what: 'a sidecar that nobody waits for, so that the app has its port first',
      change: (p) => delete proxyOf(p).startupProbe,
      want: 'ask it over HTTP',
    },
    {
      what: 'a start that something else answers for',
      change: (p) => {
        proxyOf(p).startupProbe.httpGet.port = 8080
      },
      want: 'ask it over HTTP',
    },
    {
      what: 'a liveness that always fails, so that the app has its port in between',
      change: (p) => {
        proxyOf(p).livenessProbe.httpGet.path = '/nothing'
      },
      want: 'ask it over HTTP',
    },
    {
      what: 'an empty file over the proxy’s code',
      change: (p) => {
        proxyOf(p).terminationMessagePath = '/app/core/policy/join.ts'
      },
      want: 'without command',
    },
    {
      what: 'a device, whose driver puts mounts and variables into the container',
      change: (p) => {
        proxyOf(p).resources.limits['example.com/device'] = '1'
      },
      want: 'without command',
    },
    {
      what: 'a claimed device',
      change: (p) => {
        p.spec.resourceClaims = [{ name: 'mine', resourceClaimName: 'mine' }]
        proxyOf(p).resources.claims = [{ name: 'mine' }]
      },
      want: 'without command',
    },
    {
      what: 'IPv6 opened where the proxy has IPv4 alone',
      change: (p) => redirectOf(p).env.push({ name: 'SIGNET_REDIRECT_LISTEN', value: '[::]' }),
      want: 'SIGNET_REDIRECT_LISTEN',
    },
    {
      what: 'raw sockets, which a runtime gives unless they are dropped',
      change: (p) => {
        delete p.spec.containers[0].securityContext
      },
      want: 'NET_RAW',
    },
  ])('$what', async ({ namespace, change, want }) => {
    const changed = structuredClone(injected(namespace)) as Loose
    expect((await create(changed, namespace)).status).toBe(201)
    change(changed)
    const { status, text } = await create(changed, namespace)
    expect(text).toContain(want)
    expect([403, 422]).toContain(status)
  })
})

describe('tokens of the proxy’s audiences', () => {
  const ask = (namespace: string, audiences: string[]): ReturnType<TestApiServer['request']> =>
    server.request('POST', `/api/v1/namespaces/${namespace}/serviceaccounts/app/token`, {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences },
    })
  it.each(['signet-ledger', 'signet-bundles'])('%s are for kubelets to ask for', async (audience) => {
    // Each policy comes into force by itself, within a second or so.
    await expect.poll(async () => (await ask('plain', ['vault', audience])).status, { timeout: 20_000 }).toBe(422)
    const { status, text } = await ask('plain', ['vault', audience])
    expect(text).toContain('only kubelets')
    expect(status).toBe(422)
  })
  it('others are not looked at, nor other namespaces', async () => {
    expect((await ask('plain', ['vault'])).status).toBe(201)
    expect((await ask('free', ['signet-ledger'])).status).toBe(201)
  })
})
