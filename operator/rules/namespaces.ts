import type { Change } from '#operator/kubernetes/informer.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'

export type NamespaceView = { readonly metadata: ObjectMeta }

const INJECT = 'signet.dev/inject'
const REQUIRED = 'signet.dev/required'

/** Of a namespace: its name and the labels that say something here. For an informer of metadata. */
export function keepNamespace({ metadata }: NamespaceView): NamespaceView {
  const { name, uid, resourceVersion, labels } = metadata
  const kept = Object.entries(labels ?? {}).filter(([key]) => key === INJECT || key === REQUIRED)
  return {
    metadata: {
      name,
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
      labels: Object.fromEntries(kept),
    },
  }
}

/** Pods are, or may only be, injected there. */
export function wantsProxies({ metadata }: NamespaceView): boolean {
  return metadata.labels?.[INJECT] === 'enabled' || metadata.labels?.[REQUIRED] === 'true'
}

/** Whether a change can make a namespace need a bundle, or end it. */
export function changesNeed({ before, after }: Change<NamespaceView>): boolean {
  if (before === undefined || after === undefined) return true
  return wantsProxies(before) !== wantsProxies(after)
}
