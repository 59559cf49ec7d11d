import path from 'node:path'
import type { TestNode } from '#test/support/node.ts'
import { IMAGE_TAG } from '#tools/kubernetes/images.ts'

const CHARTS = path.resolve(import.meta.dirname, '../../../charts')
export const SYSTEM = 'signet-system'
/** Who may read the ledger of tenant `payments`: a service account that the values name. */
export const AUDITOR = { namespace: 'auditing', serviceAccount: 'auditor', pod: 'desk' } as const

/** The first user of governance, whose password is in a Secret that the platform team made. */
export const GOVERNOR = {
  tenant: 'payments',
  email: 'admin@payments.example',
  password: 'correct horse battery staple',
}
const FIRST_PASSWORD = 'governance-first-password'

const VALUES = {
  'image.tag': IMAGE_TAG,
  // What is not on the node is nowhere.
  'image.pullPolicy': 'Never',
  // The node has no storage of the lasting kind.
  'trialDatabases.persistence.enabled': false,
  'governance.firstTenant.tenant': GOVERNOR.tenant,
  'governance.firstTenant.adminEmail': GOVERNOR.email,
  'governance.firstTenant.passwordSecret': FIRST_PASSWORD,
}
const AUDITORS = { [`${AUDITOR.namespace}/${AUDITOR.serviceAccount}`]: { tenant: 'payments', scopes: ['audit:read'] } }

/** The charts as a platform team installs them, with trial databases, in a namespace that enforces the restricted profile. */
export async function installPlatform(node: TestNode): Promise<void> {
  await node.createNamespace(SYSTEM, { 'pod-security.kubernetes.io/enforce': 'restricted' })
  await node.createNamespace(AUDITOR.namespace)
  await node.request('POST', `/api/v1/namespaces/${SYSTEM}/secrets`, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: FIRST_PASSWORD },
    stringData: { password: GOVERNOR.password },
  })
  await node.helm(['install', 'signet-crds', path.join(CHARTS, 'signet-crds'), '--namespace', SYSTEM, '--wait'])
  await node.helm([
    'install',
    'signet',
    path.join(CHARTS, 'signet'),
    '--namespace',
    SYSTEM,
    ...Object.entries(VALUES).flatMap(([name, value]) => ['--set', `${name}=${value}`]),
    '--set-json',
    `ledger.serviceAccounts=${JSON.stringify(AUDITORS)}`,
  ])
  for (const name of ['signet-operator', 'signet-ledger', 'signet-governance'])
    await waitForDeployment(node, SYSTEM, name, 240_000)
}

type Conditions = { conditions?: { type: string; status: string; reason?: string; message?: string }[] }
type Deployment = {
  metadata: { generation: number }
  spec: { replicas: number }
  status: Conditions & {
    observedGeneration?: number
    updatedReplicas?: number
    readyReplicas?: number
    replicas?: number
  }
}

export async function waitForDeployment(
  node: TestNode,
  namespace: string,
  name: string,
  timeoutMs = 120_000,
): Promise<void> {
  await node.waitFor(
    `deployment ${namespace}/${name} is available`,
    async () => {
      const answer = await node.request('GET', `/apis/apps/v1/namespaces/${namespace}/deployments/${name}`)
      const { metadata, spec, status } = answer.json<Deployment>()
      return (
        status.observedGeneration === metadata.generation &&
        [status.updatedReplicas, status.readyReplicas, status.replicas].every((count) => count === spec.replicas) &&
        status.conditions?.some((one) => one.type === 'Available' && one.status === 'True') === true
      )
    },
    timeoutMs,
  )
}

export type Pod = {
  metadata: { name: string; uid: string; annotations?: Record<string, string>; deletionTimestamp?: string }
  spec: {
    initContainers?: { name: string; image: string; restartPolicy?: string }[]
    containers: { name: string; image: string }[]
  }
  status: Conditions & { podIP: string; phase: string }
}

export async function listPods(node: TestNode, namespace: string, selector: string): Promise<Pod[]> {
  const query = `labelSelector=${encodeURIComponent(selector)}`
  const answer = await node.request('GET', `/api/v1/namespaces/${namespace}/pods?${query}`)
  return answer.json<{ items: Pod[] }>().items.filter(({ metadata }) => metadata.deletionTimestamp === undefined)
}

export async function clusterIp(node: TestNode, namespace: string, service: string): Promise<string> {
  const answer = await node.request('GET', `/api/v1/namespaces/${namespace}/services/${service}`)
  return answer.json<{ spec: { clusterIP: string } }>().spec.clusterIP
}

/** A value of a Secret, decoded. */
export async function readSecret(node: TestNode, namespace: string, name: string, key: string): Promise<string> {
  const answer = await node.request('GET', `/api/v1/namespaces/${namespace}/secrets/${name}`)
  const { data } = answer.json<{ data?: Record<string, string> }>()
  const value = data?.[key]
  if (value === undefined)
    throw new Error(`Secret ${namespace}/${name} has no ${key}: ${Object.keys(data ?? {}).join(', ')}`)
  return Buffer.from(value, 'base64').toString()
}

export type End = { readonly exitCode: number; readonly finishedAt: string }

/** How the containers of a pod ended that has not vanished yet, init containers that are done left out; null while one runs. */
export async function readEnds(node: TestNode, namespace: string, name: string): Promise<Record<string, End> | null> {
  const answer = await node.request('GET', `/api/v1/namespaces/${namespace}/pods/${name}`)
  type Status = { name: string; state: { terminated?: End } }
  const { status, spec } = answer.json<
    Pod & { status: { containerStatuses: Status[]; initContainerStatuses: Status[] } }
  >()
  const sidecars = (spec.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === 'Always')
  const all = [
    ...status.containerStatuses,
    ...status.initContainerStatuses.filter((one) => sidecars.some((sidecar) => sidecar.name === one.name)),
  ]
  const ends: Record<string, End> = {}
  for (const { name, state } of all) {
    if (state.terminated === undefined) return null
    ends[name] = state.terminated
  }
  return ends
}
