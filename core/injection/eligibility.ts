import { ANNOTATIONS, LABELS } from './names.ts'
import type { PodObject } from './pod.ts'
import type { NamespaceFacts } from './settings.ts'

/**
 * `inject`; `skip`: nobody asked; `exempt`: never injected, no warning; `refuse`: asked for, and cannot be done safely. The pod goes
 * on as it is in the last three: where the namespace requires Signet, the fence keeps it out.
 */
export type Eligibility = { readonly verdict: 'inject' | 'skip' | 'exempt' | 'refuse'; readonly reason: string }

/** Namespaces of the cluster itself: a cluster that cannot start its own pods cannot start Signet either. */
const EXEMPT_NAMESPACES = new Set(['kube-system', 'kube-node-lease', 'kube-public'])
/** Made by the kubelet for a pod of its own files; what the API server knows of it is a copy. */
const MIRROR_ANNOTATION = 'kubernetes.io/config.mirror'

export function isRequired(namespace: NamespaceFacts): boolean {
  return namespace.labels[LABELS.required] === 'true'
}

export function decideEligibility(pod: PodObject, namespace: NamespaceFacts): Eligibility {
  const annotations = pod.metadata?.annotations ?? {}
  if (EXEMPT_NAMESPACES.has(namespace.name))
    return { verdict: 'exempt', reason: `pods of ${namespace.name} are exempt` }
  if (annotations[MIRROR_ANNOTATION] !== undefined)
    return { verdict: 'exempt', reason: 'a mirror pod cannot be changed' }
  const asked = whoAsks(pod, namespace)
  if (!asked.inject) return { verdict: 'skip', reason: asked.reason }
  const obstacle = obstacleOf(pod)
  return obstacle === null
    ? { verdict: 'inject', reason: asked.reason }
    : { verdict: 'refuse', reason: `not injected: ${obstacle}` }
}

/** The pod's own word goes before the namespace's, but no pod opts out where the namespace requires Signet. */
function whoAsks(pod: PodObject, namespace: NamespaceFacts): { inject: boolean; reason: string } {
  if (isRequired(namespace)) return { inject: true, reason: `namespace ${namespace.name} requires Signet` }
  const own = pod.metadata?.annotations?.[ANNOTATIONS.inject] ?? pod.metadata?.labels?.[ANNOTATIONS.inject]
  if (own === 'disabled') return { inject: false, reason: `the pod says ${ANNOTATIONS.inject}: disabled` }
  if (own === 'enabled') return { inject: true, reason: `the pod says ${ANNOTATIONS.inject}: enabled` }
  if (namespace.labels[LABELS.inject] === 'enabled')
    return { inject: true, reason: `namespace ${namespace.name} says ${LABELS.inject}: enabled` }
  return { inject: false, reason: 'neither the pod nor its namespace asks for it' }
}

function obstacleOf({ spec }: PodObject): string | null {
  if (spec.os?.name === 'windows') return 'the sidecar runs on Linux only, and spec.os.name is windows'
  if (spec.hostNetwork === true)
    return 'spec.hostNetwork is true, so that the pod has no network of its own to put a proxy in front of'
  if (spec.hostPID === true) return "spec.hostPID is true: the pod's containers could read the proxy's memory and keys"
  if (spec.shareProcessNamespace === true)
    return "spec.shareProcessNamespace is true: the pod's containers could read the proxy's memory and keys through /proc"
  return null
}
