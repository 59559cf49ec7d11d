// Golden files are files; the code under test reads none.
// oxlint-disable-next-line no-restricted-imports
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseAllDocuments, stringify } from 'yaml'
import { describe, expect, it } from 'vitest'
import { parseAppProbes } from './app-probes.fixture.ts'
import { container, pod, requiredSettings, settings } from './injection.fixture.ts'
import { injectPod } from './inject.ts'
import { ADMIN_PORT, ANNOTATIONS, PROXY_PORT, SIDECAR, VOLUMES } from './names.ts'
import { applyPatch } from './patch.fixture.ts'
import { readPod, type Container, type PodObject } from './pod.ts'
import { parseInjectionTemplate, templateHash, type InjectionSettings } from './settings.ts'

const FOLDER = path.join(import.meta.dirname, 'fixtures')
const names = readdirSync(FOLDER)
  .filter((file) => file.endsWith('.in.yaml'))
  .map((file) => file.slice(0, -'.in.yaml'.length))

function load(name: string): { pod: PodObject; settings: InjectionSettings } {
  const [change, given] = parseAllDocuments(readFileSync(path.join(FOLDER, `${name}.in.yaml`), 'utf8')).map(
    (document) => document.toJS() as object,
  )
  return { pod: readPod(given), settings: settings(change) }
}

function sidecar({ spec }: PodObject): Container {
  const found = spec.initContainers?.find(({ name }) => name === SIDECAR)
  if (found === undefined) throw new Error('there is no sidecar')
  return found
}
const envOf = (container: Container | undefined, name: string): string | undefined =>
  container?.env?.find((each) => each.name === name)?.value

describe.each(names)('%s', (name) => {
  const { pod, settings } = load(name)
  const injected = injectPod(pod, settings)

  it('becomes what it should', async () => {
    const { eligibility, warnings } = injected
    const shown = `${stringify({ ...eligibility, warnings }, { lineWidth: 0 })}---\n${stringify(injected.pod, { lineWidth: 0, aliasDuplicateObjects: false })}`
    await expect(shown).toMatchFileSnapshot(path.join(FOLDER, `${name}.out.yaml`))
  })
  it('is not changed by being injected again', () => {
    expect(injectPod(injected.pod, settings)).toMatchObject({ patch: [], pod: injected.pod })
  })
  it('is what its patch makes of it', () => {
    expect(applyPatch(pod, injected.patch)).toEqual(injected.pod)
  })
  it('is the same whichever settings it was injected with before', () => {
    const former = injectPod(pod, {
      template: {
        ...settings.template,
        capture: 'redirect',
        drainMs: 1_000,
        images: { proxy: 'old', redirect: 'old' },
      },
      namespace: { ...settings.namespace, labels: { ...settings.namespace.labels, 'signet.dev/required': 'true' } },
    })
    if (injected.eligibility.verdict !== 'inject') return
    expect(injectPod(former.pod, settings).pod).toEqual(injected.pod)
  })
  it('gives the proxy probes that it takes', () => {
    if (injected.eligibility.verdict !== 'inject') return
    expect(() => parseAppProbes(envOf(sidecar(injected.pod), 'SIGNET_PROBES'))).not.toThrow()
  })
})

it('changes nothing of what it is given', () => {
  const before = pod({ spec: { containers: [container({ livenessProbe: { httpGet: { port: 'http' } } })] } })
  const copy = structuredClone(before)
  injectPod(before, requiredSettings())
  injectPod(before, settings())
  expect(before).toEqual(copy)
})

describe('again, after others', () => {
  it('keeps what they put into the pod and takes back its own place', () => {
    const first = injectPod(pod(), settings()).pod
    const changed: PodObject = {
      ...first,
      spec: {
        ...first.spec,
        initContainers: [{ name: 'first', image: 'x' }, ...(first.spec.initContainers ?? [])],
        volumes: [...(first.spec.volumes ?? []), { name: 'theirs' }],
      },
    }
    const again = injectPod(changed, settings()).pod
    expect(again.spec.initContainers?.map(({ name }) => name)).toEqual([SIDECAR, 'first'])
    expect(again.spec.volumes?.map(({ name }) => name)).toEqual([...Object.values(VOLUMES), 'theirs'])
  })

  it('keeps mounts below /var/run/secrets and variables of clouds, and nothing else, in the sidecar', () => {
    const first = injectPod(pod(), settings()).pod
    const api = { name: 'kube-api-access', mountPath: '/var/run/secrets/kubernetes.io/serviceaccount', readOnly: true }
    const changed = structuredClone(first)
    const proxy = sidecar(changed)
    proxy.volumeMounts?.push(api, { name: 'code', mountPath: '/app' }, { name: 'w', mountPath: '/var/run/secrets/w' })
    proxy.env?.push({ name: 'AWS_ROLE_ARN', value: 'arn' }, { name: 'NODE_OPTIONS', value: '--import=evil' })
    const again = sidecar(injectPod(changed, settings()).pod)
    expect(again.volumeMounts?.slice(3)).toEqual([api])
    expect(again.env?.slice((sidecar(first).env ?? []).length)).toEqual([{ name: 'AWS_ROLE_ARN', value: 'arn' }])
  })

  it('leaves a probe that somebody has changed since', () => {
    const first = injectPod(
      pod({ spec: { containers: [container({ livenessProbe: { httpGet: { port: 'http', path: '/old' } } })] } }),
      requiredSettings(),
    ).pod
    const changed: PodObject = structuredClone(first)
    changed.spec.containers[0] = { ...container(), livenessProbe: { httpGet: { port: 8080, path: '/new' } } }
    const again = injectPod(changed, requiredSettings()).pod
    expect(parseAppProbes(envOf(sidecar(again), 'SIGNET_PROBES'))).toMatchObject({
      'app/livenessProbe': { httpGet: { path: '/new' } },
    })
  })

  it('knows what a mesh asks it, when the mesh has taken the probe over', () => {
    const first = injectPod(
      pod({ spec: { containers: [container({ livenessProbe: { httpGet: { port: 'http', path: '/health' } } })] } }),
      requiredSettings(),
    ).pod
    const meshed: PodObject = structuredClone(first)
    meshed.spec.containers[0] = {
      ...container(),
      livenessProbe: { httpGet: { port: 15_020, path: '/app-health/app/livez' } },
    }
    meshed.spec.containers.push({ name: 'istio-proxy', image: 'istio' })
    const again = injectPod(meshed, requiredSettings()).pod
    expect(again.spec.containers[0]?.livenessProbe?.httpGet?.port).toBe(15_020)
    expect(parseAppProbes(envOf(sidecar(again), 'SIGNET_PROBES'))).toMatchObject({
      'app/livenessProbe': { httpGet: { path: '/health', port: 8080 } },
    })
    expect(injectPod(again, requiredSettings()).patch).toEqual([])
  })

  it.each([
    '{',
    '[]',
    '{"version":1}',
    '{"version":2,"gracePeriodSeconds":1,"portNames":{},"handlers":{}}',
    '{"version":1,"gracePeriodSeconds":null,"portNames":{"app/8080":5},"handlers":{}}',
  ])('is not led astray by a forged note: %s', (note) => {
    const forged = pod({ metadata: { annotations: { [ANNOTATIONS.original]: note } } })
    expect(injectPod(forged, settings()).pod).toEqual(injectPod(pod({ metadata: { annotations: {} } }), settings()).pod)
  })
})

describe('annotations narrow only', () => {
  const wide = settings({ template: { mode: 'shadow' }, namespace: { tenants: ['payments', 'payments-eu'] } })
  it.each([
    { key: 'tenant', value: 'payments-eu', variable: 'SIGNET_TENANT', want: 'payments-eu', wantWarning: false },
    { key: 'tenant', value: 'others', variable: 'SIGNET_TENANT', want: 'payments', wantWarning: true },
    { key: 'producer-id', value: 'payments/x', variable: 'SIGNET_PRODUCER_ID', want: 'payments/x', wantWarning: false },
    {
      key: 'producer-id',
      value: 'payments',
      variable: 'SIGNET_PRODUCER_ID',
      want: 'payments/default',
      wantWarning: true,
    },
    {
      key: 'producer-id',
      value: 'payments/',
      variable: 'SIGNET_PRODUCER_ID',
      want: 'payments/default',
      wantWarning: true,
    },
    {
      key: 'producer-id',
      value: 'payments/a b',
      variable: 'SIGNET_PRODUCER_ID',
      want: 'payments/default',
      wantWarning: true,
    },
    {
      key: 'producer-id',
      value: 'payments/$(PATH)',
      variable: 'SIGNET_PRODUCER_ID',
      want: 'payments/$$(PATH)',
      wantWarning: false,
    },
    {
      key: 'producer-id',
      value: 'payments-2/x',
      variable: 'SIGNET_PRODUCER_ID',
      want: 'payments/default',
      wantWarning: true,
    },
    { key: 'mode', value: 'enforce', variable: 'SIGNET_MODE', want: 'enforce', wantWarning: false },
    { key: 'mode', value: 'off', variable: 'SIGNET_MODE', want: 'shadow', wantWarning: true },
    { key: 'mode', value: 'shadow', variable: 'SIGNET_MODE', want: 'shadow', wantWarning: false },
  ])('$key: $value', ({ key, value, variable, want, wantWarning }) => {
    const { pod: injected, warnings } = injectPod(
      pod({ metadata: { annotations: { [`signet.dev/${key}`]: value } } }),
      wide,
    )
    expect(envOf(sidecar(injected), variable)).toBe(want)
    expect(warnings.some((warning) => warning.includes(`signet.dev/${key} is ignored`))).toBe(wantWarning)
  })
})

describe('who is injected', () => {
  it.each([
    { what: 'the namespace asks', labels: { 'signet.dev/inject': 'enabled' }, metadata: {}, want: 'inject' },
    { what: 'nobody asks', labels: {}, metadata: {}, want: 'skip' },
    {
      what: 'the pod asks by label',
      labels: {},
      metadata: { labels: { 'signet.dev/inject': 'enabled' } },
      want: 'inject',
    },
    {
      what: 'the pod asks by annotation',
      labels: {},
      metadata: { annotations: { 'signet.dev/inject': 'enabled' } },
      want: 'inject',
    },
    {
      what: 'the pod declines',
      labels: { 'signet.dev/inject': 'enabled' },
      metadata: { annotations: { 'signet.dev/inject': 'disabled' } },
      want: 'skip',
    },
    {
      what: 'no pod declines where it is required',
      labels: { 'signet.dev/required': 'true' },
      metadata: { annotations: { 'signet.dev/inject': 'disabled' } },
      want: 'inject',
    },
    {
      what: 'a mirror pod',
      labels: { 'signet.dev/required': 'true' },
      metadata: { annotations: { 'kubernetes.io/config.mirror': 'x' } },
      want: 'exempt',
    },
  ])('$what: $want', ({ labels, metadata, want }) => {
    expect(injectPod(pod({ metadata }), settings({ namespace: { labels } })).eligibility.verdict).toBe(want)
  })
  it.each([{ hostNetwork: true }, { hostPID: true }, { shareProcessNamespace: true }, { os: { name: 'windows' } }])(
    '%j: refused with a reason',
    (spec) => {
      const given = pod({ spec })
      const { pod: same, patch, warnings, eligibility } = injectPod(given, settings())
      expect(eligibility.verdict).toBe('refuse')
      expect({ same, patch }).toEqual({ same: given, patch: [] })
      expect(warnings).toHaveLength(1)
    },
  )
  it('kube-system is exempt', () => {
    expect(injectPod(pod(), requiredSettings({ name: 'kube-system' })).eligibility.verdict).toBe('exempt')
  })
})

it('leaves the application its whole grace period', () => {
  for (const [own, want] of [
    [undefined, 45],
    [0, 15],
    [300, 315],
  ] as const) {
    const { pod: injected } = injectPod(
      pod({ spec: own === undefined ? {} : { terminationGracePeriodSeconds: own } }),
      settings(),
    )
    expect(injected.spec.terminationGracePeriodSeconds).toBe(want)
    expect(Number(envOf(sidecar(injected), 'SIGNET_DRAIN_MS')) * 2).toBeLessThan((want - (own ?? 30)) * 1_000)
  }
})

it('leads a Service that names the port to the sidecar, and no other name', () => {
  const { spec } = injectPod(pod({ spec: { containers: [container(), container({ name: 'b' })] } }), settings()).pod
  expect(spec.containers.flatMap(({ ports }) => ports ?? []).map(({ name }) => name)).toEqual([undefined, undefined])
  expect(spec.initContainers?.[0]?.ports?.[0]).toEqual({ name: 'http', containerPort: PROXY_PORT, protocol: 'TCP' })
})

it('lets no probe of the application at its port under redirect', () => {
  const probe = { httpGet: { port: 'http', path: '/x' } }
  const { spec } = injectPod(
    pod({
      spec: {
        containers: [
          container({
            livenessProbe: probe,
            readinessProbe: probe,
            startupProbe: probe,
            lifecycle: { postStart: probe, preStop: probe },
          }),
        ],
      },
    }),
    requiredSettings(),
  ).pod
  const [app] = spec.containers
  for (const handler of [
    app?.livenessProbe,
    app?.readinessProbe,
    app?.startupProbe,
    app?.lifecycle?.postStart,
    app?.lifecycle?.preStop,
  ])
    expect(handler?.httpGet?.port).toBe(ADMIN_PORT)
})

describe('the hash', () => {
  const first = templateHash(settings())
  it('is in the annotation and stays', () => {
    expect(injectPod(pod(), settings()).pod.metadata?.annotations?.[ANNOTATIONS.injected]).toBe(first)
    expect(templateHash(settings({ namespace: { labels: { more: 'x' } } }))).toBe(first)
  })
  it.each([
    { change: { template: { mode: 'shadow' as const } } },
    { change: { template: { trustCa: '-----BEGIN CERTIFICATE-----\nother' } } },
    { change: { namespace: { region: 'eu' } } },
    { change: { namespace: { passthroughPorts: [1] } } },
  ])('changes with $change', ({ change }) => expect(templateHash(settings(change))).not.toBe(first))
})

describe('settings that cannot be used', () => {
  const { template } = settings()
  it.each([
    { value: null, want: 'must be object' },
    { value: { ...template, version: 2 }, want: '/version' },
    { value: { ...template, ledgerUrl: 'http://ledger' }, want: '/ledgerUrl' },
    { value: { ...template, bundlesUrl: 'https://operator/path' }, want: '/bundlesUrl' },
    { value: { ...template, trustCa: '' }, want: '/trustCa' },
    { value: { ...template, env: { SIGNET_MODE: 'off' } }, want: '/env' },
    { value: { ...template, env: { NODE_OPTIONS: 'x' } }, want: '/env' },
    { value: { ...template, more: 1 }, want: '/more' },
    { value: { ...template, resources: { limits: { memory: 'much' } } }, want: '/resources' },
  ])('$want', ({ value, want }) => expect(() => parseInjectionTemplate(value)).toThrow(want))
  it('takes those of the chart', () =>
    expect(parseInjectionTemplate({ ...template, env: { SIGNET_LOG_LEVEL: 'debug' } })).toBeTruthy())
})

describe('what is no pod', () => {
  it.each([
    null,
    1,
    [],
    {},
    { spec: {} },
    { spec: { containers: [] } },
    { spec: { containers: [{}] } },
    { spec: { containers: [{ name: 'a', ports: [{ containerPort: 0 }] }] } },
    { spec: { containers: [{ name: 'a', env: [null] }] } },
    { metadata: { labels: { a: 1 } }, spec: { containers: [{ name: 'a' }] } },
  ])('%j is refused', (value) => expect(() => readPod(value)).toThrow('not a pod'))
  it('takes null where nothing is meant', () => {
    expect(
      readPod({
        metadata: { creationTimestamp: null },
        spec: { containers: [{ name: 'a', ports: null }] },
        status: null,
      }),
    ).toEqual({
      metadata: {},
      spec: { containers: [{ name: 'a' }] },
    })
  })
})
