import { setTimeout as sleep } from 'node:timers/promises'
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { container, pod, requiredSettings, TEST_CA } from '#core/injection/injection.fixture.ts'
import { injectPod } from '#core/injection/inject.ts'
import { readPod, type PodObject } from '#core/injection/pod.ts'
import { helm } from '#tools/kubernetes/helm.ts'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'

/*
 * The fence as the chart renders it, in a real API server, with no operator at all: it must hold by itself. Each case takes a pod as
 * injection makes it, changes one thing, and is refused for that reason.
 */
let server: TestApiServer

const CHART = path.resolve(import.meta.dirname, '../../charts/signet')
const NAMESPACE = 'payments'
const MAP = {
  default: {},
  namespaces: {
    payments: { tenants: ['payments-eu'], passthroughPorts: [9090], region: 'eu' },
    inside: { channel: 'internal' },
  },
}
const MESHES = [
  'istio-proxy=docker.io/istio/proxyv2:',
  'istio-init=docker.io/istio/proxyv2:',
  'linkerd-init=cr.l5d.io/linkerd/proxy-init:',
  'linkerd-proxy=cr.l5d.io/linkerd/proxy:',
]
const FACTS = {
  region: 'eu',
  tenants: ['payments', 'payments-eu'],
  passthroughPorts: [9090],
}

// The shapes of a pod that cases change, mutable.
// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any

beforeAll(async () => {
  server = await startApiServer()
  await server.createNamespace('signet-system')
  await server.createNamespace(NAMESPACE, { 'signet.dev/required': 'true' })
  await server.createNamespace('inside', { 'signet.dev/required': 'true' })
  await server.createNamespace('free')
  const rendered = await helm([
    'template',
    'signet',
    CHART,
    '--namespace=signet-system',
    '--show-only=templates/fence.yaml',
    `--set-json=namespaceMap=${JSON.stringify(MAP)}`,
    '--set=injection.env.SIGNET_LOG_LEVEL=debug',
    `--set-json=fence=${JSON.stringify({ trustedContainers: MESHES })}`,
  ])
  expect(rendered.stderr).toBe('')
  await server.kubectl(['apply', '--server-side', '-f', '-'], rendered.stdout)
  await server.request('POST', '/api/v1/namespaces/signet-system/configmaps', {
    metadata: { name: 'signet-trust' },
    data: { 'ca.crt': TEST_CA, 'previous.crt': 'older\n' },
  })
  // Policies come into force within a second or so.
  for (;;) {
    const { text } = await create(pod())
    if (text.includes('no complete sidecar')) break
    await sleep(200)
  }
  for (;;) {
    const { status } = await create(injected())
    if (status === 201) break
    await sleep(200)
  }
})
afterAll(() => server.stop())

function injected(change: Parameters<typeof pod>[0] = {}, namespace: object = {}): PodObject {
  return injectPod(pod(change), requiredSettings({ ...FACTS, ...namespace })).pod
}

const create = (body: object, namespace = NAMESPACE): ReturnType<TestApiServer['request']> =>
  server.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body)

const proxyOf = (changed: Loose): Loose => changed.spec.initContainers.find((c: Loose) => c.name === 'signet-proxy')
const redirectOf = (changed: Loose): Loose =>
  changed.spec.initContainers.find((c: Loose) => c.name === 'signet-redirect')
function setEnv(target: Loose, name: string, value: string | undefined): void {
  target.env = target.env.filter((e: Loose) => e.name !== name)
  if (value !== undefined) target.env.push({ name, value })
}

describe('let in', () => {
  it.each([
    { what: 'a pod as injection makes it', body: () => injected() },
    {
      what: 'with a tenant of the namespace',
      body: () => injected({ metadata: { name: 'a', annotations: { 'signet.dev/tenant': 'payments-eu' } } }),
    },
    { what: 'that serves nothing', body: () => injected({ spec: { containers: [{ name: 'job', image: 'x' }] } }) },
    {
      what: 'with init containers, an own user and a token of the API server',
      body: () =>
        injected({
          spec: {
            initContainers: [{ name: 'migrate', image: 'x' }],
            securityContext: { runAsUser: 1000 },
            volumes: [
              { name: 'api', projected: { sources: [{ serviceAccountToken: { path: 'token', audience: 'vault' } }] } },
            ],
          } as Loose,
        }),
    },
    {
      what: 'with variables that a cloud adds',
      body: () => {
        const changed: Loose = structuredClone(injected())
        proxyOf(changed).env.push({ name: 'AWS_ROLE_ARN', value: 'arn' })
        return changed
      },
    },
    {
      what: 'with a tuning that the platform gives',
      body: () =>
        injectPod(pod(), {
          ...requiredSettings(FACTS),
          template: { ...requiredSettings().template, env: { SIGNET_LOG_LEVEL: 'debug' } },
        }).pod,
    },
    {
      what: 'trusting the authority before',
      body: () => {
        const changed: Loose = structuredClone(injected())
        setEnv(proxyOf(changed), 'SIGNET_TRUST_CA', 'older\n')
        return changed
      },
    },
    {
      what: 'listening on IPv6',
      body: () =>
        injectPod(pod(), {
          ...requiredSettings(FACTS),
          template: { ...requiredSettings().template, listenHost: '[::]' },
        }).pod,
    },
    {
      what: 'beside a mesh that the platform trusts',
      body: () =>
        injected({
          spec: {
            initContainers: [
              {
                name: 'istio-init',
                image: 'docker.io/istio/proxyv2:1.29.0',
                securityContext: { capabilities: { add: ['NET_ADMIN', 'NET_RAW'] } },
              },
            ],
            containers: [
              container(),
              { name: 'istio-proxy', image: 'docker.io/istio/proxyv2:1.29.0', securityContext: { runAsUser: 1337 } },
            ],
          } as Loose,
        }),
    },
    {
      what: 'with the mesh’s init container first',
      body: () => {
        const changed: Loose = structuredClone(
          injected({
            spec: { containers: [container(), { name: 'istio-proxy', image: 'docker.io/istio/proxyv2:1.29.0' }] },
          }),
        )
        changed.spec.initContainers.unshift({
          name: 'istio-init',
          image: 'docker.io/istio/proxyv2:1.29.0',
          securityContext: { capabilities: { add: ['NET_ADMIN', 'NET_RAW'] } },
        })
        return changed
      },
    },
  ])('$what', async ({ body }) => {
    const answer = await create(body())
    expect(answer.text).not.toContain('Signet is required')
    expect(answer.status).toBe(201)
  })

  it('a pod of the internal channel', async () => {
    const body = injectPod(
      pod(),
      requiredSettings({ name: 'inside', tenant: 'inside', tenants: ['inside'], channel: 'internal' }),
    ).pod
    const answer = await create(body, 'inside')
    expect(answer.text).not.toContain('Signet is required')
    expect(answer.status).toBe(201)
  })

  it('any pod where Signet is not required', async () => {
    expect(
      (
        await create(
          {
            ...pod(),
            spec: { hostNetwork: true, containers: [{ name: 'a', image: 'x', securityContext: { privileged: true } }] },
          },
          'free',
        )
      ).status,
    ).toBe(201)
  })
})

const container0 = (change: object) => (changed: Loose) => Object.assign(changed.spec.containers[0], change)
const security = (change: object) => container0({ securityContext: change })

/** Pods that are kept out for what they are themselves. */
const BY_THEMSELVES: Readonly<Record<string, string>> = { elasticsearch: 'privileged containers' }

describe('the fixtures of injection', () => {
  const folder = path.resolve(import.meta.dirname, '../../core/injection/fixtures')
  const names = readdirSync(folder).filter((file) => file.endsWith('.in.yaml'))
  it.each(names)('%s', async (file) => {
    const [, given] = parseAllDocuments(readFileSync(path.join(folder, file), 'utf8')).map(
      (each) => each.toJS() as object,
    )
    const { pod: body, eligibility } = injectPod(readPod(given), requiredSettings(FACTS))
    const account = body.spec.serviceAccountName ?? (body.spec as { serviceAccount?: string }).serviceAccount
    if (account !== undefined) await server.createServiceAccount(NAMESPACE, account)
    const { status, text } = await create(body)
    const reason = BY_THEMSELVES[file.slice(0, -'.in.yaml'.length)]
    if (eligibility.verdict === 'refuse') expect(text).toContain('Signet is required here')
    else if (reason !== undefined) expect(text).toContain(reason)
    else
      expect({ status, text }).toEqual({
        status: 201,
        text: expect.not.stringContaining('Signet is required') as string,
      })
  })
})

describe('kept out', () => {
  it.each<{ what: string; change: (changed: Loose) => void; want: string }>([
    {
      what: 'no sidecar',
      change: (p) => {
        p.spec.initContainers = []
      },
      want: 'no complete sidecar',
    },
    { what: 'no redirect', change: (p) => p.spec.initContainers.shift(), want: 'no complete sidecar' },
    {
      what: 'a sidecar that is done',
      change: (p) => {
        for (const field of ['restartPolicy', 'startupProbe', 'livenessProbe', 'readinessProbe'])
          delete proxyOf(p)[field]
      },
      want: 'no complete sidecar',
    },
    {
      what: 'a sidecar among the containers',
      change: (p) => {
        const [proxy] = p.spec.initContainers.splice(1, 1)
        delete proxy.restartPolicy
        p.spec.containers.push(proxy)
      },
      want: 'no complete sidecar',
    },
    {
      what: 'somebody before the redirect',
      change: (p) => p.spec.initContainers.unshift({ name: 'early', image: 'x' }),
      want: 'must be the first init containers',
    },
    {
      what: 'the proxy before the redirect',
      change: (p) => p.spec.initContainers.push(p.spec.initContainers.shift()),
      want: 'must be the first init containers',
    },
    {
      what: 'another proxy image',
      change: (p) => {
        proxyOf(p).image = 'evil'
      },
      want: 'sidecar images must be ghcr.io/signet-dev/signet-proxy:0.1.0',
    },
    {
      what: 'another redirect image',
      change: (p) => {
        redirectOf(p).image = 'evil'
      },
      want: 'sidecar images must be',
    },
    {
      what: 'a command',
      change: (p) => {
        proxyOf(p).command = ['sleep']
      },
      want: 'without command',
    },
    {
      what: 'arguments of the redirect',
      change: (p) => {
        redirectOf(p).args = ['x']
      },
      want: 'without command',
    },
    {
      what: 'a lifecycle hook',
      change: (p) => {
        proxyOf(p).lifecycle = { postStart: { exec: { command: ['x'] } } }
      },
      want: 'without command',
    },
    {
      what: 'variables from elsewhere',
      change: (p) => {
        proxyOf(p).envFrom = [{ configMapRef: { name: 'x' } }]
      },
      want: 'without command',
    },
    {
      what: 'a probe that runs something',
      change: (p) => {
        proxyOf(p).livenessProbe = { exec: { command: ['node', '-e', '1'] } }
      },
      want: 'ask it over HTTP',
    },
    {
      what: 'a probe of another host',
      change: (p) => {
        proxyOf(p).livenessProbe.httpGet.host = 'evil'
      },
      want: 'ask it over HTTP',
    },
    ...(
      [
        ['SIGNET_LEDGER_URL', 'https://evil:8090'],
        ['SIGNET_BUNDLE', 'https://evil/v1/bundles/namespace/payments'],
        ['SIGNET_BUNDLE', 'https://signet-operator.signet-system.svc:8443/v1/bundles/namespace/other'],
        ['SIGNET_BUNDLE_TRUST', '/var/mine'],
        ['SIGNET_BUNDLE_SCOPE', '*'],
        ['SIGNET_MODE', 'off'],
        ['SIGNET_TENANT', 'somebody'],
        ['SIGNET_NAMESPACE', 'other'],
        ['SIGNET_REGION', 'us'],
        ['SIGNET_ADMIN_LISTEN', '127.0.0.1:15094'],
        ['SIGNET_EXTERNAL_LISTEN', '127.0.0.1:15081'],
        ['SIGNET_INTERNAL_LISTEN', '0.0.0.0:15080'],
        ['SIGNET_KEYRING', '/etc/podinfo/labels'],
        ['SIGNET_POLICY_DATA', '/etc/podinfo/labels'],
        ['SIGNET_TRUSTED_INGRESS', '0.0.0.0/0'],
        ['NODE_OPTIONS', '--import=data:text/javascript,1'],
        ['NODE_EXTRA_CA_CERTS', '/x'],
        ['SIGNET_LOG_LEVEL', 'silent'],
        ['SIGNET_LEDGER_TOKEN_FILE', '/var/run/secrets/mine'],
        ['SIGNET_LEDGER_URL', undefined],
        ['SIGNET_MODE', undefined],
      ] as const
    ).map(([name, value]) => ({
      what: `${name}=${value}`,
      change: (p: Loose) => setEnv(proxyOf(p), name, value),
      want: `environment of signet-proxy is not the platform's: ${name}`,
    })),
    {
      what: 'a variable twice',
      change: (p) => proxyOf(p).env.push({ name: 'SIGNET_MODE', value: 'off' }),
      want: "not the platform's: SIGNET_MODE",
    },
    {
      what: 'a variable from a field',
      change: (p) => {
        setEnv(proxyOf(p), 'SIGNET_MODE', undefined)
        proxyOf(p).env.push({ name: 'SIGNET_MODE', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } })
      },
      want: "not the platform's: SIGNET_MODE",
    },
    {
      what: 'an upstream elsewhere',
      change: (p) => setEnv(proxyOf(p), 'SIGNET_UPSTREAM', 'http://evil:80'),
      want: 'SIGNET_UPSTREAM must be the port',
    },
    {
      what: 'an upstream that is not captured',
      change: (p) => setEnv(proxyOf(p), 'SIGNET_UPSTREAM', 'http://127.0.0.1:9999'),
      want: 'SIGNET_UPSTREAM must be the port',
    },
    {
      what: 'nothing captured',
      change: (p) => setEnv(redirectOf(p), 'SIGNET_REDIRECT_PORT', undefined),
      want: 'SIGNET_UPSTREAM must be the port',
    },
    {
      what: 'an authority of their own',
      change: (p) => setEnv(proxyOf(p), 'SIGNET_TRUST_CA', 'mine'),
      want: "SIGNET_TRUST_CA of signet-proxy is not the platform's authority",
    },
    {
      what: 'no authority',
      change: (p) => setEnv(proxyOf(p), 'SIGNET_TRUST_CA', undefined),
      want: "SIGNET_TRUST_CA of signet-proxy is not the platform's authority",
    },
    {
      what: 'a port let through',
      change: (p) => setEnv(redirectOf(p), 'SIGNET_REDIRECT_PASSTHROUGH', '9090,9999'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'a redirect to elsewhere',
      change: (p) => setEnv(redirectOf(p), 'SIGNET_REDIRECT_TO', '8080'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'an admin port that is the app’s',
      change: (p) => setEnv(redirectOf(p), 'SIGNET_REDIRECT_ADMIN', '8080'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'a mesh that is not there',
      change: (p) => setEnv(redirectOf(p), 'SIGNET_REDIRECT_MESH', 'istio'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'a mesh in name only',
      change: (p) => {
        setEnv(redirectOf(p), 'SIGNET_REDIRECT_MESH', 'istio')
        p.spec.containers.push({ name: 'istio-proxy', image: 'evil' })
      },
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'a mesh that the platform does not trust',
      change: (p) => {
        setEnv(redirectOf(p), 'SIGNET_REDIRECT_MESH', 'linkerd')
        p.spec.containers.push({ name: 'linkerd-proxy', image: 'cr.l5d.io/elsewhere/proxy:1' })
      },
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'PATH of the redirect',
      change: (p) => setEnv(redirectOf(p), 'PATH', '/x'),
      want: 'signet-redirect must lead to the proxy',
    },
    {
      what: 'the proxy as another user',
      change: (p) => {
        proxyOf(p).securityContext.runAsUser = 1000
      },
      want: 'securityContext of signet-proxy',
    },
    {
      what: 'the proxy with a capability',
      change: (p) => {
        proxyOf(p).securityContext.capabilities.add = ['NET_RAW']
      },
      want: 'securityContext of signet-proxy',
    },
    {
      what: 'the proxy on a writable root',
      change: (p) => {
        proxyOf(p).securityContext.readOnlyRootFilesystem = false
      },
      want: 'securityContext of signet-proxy',
    },
    {
      what: 'the proxy without seccomp',
      change: (p) => {
        delete proxyOf(p).securityContext.seccompProfile
      },
      want: 'securityContext of signet-proxy',
    },
    {
      what: 'the redirect with more capabilities',
      change: (p) => {
        redirectOf(p).securityContext.capabilities.add = ['NET_ADMIN', 'SYS_ADMIN']
      },
      want: 'securityContext of signet-redirect',
    },
    {
      what: 'the redirect without its capability',
      change: (p) => {
        delete redirectOf(p).securityContext.capabilities.add
      },
      want: 'securityContext of signet-redirect',
    },
    {
      what: 'code mounted over the proxy’s',
      change: (p) => {
        p.spec.volumes.push({ name: 'code', emptyDir: {} })
        proxyOf(p).volumeMounts.push({ name: 'code', mountPath: '/app' })
      },
      want: 'volume mounts of signet-proxy',
    },
    {
      what: 'a writable mount below secrets',
      change: (p) => {
        p.spec.volumes.push({ name: 'code', emptyDir: {} })
        proxyOf(p).volumeMounts.push({ name: 'code', mountPath: '/var/run/secrets/x' })
      },
      want: 'volume mounts of signet-proxy',
    },
    {
      what: 'their volume as the token',
      change: (p) => {
        p.spec.volumes.push({ name: 'mine', emptyDir: {} })
        proxyOf(p).volumeMounts.find((m: Loose) => m.name === 'signet-tokens').name = 'mine'
      },
      want: 'volume mounts of signet-proxy',
    },
    {
      what: 'the spool by a sub-path',
      change: (p) => {
        proxyOf(p).volumeMounts[0].subPath = 'x'
      },
      want: 'volume mounts of signet-proxy',
    },
    {
      what: 'nft mounted over',
      change: (p) => {
        p.spec.volumes.push({ name: 'mine', emptyDir: {} })
        redirectOf(p).volumeMounts = [{ name: 'mine', mountPath: '/usr/sbin' }]
      },
      want: 'volume mounts of signet-proxy or signet-redirect',
    },
    {
      what: 'tokens from a Secret',
      change: (p) => {
        p.spec.volumes[1] = { name: 'signet-tokens', secret: { secretName: 'x' } }
      },
      want: 'volumes signet-spool, signet-tokens or signet-podinfo',
    },
    {
      what: 'a spool that is a claim',
      change: (p) => {
        p.spec.volumes[0] = { name: 'signet-spool', persistentVolumeClaim: { claimName: 'x' } }
      },
      want: 'volumes signet-spool, signet-tokens or signet-podinfo',
    },
    {
      what: 'labels that are annotations',
      change: (p) => {
        p.spec.volumes[2].downwardAPI.items[0].fieldRef.fieldPath = 'metadata.annotations'
      },
      want: 'volumes signet-spool, signet-tokens or signet-podinfo',
    },
    ...['signet-tokens', 'signet-spool', 'signet-podinfo'].map((name) => ({
      what: `the app mounts ${name}`,
      change: container0({ volumeMounts: [{ name, mountPath: '/x' }] }),
      want: 'only signet-proxy may mount',
    })),
    {
      what: 'an init container mounts the tokens',
      change: (p) =>
        p.spec.initContainers.push({
          name: 'i',
          image: 'x',
          volumeMounts: [{ name: 'signet-tokens', mountPath: '/x' }],
        }),
      want: 'only signet-proxy may mount',
    },
    {
      what: 'another volume of our audience',
      change: (p) =>
        p.spec.volumes.push({
          name: 'mine',
          projected: { sources: [{ serviceAccountToken: { path: 'x', audience: 'signet-ledger' } }] },
        }),
      want: 'may hold tokens for signet-ledger',
    },
    {
      what: 'the node’s files',
      change: (p) => p.spec.volumes.push({ name: 'mine', hostPath: { path: '/var/lib/kubelet' } }),
      want: 'hostPath volumes are not allowed',
    },
    { what: 'the app as the proxy’s user', change: security({ runAsUser: 15065 }), want: 'user and group 15065' },
    { what: 'the app in the proxy’s group', change: security({ runAsGroup: 15065 }), want: 'user and group 15065' },
    {
      what: 'the whole pod as the proxy’s user',
      change: (p) => {
        p.spec.securityContext = { runAsUser: 15065 }
      },
      want: 'user and group 15065',
    },
    {
      what: 'the proxy’s group by the way',
      change: (p) => {
        p.spec.securityContext = { supplementalGroups: [15065] }
      },
      want: 'user and group 15065',
    },
    {
      what: 'shareProcessNamespace',
      change: (p) => {
        p.spec.shareProcessNamespace = true
      },
      want: 'shareProcessNamespace is not allowed',
    },
    ...['hostNetwork', 'hostPID', 'hostIPC'].map((field) => ({
      what: field,
      change: (p: Loose) => {
        p.spec[field] = true
        p.spec.containers[0].ports = []
        for (const c of p.spec.initContainers) delete c.ports
      },
      want: 'hostNetwork, hostPID and hostIPC are not allowed',
    })),
    {
      what: 'Windows',
      change: (p) => {
        p.spec.os = { name: 'windows' }
        for (const c of [...p.spec.initContainers, ...p.spec.containers]) delete c.securityContext
      },
      want: 'only Linux pods',
    },
    ...['SYS_PTRACE', 'NET_ADMIN', 'CAP_SYS_ADMIN', 'ALL', 'NET_RAW', 'BPF', 'sys_ptrace'].map((name) => ({
      what: `the app with ${name}`,
      change: security({ capabilities: { add: [name] } }),
      want: 'privileged containers',
    })),
    { what: 'a privileged app', change: security({ privileged: true }), want: 'privileged containers' },
    {
      what: 'an init container with NET_ADMIN',
      change: (p) =>
        p.spec.initContainers.push({
          name: 'i',
          image: 'x',
          securityContext: { capabilities: { add: ['NET_ADMIN'] } },
        }),
      want: 'privileged containers',
    },
    {
      what: 'a container with the name of a mesh’s',
      change: (p) =>
        p.spec.initContainers.push({
          name: 'istio-init',
          image: 'evil',
          securityContext: { capabilities: { add: ['NET_ADMIN'] } },
        }),
      want: 'privileged containers',
    },
  ])('$what', async ({ change, want }) => {
    const changed = structuredClone(injected()) as Loose
    change(changed)
    const { status, text } = await create(changed)
    expect(text).toContain(want)
    expect([403, 422]).toContain(status)
  })

  it('capture by port name', async () => {
    const { pod: named } = injectPod(pod(), {
      ...requiredSettings(FACTS),
      namespace: { ...requiredSettings(FACTS).namespace, labels: { 'signet.dev/inject': 'enabled' } },
    })
    expect((await create(named)).text).toContain('no complete sidecar')
  })

  it('a pod that says it is a mirror pod, and is not a node’s', async () => {
    const { text } = await create(
      pod({
        metadata: { name: 'm', annotations: { 'kubernetes.io/config.mirror': 'x' } },
        spec: { nodeName: 'node1' } as Loose,
      }),
    )
    expect(text).toContain('no complete sidecar')
  })
})

describe('pods that run', () => {
  const dropped = { capabilities: { drop: ['ALL'] } }
  beforeAll(async () => {
    const answer = await server.request(
      'POST',
      `/api/v1/namespaces/${NAMESPACE}/pods`,
      injected({ metadata: { name: 'runs' } }),
    )
    expect(answer.status).toBe(201)
    // One from before the namespace required Signet.
    await server.createNamespace('later')
    await server.request('POST', '/api/v1/namespaces/later/pods', pod({ metadata: { name: 'old' } }))
    await server.request(
      'PATCH',
      '/api/v1/namespaces/later',
      { metadata: { labels: { 'signet.dev/required': 'true' } } },
      { contentType: 'application/merge-patch+json' },
    )
  })
  const patch = (body: object, name = 'runs', namespace = NAMESPACE) =>
    server.request('PATCH', `/api/v1/namespaces/${namespace}/pods/${name}`, body, {
      contentType: 'application/strategic-merge-patch+json',
    })
  const debug = (ephemeral: object) =>
    server.request(
      'PATCH',
      `/api/v1/namespaces/${NAMESPACE}/pods/runs/ephemeralcontainers?dryRun=All`,
      { spec: { ephemeralContainers: [{ name: 'debug', image: 'busybox', ...ephemeral }] } },
      { contentType: 'application/strategic-merge-patch+json' },
    )

  it('can be labelled, also when they are older than the fence', async () => {
    expect((await patch({ metadata: { labels: { a: 'b' } } })).status).toBe(200)
    expect((await patch({ metadata: { labels: { a: 'b' }, finalizers: [] } }, 'old', 'later')).status).toBe(200)
  })
  it('can be given another image of the app', async () => {
    expect((await patch({ spec: { containers: [{ name: 'app', image: 'localhost/app:2' }] } })).status).toBe(200)
  })
  it('cannot be given another sidecar', async () => {
    expect((await patch({ spec: { initContainers: [{ name: 'signet-proxy', image: 'evil' }] } })).text).toContain(
      'another image than the platform',
    )
    expect((await patch({ spec: { initContainers: [{ name: 'signet-redirect', image: 'evil' }] } })).text).toContain(
      'another image than the platform',
    )
  })
  it('can be debugged', async () => {
    expect((await debug({ targetContainerName: 'app', securityContext: dropped })).status).toBe(200)
  })
  it.each([
    { what: 'aimed at the sidecar', ephemeral: { targetContainerName: 'signet-proxy' } },
    { what: 'with its tokens', ephemeral: { volumeMounts: [{ name: 'signet-tokens', mountPath: '/x' }] } },
    { what: 'as its user', ephemeral: { securityContext: { runAsUser: 15065, ...dropped } } },
    {
      what: 'with SYS_PTRACE',
      ephemeral: { securityContext: { capabilities: { add: ['SYS_PTRACE'], drop: ['ALL'] } } },
    },
    { what: 'with NET_ADMIN', ephemeral: { securityContext: { capabilities: { add: ['NET_ADMIN'], drop: ['ALL'] } } } },
    { what: 'privileged', ephemeral: { securityContext: { privileged: true, ...dropped } } },
    { what: 'with the NET_RAW of its runtime', ephemeral: { securityContext: {} } },
  ])('cannot be debugged $what', async ({ ephemeral }) => {
    const { status, text } = await debug({ securityContext: dropped, ...ephemeral })
    expect(text).toContain('an ephemeral container may not')
    expect(status).toBe(422)
  })
  it('gives nobody a shell in the sidecar', async () => {
    for (const [container, subresource] of [
      ['signet-proxy', 'exec'],
      ['signet-redirect', 'exec'],
      ['signet-proxy', 'attach'],
    ]) {
      const { status, text } = await server.request(
        'POST',
        `/api/v1/namespaces/${NAMESPACE}/pods/runs/${subresource}?container=${container}&command=sh&stdout=true`,
      )
      expect(text).toContain('nobody gets a shell in the sidecar')
      expect(status).toBe(422)
    }
    // The pod is on no node: what the API server says then shows that the fence let it pass.
    const { text } = await server.request(
      'POST',
      `/api/v1/namespaces/${NAMESPACE}/pods/runs/exec?container=app&command=sh&stdout=true`,
    )
    expect(text).not.toContain('Signet')
  })
  it('keeps the sidecar its resources; other containers may be resized', async () => {
    const path = `/api/v1/namespaces/${NAMESPACE}/pods/runs`
    const current = (await server.request('GET', path)).json<Loose>()
    const resized = async (list: 'containers' | 'initContainers', name: string, resources: object | undefined) => {
      const next: Loose = structuredClone(current)
      next.spec[list].find((c: Loose) => c.name === name).resources = resources
      return server.request('PUT', `${path}/resize?dryRun=All`, next)
    }
    const fenced = "the sidecar's resources are the platform's"
    const small = { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '16Mi' } }
    // Each policy comes into force by itself, within a second or so.
    await expect.poll(async () => (await resized('initContainers', 'signet-proxy', small)).status).toBe(422)
    for (const resources of [small, { requests: { cpu: '100m', memory: '160Mi' }, limits: { memory: '600Mi' } }]) {
      const answer = await resized('initContainers', 'signet-proxy', resources)
      expect([answer.status, answer.text]).toEqual([422, expect.stringContaining(fenced)])
    }
    const same = await server.request('PUT', `${path}/resize?dryRun=All`, current)
    expect([same.status, same.text]).toEqual([200, expect.not.stringContaining(fenced)])
    // What the API server itself says of it (no kubelet has set its resources yet) is not the fence's word.
    const other = await resized('containers', 'app', { requests: { cpu: '200m' } })
    expect(other.text).not.toContain('Signet')
  })
  it('can be deleted', async () => {
    expect(
      (await server.request('DELETE', `/api/v1/namespaces/${NAMESPACE}/pods/runs?gracePeriodSeconds=0`)).status,
    ).toBe(200)
  })
})

describe('what the fence costs', () => {
  it('is within the budget for a big pod', async () => {
    const many = Array.from({ length: 24 }, (_, index) =>
      container({
        name: `c${index}`,
        ports: [{ name: `p${index}`, containerPort: 9000 + index }],
        env: Array.from({ length: 200 }, (_, n) => ({ name: `N${n}`, value: 'x'.repeat(200) })),
        volumeMounts: Array.from({ length: 30 }, (_, n) => ({ name: `v${n}`, mountPath: `/mnt/${n}` })),
      }),
    )
    const volumes = Array.from({ length: 30 }, (_, n) => ({ name: `v${n}`, emptyDir: {} }))
    const answer = await create(
      injected({
        metadata: { name: 'big', annotations: { 'signet.dev/port': 'p0' } },
        spec: { containers: many, volumes },
      }),
    )
    expect(answer.text).not.toContain('budget')
    expect(answer.status).toBe(201)
  })
})

it('refuses all pods while its parameters are not there', async () => {
  await server.request('DELETE', '/api/v1/namespaces/signet-system/configmaps/signet-fence')
  let answer = await create(injected())
  for (let i = 0; i < 50 && answer.status === 201; i++) {
    await sleep(200)
    answer = await create(injected())
  }
  expect(answer.status).toBeGreaterThanOrEqual(403)
  expect(answer.text).toContain("Policy 'signet-fence'")
})
