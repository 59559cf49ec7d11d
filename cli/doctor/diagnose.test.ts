import { describe, expect, it } from 'vitest'
import { injectPod } from '#core/injection/inject.ts'
import { namespaceFacts, type InjectionTemplate } from '#core/injection/settings.ts'
import type { PodObject } from '#core/injection/pod.ts'
import { diagnose } from '../commands/doctor.ts'
import { restarts } from './report.ts'
import type { ObservedPod, ObservedRule, Snapshot } from './snapshot.ts'

const CA = '-----BEGIN CERTIFICATE-----\nMIIBtestauthority\n-----END CERTIFICATE-----\n'
const FORMER_CA = '-----BEGIN CERTIFICATE-----\nMIIBformer\n-----END CERTIFICATE-----\n'
const template: Omit<InjectionTemplate, 'trustCa'> = {
  version: 1,
  images: { proxy: 'ghcr.io/signet-dev/signet-proxy:0.1.0', redirect: 'ghcr.io/signet-dev/signet-redirect:0.1.0' },
  ledgerUrl: 'https://signet-ledger.signet-system.svc:8090',
  bundlesUrl: 'https://signet-operator.signet-system.svc:8443',
}
const namespaceMap = { version: 1 as const, namespaces: {} }
const LABELS: Record<string, Record<string, string>> = {
  shop: { 'signet.dev/inject': 'enabled' },
  bank: { 'signet.dev/required': 'true' },
  calm: {},
}

function bare(
  name: string,
  change: { labels?: Record<string, string>; annotations?: Record<string, string>; spec?: object } = {},
): PodObject {
  const labels = { app: name, 'pod-template-hash': '7d9f', ...change.labels }
  const containers = [{ name: 'app', image: 'app:1', ports: [{ name: 'http', containerPort: 8080 }] }]
  return {
    metadata: { name: `${name}-7d9f-x`, labels, annotations: change.annotations ?? {} },
    spec: { containers, ...change.spec },
  }
}

function injected(
  namespace: string,
  pod: PodObject,
  change: { trustCa?: string; labels?: Record<string, string>; template?: object } = {},
): PodObject {
  const facts = namespaceFacts(namespaceMap, { name: namespace, labels: change.labels ?? LABELS[namespace] ?? {} })
  return injectPod(pod, {
    template: { ...template, trustCa: change.trustCa ?? CA, ...change.template },
    namespace: facts,
  }).pod
}

let uids = 0
function observed(namespace: string, pod: PodObject, change: Partial<ObservedPod> = {}): ObservedPod {
  const name = pod.metadata?.name ?? ''
  const owner = { kind: 'ReplicaSet', name: name.replace(/-x$/, '') }
  return { name, namespace, uid: `uid-${(uids += 1)}`, pod, owner, phase: 'Running', sidecarReady: true, ...change }
}

function snapshot(change: Partial<Snapshot> = {}): Snapshot {
  const pods = change.pods ?? []
  return {
    now: new Date('2026-06-01T00:00:00Z'),
    operatorNamespace: 'signet-system',
    namespaces: new Map(Object.entries(LABELS)),
    pods,
    services: [],
    rules: [],
    webhooks: [
      {
        kind: 'MutatingWebhookConfiguration',
        name: 'required.inject.signet.dev',
        caBundle: Buffer.from(CA).toString('base64'),
      },
    ],
    trust: { current: CA, previous: FORMER_CA },
    certificates: [],
    template,
    namespaceMap,
    bundles: new Map(['shop', 'bank', 'calm'].map((name) => [name, '2-00000000000000aa'])),
    reports: new Map(pods.map(({ uid }) => [uid, { revision: '2-00000000000000aa', code: null, message: null }])),
    unchecked: [],
    ...change,
  }
}

const rule = (change: Partial<ObservedRule>): ObservedRule => ({
  kind: 'ComplianceRule',
  name: 'residency',
  namespace: 'shop',
  generation: 3,
  observedGeneration: 3,
  conditions: ['Accepted', 'Compiled', 'Distributed'].map((type) => ({
    type,
    status: 'True' as const,
    reason: 'Fine',
    message: '',
    lastTransitionTime: '2026-06-01T00:00:00Z',
  })),
  ...change,
})
const failing = (type: string): ObservedRule['conditions'] =>
  rule({}).conditions.map((one) =>
    one.type === type ? { ...one, status: 'False', reason: 'Why', message: 'line 3' } : one,
  )

describe('diagnose', () => {
  const cases: { name: string; snapshot: Snapshot; want: string[] }[] = [
    {
      name: 'nothing wrong',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('web')))], rules: [rule({})] }),
      want: [],
    },
    {
      name: 'no sidecar where the namespace asks for one',
      snapshot: snapshot({ pods: [observed('shop', bare('api')), observed('shop', bare('api'))] }),
      want: ['error not-injected shop deployment/api'],
    },
    {
      name: 'no sidecar where Signet is required, whatever the pod says',
      snapshot: snapshot({
        pods: [observed('bank', bare('pay', { annotations: { 'signet.dev/inject': 'disabled' } }))],
      }),
      want: ['error not-injected bank pod/pay-7d9f-x'],
    },
    {
      name: 'none wanted, none there',
      snapshot: snapshot({
        pods: [
          observed('calm', bare('plain')),
          observed('shop', bare('quiet', { annotations: { 'signet.dev/inject': 'disabled' } })),
          observed('signet-system', bare('signet-operator')),
        ],
      }),
      want: [],
    },
    {
      name: 'a pod that cannot have one',
      snapshot: snapshot({ pods: [observed('bank', bare('host', { spec: { hostNetwork: true } }))] }),
      want: ['error not-injected bank pod/host-7d9f-x'],
    },
    {
      name: 'injected with other settings',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('old'), { template: { mode: 'shadow' } }))] }),
      want: ['warning stale-injection shop pod/old-7d9f-x'],
    },
    {
      name: 'injected with the former authority',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('old'), { trustCa: FORMER_CA }))] }),
      want: ['warning stale-injection shop pod/old-7d9f-x'],
    },
    {
      name: 'named-port where Signet is required',
      snapshot: snapshot({
        pods: [observed('bank', injected('bank', bare('pay'), { labels: { 'signet.dev/inject': 'enabled' } }))],
      }),
      want: ['error weak-capture bank pod/pay-7d9f-x'],
    },
    {
      name: 'a Service by number, around the sidecar',
      snapshot: snapshot({
        pods: [observed('shop', injected('shop', bare('web')))],
        services: [
          {
            name: 'around',
            namespace: 'shop',
            selector: { app: 'web' },
            ports: [
              { port: 80, targetPort: 8080 },
              { port: 81, targetPort: 9000 },
            ],
          },
          { name: 'text', namespace: 'shop', selector: { app: 'web' }, ports: [{ port: 80, targetPort: '8080' }] },
          { name: 'by-name', namespace: 'shop', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] },
          { name: 'proxy', namespace: 'shop', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 15_080 }] },
          { name: 'none', namespace: 'shop', selector: {}, ports: [{ port: 80, targetPort: 8080 }] },
          { name: 'others', namespace: 'calm', selector: { app: 'web' }, ports: [{ port: 80, targetPort: 8080 }] },
        ],
      }),
      want: ['error numeric-target-port shop service/around', 'error numeric-target-port shop service/text'],
    },
    {
      name: 'a Service by number, where packets are redirected',
      snapshot: snapshot({
        pods: [observed('bank', injected('bank', bare('pay')))],
        services: [
          { name: 'pay', namespace: 'bank', selector: { app: 'pay' }, ports: [{ port: 80, targetPort: 8080 }] },
        ],
      }),
      want: [],
    },
    {
      name: 'a sidecar that is not ready',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('web')), { sidecarReady: false })] }),
      want: ['warning sidecar-not-ready shop pod/web-7d9f-x'],
    },
    {
      name: 'a sidecar with a former bundle',
      snapshot: snapshot({
        pods: [observed('shop', injected('shop', bare('web')), { uid: 'behind' })],
        reports: new Map([['behind', { revision: '1-0000000000000001', code: 'BUNDLE_UNTRUSTED', message: 'no' }]]),
      }),
      want: ['warning bundle-not-current shop pod/web-7d9f-x'],
    },
    {
      name: 'a sidecar that has said nothing',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('web')))], reports: new Map() }),
      want: ['warning bundle-not-current shop pod/web-7d9f-x'],
    },
    {
      name: 'a namespace without a bundle',
      snapshot: snapshot({ pods: [observed('shop', injected('shop', bare('web')))], bundles: new Map() }),
      want: ['error bundle-not-current shop pod/web-7d9f-x'],
    },
    {
      name: 'a rule that does not compile',
      snapshot: snapshot({ rules: [rule({ conditions: failing('Compiled') })] }),
      want: ['error rule-not-in-force shop compliancerule/residency'],
    },
    {
      name: 'a rule on its way',
      snapshot: snapshot({ rules: [rule({ conditions: failing('Distributed') })] }),
      want: ['warning rule-not-in-force shop compliancerule/residency'],
    },
    {
      name: 'a rule that nobody has looked at',
      snapshot: snapshot({ rules: [rule({ observedGeneration: 2 })] }),
      want: ['error rule-not-in-force shop compliancerule/residency'],
    },
    {
      name: 'webhooks with another authority, or none',
      snapshot: snapshot({
        webhooks: [
          { kind: 'MutatingWebhookConfiguration', name: 'a', caBundle: Buffer.from(FORMER_CA).toString('base64') },
          { kind: 'MutatingWebhookConfiguration', name: 'b', caBundle: '' },
          { kind: 'MutatingWebhookConfiguration', name: 'c', caBundle: Buffer.from(`\n${CA}\n`).toString('base64') },
        ],
      }),
      want: ['error webhook-ca  mutatingwebhookconfiguration/a', 'error webhook-ca  mutatingwebhookconfiguration/b'],
    },
    {
      name: 'nothing installed',
      snapshot: snapshot({ webhooks: [], trust: null, template: null }),
      want: ['error installation signet-system namespace'],
    },
    {
      name: 'what may not be read is not missed',
      snapshot: snapshot({
        webhooks: null,
        trust: null,
        template: null,
        bundles: null,
        unchecked: ['ConfigMap signet-trust: 403', 'ConfigMap signet-settings: 403'],
      }),
      want: [],
    },
  ]
  it.each(cases)('$name', ({ snapshot, want }) => {
    const found = diagnose(snapshot).map(
      ({ severity, check, namespace, object }) => `${severity} ${check} ${namespace} ${object}`,
    )
    expect(found).toEqual(want)
  })

  it('says what to restart, each once', () => {
    const owner = (kind: string, name: string): Partial<ObservedPod> => ({ owner: { kind, name } })
    const findings = diagnose(
      snapshot({
        pods: [
          observed('shop', bare('api')),
          observed('shop', bare('api')),
          observed('shop', bare('db'), owner('StatefulSet', 'db')),
          observed('shop', bare('agent'), owner('DaemonSet', 'agent')),
          observed('shop', bare('job'), owner('Job', 'job')),
          observed('shop', bare('alone'), { owner: null }),
          // A ReplicaSet without a Deployment has no such label.
          observed('shop', bare('set', { labels: { 'pod-template-hash': '' } }), owner('ReplicaSet', 'set')),
        ],
      }),
    )
    expect(restarts(findings)).toEqual([
      'kubectl delete pod alone-7d9f-x -n shop   # nothing makes it again: apply its manifest afterwards',
      'kubectl delete pod job-7d9f-x -n shop   # or let job/job end by itself',
      'kubectl delete pod set-7d9f-x -n shop',
      'kubectl rollout restart daemonset/agent -n shop',
      'kubectl rollout restart deployment/api -n shop',
      'kubectl rollout restart statefulset/db -n shop',
    ])
  })
})
