import type { ObservedPod } from './snapshot.ts'

/** The command that replaces a pod by one that is made anew. */
export function restartCommand({ namespace, name, owner, pod }: ObservedPod): string {
  const rollout = (kind: string, of: string): string => `kubectl rollout restart ${kind}/${of} -n ${namespace}`
  switch (owner?.kind) {
    case 'ReplicaSet': {
      const hash = pod.metadata?.labels?.['pod-template-hash']
      // A Deployment's ReplicaSet is called after it; one without the label is a ReplicaSet of its own.
      if (hash !== undefined && owner.name.endsWith(`-${hash}`))
        return rollout('deployment', owner.name.slice(0, -hash.length - 1))
      return `kubectl delete pod ${name} -n ${namespace}`
    }
    case 'StatefulSet':
    case 'DaemonSet':
      return rollout(owner.kind.toLowerCase(), owner.name)
    case 'Job':
      return `kubectl delete pod ${name} -n ${namespace}   # or let job/${owner.name} end by itself`
    case undefined:
      return `kubectl delete pod ${name} -n ${namespace}   # nothing makes it again: apply its manifest afterwards`
    default:
      return `kubectl delete pod ${name} -n ${namespace}`
  }
}

/** `api-7d9f` and its siblings as one: the name of what made them. */
export function ownerName({ name, owner, pod }: ObservedPod): string {
  if (owner === null) return `pod/${name}`
  const hash = pod.metadata?.labels?.['pod-template-hash']
  if (owner.kind === 'ReplicaSet' && hash !== undefined && owner.name.endsWith(`-${hash}`))
    return `deployment/${owner.name.slice(0, -hash.length - 1)}`
  return `${owner.kind.toLowerCase()}/${owner.name}`
}
