import { describe, expect, it } from 'vitest'
import { kubernetesFacts, type NamespaceObjects } from './kubernetes.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const GOOD = {
  name: 'app',
  image: `registry.example/app@${DIGEST}`,
  resources: { limits: { memory: '64Mi' } },
  securityContext: {
    runAsNonRoot: true,
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] },
    seccompProfile: { type: 'RuntimeDefault' },
  },
}
const withContext = (more: object): object => ({ ...GOOD, securityContext: { ...GOOD.securityContext, ...more } })

function namespace(more: Partial<NamespaceObjects> = {}): NamespaceObjects {
  return { name: 'shop', namespace: {}, pods: [], deployments: [], networkPolicies: [], serviceAccounts: [], ...more }
}
const podOf = (spec: object, name = 'api-0'): Record<string, unknown> => ({ metadata: { name }, spec })
type Facts = Record<string, Record<string, number>> & { examples: Record<string, string[]> }
const factsOf = (...all: NamespaceObjects[]): Facts => kubernetesFacts(all) as unknown as Facts
/** Checks that count something, by name. */
const counted = (counts: Record<string, number> = {}): string[] =>
  Object.entries(counts)
    .filter(([name, count]) => name !== 'total' && count > 0)
    .map(([name]) => name)

describe('a container', () => {
  it.each([
    { what: 'as it should be', container: GOOD, want: [] },
    {
      what: 'of which nothing is said',
      container: { name: 'app', image: 'app:1' },
      want: [
        'may_run_as_root',
        'may_escalate',
        'keeps_capabilities',
        'writable_root',
        'without_seccomp',
        'without_memory_limit',
        'without_digest',
      ],
    },
    { what: 'privileged', container: withContext({ privileged: true }), want: ['privileged'] },
    { what: 'as root, whatever else it says', container: withContext({ runAsUser: 0 }), want: ['may_run_as_root'] },
    {
      what: 'with more rights',
      container: withContext({ capabilities: { drop: ['ALL'], add: ['SYS_ADMIN'] } }),
      want: ['adds_capabilities'],
    },
    {
      what: 'without seccomp',
      container: withContext({ seccompProfile: { type: 'Unconfined' } }),
      want: ['without_seccomp'],
    },
    { what: 'by a tag', container: { ...GOOD, image: 'app:1' }, want: ['without_digest'] },
    { what: 'by half a digest', container: { ...GOOD, image: 'app@sha256:abc' }, want: ['without_digest'] },
  ])('$what', ({ container, want }) => {
    for (const kind of ['containers', 'initContainers', 'ephemeralContainers']) {
      const facts = factsOf(namespace({ pods: [podOf({ [kind]: [container] })] }))
      expect([kind, counted(facts['containers'])]).toEqual([kind, want])
      expect(facts['containers']?.['total']).toBe(1)
      for (const name of want) expect(facts.examples[name]).toEqual(['shop/api-0/app'])
    }
  })
  it('has what its pod has, unless it says otherwise', () => {
    const { runAsNonRoot: _, seccompProfile: __, ...rest } = GOOD.securityContext
    const container = { ...GOOD, securityContext: rest }
    const securityContext = { runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } }
    const facts = factsOf(
      namespace({ pods: [podOf({ securityContext, containers: [container, withContext({ runAsUser: 0 })] })] }),
    )
    expect(counted(facts['containers'])).toEqual(['may_run_as_root'])
    expect(facts['containers']?.['may_run_as_root']).toBe(1)
  })
})

describe('a pod', () => {
  const accounts = [
    { metadata: { name: 'quiet' }, automountServiceAccountToken: false },
    { metadata: { name: 'loud' } },
  ]
  it.each([
    { what: 'of its own account, without a token', spec: { serviceAccountName: 'quiet' }, want: [] },
    { what: 'that mounts a token', spec: { serviceAccountName: 'loud' }, want: ['with_api_token'] },
    {
      what: 'that does not, whatever its account says',
      spec: { serviceAccountName: 'loud', automountServiceAccountToken: false },
      want: [],
    },
    { what: 'of no account', spec: {}, want: ['default_service_account', 'with_api_token'] },
    {
      what: 'on the host’s network',
      spec: { serviceAccountName: 'quiet', hostNetwork: true },
      want: ['host_namespaces'],
    },
    {
      what: 'with a path of the host',
      spec: { serviceAccountName: 'quiet', volumes: [{ name: 'v', hostPath: { path: '/' } }] },
      want: ['host_paths'],
    },
  ])('$what', ({ spec, want }) => {
    expect(counted(factsOf(namespace({ pods: [podOf(spec)], serviceAccounts: accounts }))['pods'])).toEqual(want)
  })
})

describe('a namespace', () => {
  const deny = { metadata: { name: 'deny' }, spec: { podSelector: {}, policyTypes: ['Ingress'] } }
  const restricted = { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } } }
  it.each([
    { what: 'as it should be', object: restricted, policies: [deny], want: [] },
    { what: 'without anything', object: {}, policies: [], want: ['without_default_deny', 'without_pod_security'] },
    {
      what: 'that allows everything',
      object: restricted,
      policies: [{ spec: { podSelector: {}, policyTypes: ['Ingress'], ingress: [{}] } }],
      want: ['without_default_deny'],
    },
    {
      what: 'that denies what leaves alone',
      object: restricted,
      policies: [{ spec: { podSelector: {}, policyTypes: ['Egress'] } }],
      want: ['without_default_deny'],
    },
    {
      what: 'that denies some pods alone',
      object: restricted,
      policies: [{ spec: { podSelector: { matchLabels: { app: 'api' } }, policyTypes: ['Ingress'] } }],
      want: ['without_default_deny'],
    },
    {
      what: 'that denies some pods alone, by an expression',
      object: restricted,
      policies: [{ spec: { podSelector: { matchExpressions: [{ key: 'app', operator: 'Exists' }] } } }],
      want: ['without_default_deny'],
    },
    {
      what: 'that enforces nothing',
      object: { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'privileged' } } },
      policies: [deny],
      want: ['without_pod_security'],
    },
  ])('$what', ({ object, policies, want }) => {
    const facts = factsOf(namespace({ namespace: object, networkPolicies: policies }))
    expect(counted(facts['namespaces'])).toEqual(want)
  })
})

it('counts over all namespaces, with images, digests and labels', () => {
  const running = {
    ...podOf({ containers: [GOOD] }),
    status: { containerStatuses: [{ imageID: `registry.example/app@${DIGEST}` }] },
  }
  const facts = kubernetesFacts([
    namespace({ pods: [running], deployments: [{ metadata: { name: 'api' }, spec: { replicas: 1 } }] }),
    namespace({
      name: 'web',
      namespace: { metadata: { labels: { team: 'web' } } },
      pods: [podOf({ containers: [{ name: 'a', image: 'b:1' }] })],
      deployments: [{ metadata: { name: 'web' }, spec: { replicas: 3 } }],
    }),
  ])
  expect(facts).toMatchObject({
    namespaces: { total: 2 },
    pods: { total: 2 },
    containers: { total: 2, without_digest: 1 },
    deployments: { total: 2, single_replica: 1 },
    images: ['b:1', GOOD.image],
    digests: [DIGEST],
    labels: { shop: {}, web: { team: 'web' } },
  })
})
it('of objects that are not what they should be says something all the same', () => {
  const odd = [
    {},
    { spec: null },
    { spec: { containers: 'x' } },
    { spec: { containers: [null, 1, { securityContext: [] }] } },
  ]
  const facts = factsOf(
    namespace({ pods: odd, networkPolicies: [{}, { spec: 1 }], serviceAccounts: [{}], deployments: [{}] }),
  )
  expect(facts['pods']?.['total']).toBe(4)
  expect(facts['containers']?.['may_run_as_root']).toBe(3)
})
