import type { ProxyStatus } from '#operator/bundles/status-report.ts'
import type { Change } from '#operator/kubernetes/informer.ts'
import type { ObjectMeta } from '#operator/kubernetes/object.ts'

/** A running pod with a proxy. */
export type PodView = { readonly metadata: ObjectMeta }

/** Set by the injection on what it injected. */
const INJECTED = 'signet.dev/injected'
/** A pod that runs for less has not had the time to pull and to report; it is not missed yet. */
export const SETTLE_MS = 45_000

/** Keeps running injected pods only; of them name and uid. For an informer of metadata with `status.phase=Running`. */
export function keepPod(pod: PodView): PodView | null {
  const { name, namespace, uid, resourceVersion, annotations, deletionTimestamp } = pod.metadata
  if (annotations?.[INJECTED] === undefined || deletionTimestamp !== undefined) return null
  return {
    metadata: {
      name,
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    },
  }
}

export type ProxyCount = { readonly expected: number; readonly current: number; readonly settled: boolean }

export type Proxies = {
  /** Takes a change of the informer; tells whose pods it was, or null where their number is the same. */
  apply(change: Change<PodView>): string | null
  namespaces(): Iterable<string>
  /** Running proxies of the namespace, and how many of them have a revision of this sequence or a later one in force. */
  count(namespace: string, sequence: number | null): ProxyCount
}

/** Who should have a bundle: running injected pods by namespace, and what they reported. */
export function createProxies(deps: {
  readonly reports: (namespace: string) => readonly ProxyStatus[]
  readonly monotonicMs: () => number
}): Proxies {
  /** When each pod (by uid) was first seen. */
  const byNamespace = new Map<string, Map<string, number>>()
  const startedMs = deps.monotonicMs()
  return {
    apply({ before, after }) {
      const { namespace, uid } = (after ?? before)?.metadata ?? {}
      if (namespace === undefined || uid === undefined) return null
      const pods = byNamespace.get(namespace) ?? new Map<string, number>()
      const formerUid = before?.metadata.uid
      const hadBefore = pods.size
      if (formerUid !== undefined && formerUid !== after?.metadata.uid) pods.delete(formerUid)
      const isNew = after !== undefined && !pods.has(uid)
      if (isNew) pods.set(uid, deps.monotonicMs())
      if (pods.size === 0) byNamespace.delete(namespace)
      else byNamespace.set(namespace, pods)
      return isNew || pods.size !== hadBefore ? namespace : null
    },
    namespaces: () => byNamespace.keys(),
    count(namespace, sequence) {
      const nowMs = deps.monotonicMs()
      const pods = byNamespace.get(namespace)
      let expected = 0
      let current = 0
      const reported = new Map(deps.reports(namespace).map((status) => [status.uid, status]))
      for (const [uid, sinceMs] of pods ?? []) {
        const status = reported.get(uid)
        if (status === undefined && nowMs - sinceMs < SETTLE_MS) continue
        expected += 1
        const has = status?.revision == null ? -1 : Number(status.revision.split('-', 1)[0])
        if (sequence !== null && has >= sequence) current += 1
      }
      return { expected, current, settled: nowMs - startedMs >= SETTLE_MS }
    },
  }
}
