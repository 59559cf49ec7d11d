import { apiPath, apiStatus, type KubernetesClient } from './client.ts'
import type { ObjectMeta } from './object.ts'

export type Secret = {
  readonly metadata: ObjectMeta
  readonly type?: string
  /** base64 */
  readonly data?: Readonly<Record<string, string>>
}
export type ConfigMap = { readonly metadata: ObjectMeta; readonly data?: Readonly<Record<string, string>> }

/** Read and write a Secret or ConfigMap of the own namespace by name, each write against the version that was read. */
export type NamedObjects = {
  readSecret(name: string): Promise<Secret | null>
  /** Creates where `before` is null, else replaces the version read. @throws SignetError with status 409 where another was faster */
  writeSecret(
    name: string,
    before: Secret | null,
    type: string,
    data: Readonly<Record<string, string>>,
  ): Promise<Secret>
  readConfigMap(name: string): Promise<ConfigMap | null>
  writeConfigMap(name: string, before: ConfigMap | null, data: Readonly<Record<string, string>>): Promise<ConfigMap>
}

/** So that GitOps tools and people see whose they are. */
const LABELS = { 'app.kubernetes.io/managed-by': 'signet-operator', 'app.kubernetes.io/part-of': 'signet' }

export function createNamedObjects(client: KubernetesClient, namespace: string): NamedObjects {
  const collection = (kind: 'secrets' | 'configmaps'): string => apiPath('api/v1', 'namespaces', namespace, kind)
  const read = async <T>(kind: 'secrets' | 'configmaps', name: string): Promise<T | null> => {
    try {
      return await client.request<T>({ path: `${collection(kind)}/${encodeURIComponent(name)}` })
    } catch (error) {
      if (apiStatus(error) === 404) return null
      throw error
    }
  }
  const write = async <T>(
    kind: 'secrets' | 'configmaps',
    name: string,
    before: { metadata: ObjectMeta } | null,
    content: object,
  ): Promise<T> => {
    const apiVersion = 'v1'
    const head = { apiVersion, kind: kind === 'secrets' ? 'Secret' : 'ConfigMap' }
    if (before === null) {
      const metadata = { name, namespace, labels: LABELS }
      return client.request<T>({ method: 'POST', path: collection(kind), body: { ...head, metadata, ...content } })
    }
    const { labels, annotations, resourceVersion, uid } = before.metadata
    const metadata = { name, namespace, uid, resourceVersion, annotations, labels: { ...labels, ...LABELS } }
    const path = `${collection(kind)}/${encodeURIComponent(name)}`
    return client.request<T>({ method: 'PUT', path, body: { ...head, metadata, ...content } })
  }
  return {
    readSecret: (name) => read<Secret>('secrets', name),
    writeSecret: (name, before, type, data) =>
      // The type of a Secret cannot change.
      write<Secret>('secrets', name, before, {
        type: before?.type ?? type,
        data: Object.fromEntries(
          Object.entries(data).map(([key, text]) => [key, Buffer.from(text).toString('base64')]),
        ),
      }),
    readConfigMap: (name) => read<ConfigMap>('configmaps', name),
    writeConfigMap: (name, before, data) => write<ConfigMap>('configmaps', name, before, { data }),
  }
}

/** The text of a Secret's entry; undefined where there is none. */
export function secretText(secret: Secret, key: string): string | undefined {
  const value = secret.data?.[key]
  return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8')
}
