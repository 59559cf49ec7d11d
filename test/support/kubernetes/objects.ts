import type { ApiClient } from './api-client.ts'
import type { WireAnswer } from './wire.ts'

export type PodTokenRequest = {
  readonly namespace: string
  readonly serviceAccount: string
  /** Its name; made, with one container that runs nothing, if it is not there. */
  readonly pod: string
  readonly audience: string
  /** Default 3600, the least that the API server gives is 600. */
  readonly expirationSeconds?: number
}

/** What a controller manager or a person would make. All are content to find it there already. */
export type Objects = {
  /** With its `default` ServiceAccount, without which no pod is admitted. */
  createNamespace(name: string, labels?: Record<string, string>): Promise<void>
  createServiceAccount(namespace: string, name: string): Promise<void>
  /** A token as the kubelet projects it into a pod: bound to that pod, for one audience. */
  createPodToken(request: PodTokenRequest): Promise<string>
}

export function createObjects(client: ApiClient): Objects {
  const create = async (path: string, body: object): Promise<void> => {
    const answer = await client.request('POST', path, body)
    if (answer.status !== 201 && answer.status !== 409) throw unexpected(`POST ${path}`, answer)
  }
  const createServiceAccount: Objects['createServiceAccount'] = (namespace, name) =>
    create(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name } })
  return {
    createServiceAccount,
    async createNamespace(name, labels = {}) {
      await create('/api/v1/namespaces', { metadata: { name, labels } })
      await createServiceAccount(name, 'default')
    },
    async createPodToken({ namespace, serviceAccount, pod, audience, expirationSeconds = 3600 }) {
      await createServiceAccount(namespace, serviceAccount)
      const path = `/api/v1/namespaces/${namespace}/pods`
      let found = await client.request('GET', `${path}/${pod}`)
      if (found.status === 404) found = await client.request('POST', path, idlePod(pod, serviceAccount))
      if (found.status >= 300) throw unexpected(`pod ${namespace}/${pod}`, found)
      const { metadata } = found.json<{ metadata: { uid: string } }>()
      const answer = await client.request(
        'POST',
        `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`,
        {
          spec: {
            audiences: [audience],
            expirationSeconds,
            boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: pod, uid: metadata.uid },
          },
        },
      )
      if (answer.status !== 201) throw unexpected('TokenRequest', answer)
      return answer.json<{ status: { token: string } }>().status.token
    },
  }
}

function idlePod(name: string, serviceAccountName: string): object {
  return {
    metadata: { name },
    spec: {
      serviceAccountName,
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'idle',
          image: 'localhost/idle:1',
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
        },
      ],
    },
  }
}

function unexpected(what: string, answer: WireAnswer): Error {
  return new Error(`${what}: ${answer.status} ${answer.text.slice(0, 500)}`)
}
