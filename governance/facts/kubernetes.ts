import { SignetError } from '#core/error/signet-error.ts'
import type { JsonObject } from '#core/json/value.ts'
import type { KubernetesApi } from '#runtime/kubernetes/api.ts'

type Members = Readonly<Record<string, unknown>>
/** What is read of one namespace, as the API server has it. */
export type NamespaceObjects = {
  readonly name: string
  readonly namespace: Members
  readonly pods: readonly Members[]
  readonly deployments: readonly Members[]
  readonly networkPolicies: readonly Members[]
  readonly serviceAccounts: readonly Members[]
}

/** Of a kind in a namespace: more are not looked at, and then nothing is said. */
export const MAX_OBJECTS = 2_000
const MAX_EXAMPLES = 10
const MAX_IMAGES = 200
const MAX_LABELS = 64
const POD_SECURITY = 'pod-security.kubernetes.io/enforce'

/** @throws SignetError KUBERNETES_UNAVAILABLE, KUBERNETES_REFUSED (a right is missing, or there is too much) */
export async function gatherNamespaces(
  api: KubernetesApi,
  names: readonly string[],
  signal: AbortSignal,
): Promise<NamespaceObjects[]> {
  const gathered: NamespaceObjects[] = []
  for (const name of names) {
    const namespace = await api.getNamespace(name)
    if (namespace === null) throw new SignetError('KUBERNETES_REFUSED', `there is no namespace ${name}`)
    const list = (kind: Parameters<KubernetesApi['listObjects']>[0]): Promise<Members[]> =>
      api.listObjects(kind, name, { max: MAX_OBJECTS, signal })
    // One after the other: what is held of them at a time is little, and the API server is other people's too.
    gathered.push({
      name,
      namespace,
      pods: await list('pods'),
      deployments: await list('deployments'),
      networkPolicies: await list('networkpolicies'),
      serviceAccounts: await list('serviceaccounts'),
    })
  }
  return gathered
}

type Container = { readonly at: string; readonly own: Members; readonly pod: Members }
type Pod = { readonly at: string; readonly spec: Members; readonly accounts: ReadonlyMap<string, Members> }

/** What counts as a container that …, after the Pod Security Standards. What is not said counts as the worse. */
const CONTAINER_CHECKS: Readonly<Record<string, (container: Container) => boolean>> = {
  privileged: ({ own }) => contextOf(own)['privileged'] === true,
  may_run_as_root: (container) => !isNonRoot(container),
  may_escalate: ({ own }) => contextOf(own)['allowPrivilegeEscalation'] !== false,
  adds_capabilities: ({ own }) =>
    listOf(membersOf(contextOf(own)['capabilities'])['add']).some((one) => one !== 'NET_BIND_SERVICE'),
  keeps_capabilities: ({ own }) => !listOf(membersOf(contextOf(own)['capabilities'])['drop']).includes('ALL'),
  writable_root: ({ own }) => contextOf(own)['readOnlyRootFilesystem'] !== true,
  without_seccomp: (container) => {
    const { type } = membersOf(effective(container, 'seccompProfile'))
    return type !== 'RuntimeDefault' && type !== 'Localhost'
  },
  without_memory_limit: ({ own }) => membersOf(membersOf(own['resources'])['limits'])['memory'] === undefined,
  without_digest: ({ own }) => !/@sha256:[0-9a-f]{64}$/.test(textOf(own['image'])),
}

const POD_CHECKS: Readonly<Record<string, (pod: Pod) => boolean>> = {
  host_namespaces: ({ spec }) => ['hostNetwork', 'hostPID', 'hostIPC'].some((name) => spec[name] === true),
  host_paths: ({ spec }) => listOf(spec['volumes']).some((volume) => membersOf(volume)['hostPath'] !== undefined),
  default_service_account: ({ spec }) => ['', 'default'].includes(textOf(spec['serviceAccountName'])),
  with_api_token: ({ spec, accounts }) => {
    const account = accounts.get(textOf(spec['serviceAccountName']) || 'default')
    return (spec['automountServiceAccountToken'] ?? account?.['automountServiceAccountToken'] ?? true) === true
  },
}

const DEPLOYMENT_CHECKS: Readonly<Record<string, (deployment: Members) => boolean>> = {
  single_replica: (deployment) => Number(membersOf(deployment['spec'])['replicas'] ?? 1) < 2,
}

const NAMESPACE_CHECKS: Readonly<Record<string, (all: NamespaceObjects) => boolean>> = {
  without_default_deny: ({ networkPolicies }) => !networkPolicies.some(deniesIngress),
  without_pod_security: ({ namespace }) =>
    !['baseline', 'restricted'].includes(textOf(labelsOf(namespace)[POD_SECURITY])),
}

/** Counts over all that was read, a few names of what is counted, images, and each namespace's labels; docs/scans.md has them. */
export function kubernetesFacts(all: readonly NamespaceObjects[]): JsonObject {
  const examples: Record<string, string[]> = {}
  const count = <T>(
    checks: Readonly<Record<string, (one: T) => boolean>>,
    things: readonly T[],
    at: (one: T) => string,
  ) =>
    Object.fromEntries(
      Object.entries(checks).map(([name, holds]) => {
        const found = things.filter(holds)
        examples[name] = found.slice(0, MAX_EXAMPLES).map(at)
        return [name, found.length] as const
      }),
    )
  const pods = all.flatMap(podsOf)
  const containers = pods.flatMap(containersOf)
  const deployments = all.flatMap((one) => one.deployments.map((own) => ({ at: `${one.name}/${nameOf(own)}`, own })))
  const images = [...new Set(containers.map(({ own }) => textOf(own['image'])))].sort()
  const digests = [...new Set(all.flatMap(({ pods: some }) => some.flatMap(digestsOf)))].sort()
  return {
    namespaces: { total: all.length, ...count(NAMESPACE_CHECKS, all, ({ name }) => name) },
    pods: { total: pods.length, ...count(POD_CHECKS, pods, ({ at }) => at) },
    containers: { total: containers.length, ...count(CONTAINER_CHECKS, containers, ({ at }) => at) },
    deployments: {
      total: deployments.length,
      ...count(
        Object.fromEntries(
          Object.entries(DEPLOYMENT_CHECKS).map(([name, holds]) => [name, ({ own }: { own: Members }) => holds(own)]),
        ),
        deployments,
        ({ at }) => at,
      ),
    },
    service_accounts: { total: all.reduce((sum, { serviceAccounts }) => sum + serviceAccounts.length, 0) },
    network_policies: { total: all.reduce((sum, { networkPolicies }) => sum + networkPolicies.length, 0) },
    images: images.slice(0, MAX_IMAGES),
    digests: digests.slice(0, MAX_IMAGES),
    labels: Object.fromEntries(all.map(({ name, namespace }) => [name, labelsOf(namespace)])),
    examples,
  }
}

function podsOf({ name, pods, serviceAccounts }: NamespaceObjects): Pod[] {
  const accounts = new Map(serviceAccounts.map((account) => [nameOf(account), account]))
  return pods.map((pod) => ({ at: `${name}/${nameOf(pod)}`, spec: membersOf(pod['spec']), accounts }))
}

function containersOf({ at, spec }: Pod): Container[] {
  return ['initContainers', 'containers', 'ephemeralContainers'].flatMap((kind) =>
    listOf(spec[kind])
      .map(membersOf)
      .map((own) => ({ at: `${at}/${textOf(own['name'])}`, own, pod: spec })),
  )
}

/** What the nodes say that they run. */
function digestsOf(pod: Members): string[] {
  const status = membersOf(pod['status'])
  return ['initContainerStatuses', 'containerStatuses']
    .flatMap((kind) => listOf(status[kind]))
    .flatMap((one) => /sha256:[0-9a-f]{64}$/.exec(textOf(membersOf(one)['imageID']))?.[0] ?? [])
}

function isNonRoot(container: Container): boolean {
  const user = effective(container, 'runAsUser')
  if (typeof user === 'number') return user > 0
  return effective(container, 'runAsNonRoot') === true
}

/** Of the container, or else of its pod. */
function effective({ own, pod }: Container, name: string): unknown {
  return contextOf(own)[name] ?? contextOf(pod)[name]
}

/** Whether it selects every pod, and lets nothing in: what others allow is then all that is. */
function deniesIngress(policy: Members): boolean {
  const { podSelector, policyTypes, ingress } = membersOf(policy['spec'])
  const types = listOf(policyTypes)
  return (
    Object.values(membersOf(podSelector)).every(
      (part) => Object.keys(membersOf(part)).length === 0 && listOf(part).length === 0,
    ) &&
    (types.length === 0 || types.includes('Ingress')) &&
    listOf(ingress).length === 0
  )
}

function labelsOf(object: Members): Record<string, string> {
  const labels = Object.entries(membersOf(membersOf(object['metadata'])['labels']))
  return Object.fromEntries(labels.slice(0, MAX_LABELS).map(([name, value]) => [name, textOf(value)]))
}

function nameOf(object: Members): string {
  return textOf(membersOf(object['metadata'])['name'])
}

function contextOf(holder: Members): Members {
  return membersOf(holder['securityContext'])
}

function membersOf(value: unknown): Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : {}
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, 500) : ''
}
