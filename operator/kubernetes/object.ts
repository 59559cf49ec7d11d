/** What every Kubernetes object has, as JSON brings it. Times are RFC 3339 text. */
export type ObjectMeta = {
  readonly name: string
  readonly namespace?: string
  readonly uid?: string
  readonly resourceVersion?: string
  readonly generation?: number
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
  readonly creationTimestamp?: string
  readonly deletionTimestamp?: string
}
export type KubernetesObject = { readonly metadata: ObjectMeta }

export type ObjectList<T> = {
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string }
  readonly items: readonly T[] | null
}

export type ObjectReference = {
  readonly apiVersion: string
  readonly kind: string
  readonly namespace: string
  readonly name: string
  readonly uid?: string
}

/** `NAMESPACE/NAME`; of cluster-wide objects `NAME`. */
export function objectKey(meta: { readonly namespace?: string; readonly name: string }): string {
  return meta.namespace === undefined ? meta.name : `${meta.namespace}/${meta.name}`
}
