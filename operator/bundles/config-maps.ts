import type { Clock } from '#operator/clock.ts'
import { apiPath, apiStatus, METADATA_LIST, type KubernetesClient } from '#operator/kubernetes/client.ts'
import { createInformer } from '#operator/kubernetes/informer.ts'
import type { KubernetesObject, ObjectList } from '#operator/kubernetes/object.ts'
import type { NewObject, ObjectStore, StoredObject } from './objects.ts'

type ConfigMap = KubernetesObject & {
  readonly data?: Readonly<Record<string, string>>
  /** base64 */
  readonly binaryData?: Readonly<Record<string, string>>
}

export type ConfigMapStoreOptions = {
  readonly client: KubernetesClient
  /** The operator's own. */
  readonly namespace: string
  readonly clock: Clock
  readonly random: () => number
}

/** The bundle store in ConfigMaps of a real cluster. */
export function createConfigMapStore({ client, namespace, clock, random }: ConfigMapStoreOptions): ObjectStore {
  const collection = apiPath('api/v1', 'namespaces', namespace, 'configmaps')
  const pathOf = (name: string): string => `${collection}/${encodeURIComponent(name)}`

  return {
    async read(name) {
      const found = await unless(client.request<ConfigMap>({ path: pathOf(name) }), [404])
      return found === null ? null : stored(found)
    },
    async create(object) {
      const body = configMap(namespace, object)
      const made = await unless(client.request<ConfigMap>({ method: 'POST', path: collection, body }), [409])
      return made === null ? null : stored(made)
    },
    async replace(read, object) {
      const body = configMap(namespace, object, read)
      const put = client.request<ConfigMap>({ method: 'PUT', path: pathOf(read.name), body })
      const made = await unless(put, [404, 409])
      return made === null ? null : stored(made)
    },
    async remove({ name, uid, resourceVersion }) {
      const body = { apiVersion: 'v1', kind: 'DeleteOptions', preconditions: { uid, resourceVersion } }
      return (await unless(client.request({ method: 'DELETE', path: pathOf(name), body }), [404, 409])) !== null
    },
    async listHeads(labels) {
      const labelSelector = Object.entries(labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(',')
      const heads: StoredObject[] = []
      let next: string | undefined
      do {
        const page: ObjectList<ConfigMap> = await client.request<ObjectList<ConfigMap>>({
          path: collection,
          query: { labelSelector, limit: 500, continue: next },
          accept: METADATA_LIST,
        })
        heads.push(...(page.items ?? []).map(stored))
        next = page.metadata.continue === '' ? undefined : page.metadata.continue
      } while (next !== undefined)
      return heads
    },
    async watch({ label, values, onChange, onSynced, onError, signal }) {
      // Content may be of any size, and there may be any number of objects that carry our label: it is told, not kept.
      let told: ConfigMap | null = null
      const informer = createInformer<ConfigMap>({
        name: 'bundle-objects',
        client,
        path: collection,
        labelSelector: `${label} in (${values.join(',')})`,
        keep: (object) => {
          told = object
          const { name, namespace, resourceVersion } = object.metadata
          return {
            metadata: {
              name,
              ...(namespace === undefined ? {} : { namespace }),
              ...(resourceVersion === undefined ? {} : { resourceVersion }),
            },
          }
        },
        onChange: ({ before, after }) => {
          const object = told
          told = null
          // A resync has no content, and nothing new.
          if (after !== undefined && after === before) return
          if (after !== undefined && object !== null) onChange({ type: 'present', object: stored(object) })
          else if (before !== undefined) onChange({ type: 'absent', name: before.metadata.name ?? '' })
        },
        clock,
        random,
        observer: {
          listed: () => {},
          failed: (error) => onError(error),
          handlerFailed: (_, error) => onError(error),
        },
      })
      const syncing = async (): Promise<void> => {
        await informer.whenSynced(signal)
        if (!signal.aborted) onSynced()
      }
      await Promise.all([syncing(), informer.run(signal)])
    },
  }
}

/** Null where the API server answers with one of these statuses. */
async function unless<T>(answer: Promise<T>, statuses: readonly number[]): Promise<T | null> {
  try {
    return await answer
  } catch (error) {
    const status = apiStatus(error)
    if (status !== null && statuses.includes(status)) return null
    throw error
  }
}

function stored(object: ConfigMap): StoredObject {
  const { name, labels, annotations, resourceVersion, uid, creationTimestamp } = object.metadata
  return {
    name: name ?? '',
    labels: labels ?? {},
    annotations: annotations ?? {},
    data: object.data ?? {},
    binaryData: Object.fromEntries(
      Object.entries(object.binaryData ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')]),
    ),
    resourceVersion: resourceVersion ?? '',
    uid: uid ?? '',
    createdAt: new Date(creationTimestamp ?? 0),
  }
}

function configMap(namespace: string, object: NewObject, read?: StoredObject): object {
  const { name, labels, annotations, data, binaryData, immutable, owner } = object
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name,
      namespace,
      labels,
      annotations,
      ...(owner === undefined ? {} : { ownerReferences: [owner] }),
      ...(read === undefined ? {} : { resourceVersion: read.resourceVersion, uid: read.uid }),
    },
    ...(Object.keys(data).length === 0 ? {} : { data }),
    ...(Object.keys(binaryData).length === 0
      ? {}
      : {
          binaryData: Object.fromEntries(
            Object.entries(binaryData).map(([key, value]) => [key, value.toString('base64')]),
          ),
        }),
    ...(immutable === undefined ? {} : { immutable }),
  }
}
