/** A ConfigMap as the bundle store uses it: its own members only. `data` is text, `binaryData` bytes (not base64). */
export type StoredObject = {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly data: Readonly<Record<string, string>>
  readonly binaryData: Readonly<Record<string, Buffer>>
  /** Of the version read; empty for an object that is to be made. */
  readonly resourceVersion: string
  readonly uid: string
  readonly createdAt: Date
}

export type NewObject = Pick<StoredObject, 'name' | 'labels' | 'annotations' | 'data' | 'binaryData'> & {
  /** `data` and `binaryData` can never change again; labels and annotations can. */
  readonly immutable?: boolean
  readonly owner?: ObjectOwner
}

/** Whoever owns an object takes it along when it is deleted. */
export type ObjectOwner = {
  readonly kind: string
  readonly apiVersion: string
  readonly name: string
  readonly uid: string
}

export type ObjectChange =
  | { readonly type: 'present'; readonly object: StoredObject }
  | { readonly type: 'absent'; readonly name: string }

/**
 * ConfigMaps of the operator's own namespace. Every call may reject with whatever the connection gave (it is then worth a retry);
 * what another writer did first is an answer, not an error.
 */
export type ObjectStore = {
  read(name: string): Promise<StoredObject | null>
  /** Null when one of that name is there already. */
  create(object: NewObject): Promise<StoredObject | null>
  /** Replaces the version that was read. Null when it has changed or gone since. */
  replace(read: StoredObject, object: NewObject): Promise<StoredObject | null>
  /** Removes the version that was read; false when it has changed or gone since. */
  remove(read: Pick<StoredObject, 'name' | 'uid' | 'resourceVersion'>): Promise<boolean>
  /** Those with all of these labels, without `data` and `binaryData`. */
  listHeads(labels: Readonly<Record<string, string>>): Promise<StoredObject[]>
  /**
   * Tells of every object whose label `label` has one of `values`: all that are there at first, then each change, again all after a
   * lost connection, with `absent` for those that went meanwhile. `onSynced` is called when the first list is through. Runs
   * until `signal` aborts and never rejects; faults go to `onError` and are tried again with backoff.
   */
  watch(options: WatchObjects): Promise<void>
}

export type WatchObjects = {
  readonly label: string
  readonly values: readonly string[]
  readonly onChange: (change: ObjectChange) => void
  readonly onSynced: () => void
  readonly onError: (error: unknown) => void
  readonly signal: AbortSignal
}

/** Label of all objects of the bundle store: what the object is. */
export const OBJECT_LABEL = 'signet.dev/bundle-object'
/** Its values. `index`: one a namespace; `blob`: a part of some module's bytes; `trust`: the public keys; `status`: one a replica. */
export const OBJECT_KINDS = ['index', 'blob', 'trust', 'status'] as const
export type ObjectKind = (typeof OBJECT_KINDS)[number]

export function objectLabels(kind: ObjectKind, more: Record<string, string> = {}): Record<string, string> {
  return { 'app.kubernetes.io/part-of': 'signet', [OBJECT_LABEL]: kind, ...more }
}
