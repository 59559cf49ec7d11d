import type { PodSpec } from './pod.ts'

/**
 * A service mesh's proxy beside ours. It ends the mesh's TLS before we see a byte, so inbound traffic goes mesh, then Signet, then
 * app: under redirect, what the mesh's user sends to the captured port over loopback is what is redirected.
 */
export type Mesh = {
  readonly name: 'istio' | 'linkerd'
  /** The user that its proxy runs as. */
  readonly uid: number
  /** TCP ports of its own that must be reachable from outside: inbound, health, metrics. */
  readonly ports: readonly number[]
  /** Annotation that keeps ports out of its capture: numbers with commas between. */
  readonly skipInboundPorts: string
}

// https://istio.io/latest/docs/ops/deployment/application-requirements/#ports-used-by-istio
const ISTIO: Mesh = {
  name: 'istio',
  uid: 1337,
  ports: [15_006, 15_008, 15_020, 15_021, 15_090],
  skipInboundPorts: 'traffic.sidecar.istio.io/excludeInboundPorts',
}
// https://linkerd.io/2/features/ : inbound 4143, admin 4191, tap 4190
const LINKERD: Mesh = {
  name: 'linkerd',
  uid: 2102,
  ports: [4_143, 4_190, 4_191],
  skipInboundPorts: 'config.linkerd.io/skip-inbound-ports',
}
export const MESHES = [ISTIO, LINKERD] as const
const CONTAINERS = { istio: 'istio-proxy', linkerd: 'linkerd-proxy' } as const

const OWN = new Set([
  'istio-proxy',
  'istio-init',
  'istio-validation',
  'linkerd-proxy',
  'linkerd-init',
  'linkerd-network-validator',
])

export function isMeshContainer({ name }: { readonly name: string }): boolean {
  return OWN.has(name)
}

/** The mesh whose proxy is in the pod now. */
export function meshIn(spec: PodSpec): Mesh | null {
  const names = new Set([...spec.containers, ...(spec.initContainers ?? [])].map(({ name }) => name))
  return MESHES.find(({ name }) => names.has(CONTAINERS[name])) ?? null
}

/**
 * The mesh whose injector will come after us, by what the pod and its namespace say. It matters for the annotation alone: an
 * injector reads it when it runs.
 */
export function meshExpected(
  spec: PodSpec,
  words: { readonly pod: Readonly<Record<string, string>>; readonly namespace: Readonly<Record<string, string>> },
): Mesh | null {
  const present = meshIn(spec)
  if (present !== null) return present
  const { pod, namespace } = words
  if (pod['sidecar.istio.io/inject'] === 'false') return null
  if (pod['sidecar.istio.io/inject'] === 'true' || pod['istio.io/rev'] !== undefined) return ISTIO
  if (namespace['istio-injection'] === 'enabled' || namespace['istio.io/rev'] !== undefined) return ISTIO
  return ['enabled', 'ingress'].includes(pod['linkerd.io/inject'] ?? '') ? LINKERD : null
}
