import { readFile } from 'node:fs/promises'
import { Pool } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import type { ReviewedPod } from '../identity/service-account.ts'

export type KubernetesApiOptions = {
  /** `https://HOST:PORT`, without a path. */
  readonly url: string
  /** Read anew for each call, since the kubelet renews both. */
  readonly tokenFile: string
  readonly caFile: string
  /** Longest time for a whole call, default 5 s. */
  readonly timeoutMs?: number
}

/** Values of a Secret, decoded. */
export type SecretData = Readonly<Record<string, Buffer>>

/**
 * The little that ledger, proxies and governance need of the API server. Every call throws SignetError: KUBERNETES_UNAVAILABLE (no answer in time, 429,
 * 5xx), KUBERNETES_REFUSED (any other answer that is not what was asked for). Messages hold no token and no value of a Secret.
 */
export type KubernetesApi = {
  /** Whose token it is; null where it is no valid token of a service account for this audience. */
  reviewToken(token: string, audience: string): Promise<ReviewedPod | null>
  /** Null where there is none of this name. */
  getSecret(namespace: string, name: string): Promise<SecretData | null>
  /** Whether it was made; false where there is one of this name already. */
  createSecret(
    namespace: string,
    name: string,
    secret: {
      readonly data: SecretData
      readonly labels?: Readonly<Record<string, string>>
      readonly immutable?: boolean
    },
  ): Promise<boolean>
  /** Objects of a namespace with all of these labels. */
  list(kind: KeptKind, namespace: string, labels: Readonly<Record<string, string>>): Promise<KeptObject[]>
  /** Null where there is none of this name. */
  get(kind: KeptKind, namespace: string, name: string): Promise<KeptObject | null>
  /** Makes an object what it should be, by server-side apply as `manager`, also where somebody else changed it. */
  apply(
    kind: KeptKind,
    namespace: string,
    object: KeptObject & { readonly spec: unknown },
    manager: string,
  ): Promise<void>
  /** Also where it is gone already. */
  delete(kind: KeptKind, namespace: string, name: string): Promise<void>
  /** The namespace itself; null where there is none of this name. */
  getNamespace(name: string): Promise<Record<string, unknown> | null>
  /** All objects of a kind in a namespace, read in pages until `signal` says stop. More than `max` of them are refused, not cut. */
  listObjects(
    kind: keyof typeof READABLE,
    namespace: string,
    options: { readonly max: number; readonly signal?: AbortSignal },
  ): Promise<Record<string, unknown>[]>
  close(): Promise<void>
}
/** Kinds of `signet.dev/v1alpha1`, with their plurals. */
const KEPT_KINDS = { ComplianceRule: 'compliancerules', PolicyData: 'policydata' } as const
export type KeptKind = keyof typeof KEPT_KINDS
/** What is looked at of an object. */
export type KeptObject = {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
}

/** Kinds whose objects may be read, and no others: none of them holds a secret. */
const READABLE = {
  pods: '/api/v1',
  serviceaccounts: '/api/v1',
  deployments: '/apis/apps/v1',
  networkpolicies: '/apis/networking.k8s.io/v1',
} as const
const PAGE_OBJECTS = 100

type Answer = { readonly status: number; readonly body: Record<string, unknown> }

const MAX_ANSWER_BYTES = 4 * 1024 * 1024
const POD_NAME = 'authentication.kubernetes.io/pod-name'
const POD_UID = 'authentication.kubernetes.io/pod-uid'

export function createKubernetesApi(options: KubernetesApiOptions): KubernetesApi {
  const { url, timeoutMs = 5_000 } = options
  let connected: { ca: string; pool: Pool } | undefined

  /** A pool that trusts what the CA file holds now. */
  async function connect(): Promise<Pool> {
    const ca = await read(options.caFile)
    if (connected?.ca === ca) return connected.pool
    // Calls under way end on the former one.
    void connected?.pool.close()
    const timeouts = { connectTimeout: timeoutMs, headersTimeout: timeoutMs, bodyTimeout: timeoutMs }
    connected = { ca, pool: new Pool(url, { connections: 8, ...timeouts, connect: { ca } }) }
    return connected.pool
  }

  async function call(
    method: 'GET' | 'POST' | 'PATCH' | 'DELETE',
    path: string,
    body?: unknown,
    contentType = 'application/json',
  ): Promise<Answer> {
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      const pool = await connect()
      const response = await pool.request({
        method,
        path,
        headers: {
          authorization: `Bearer ${(await read(options.tokenFile)).trim()}`,
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': contentType }),
        },
        body: body === undefined ? null : JSON.stringify(body),
        signal: deadline,
      })
      return { status: response.statusCode, body: await readObject(response.body) }
    } catch (cause) {
      if (cause instanceof SignetError) throw cause
      const why = deadline.aborted ? `no answer within ${timeoutMs} ms` : (cause as Error).message
      throw new SignetError('KUBERNETES_UNAVAILABLE', `the Kubernetes API at ${url} cannot be reached: ${why}`, {
        cause,
      })
    }
  }

  async function read(file: string): Promise<string> {
    try {
      return await readFile(file, 'utf8')
    } catch (cause) {
      throw new SignetError(
        'KUBERNETES_UNAVAILABLE',
        `${file}, which access to the Kubernetes API needs, cannot be read`,
        {
          cause,
        },
      )
    }
  }

  return {
    async reviewToken(token, audience) {
      const answer = await call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        spec: { token, audiences: [audience] },
      })
      if (answer.status !== 200 && answer.status !== 201) throw refused(answer, 'to review a token')
      return reviewedPod(answer.body, audience)
    },

    async getSecret(namespace, name) {
      const answer = await call('GET', secretPath(namespace, name))
      if (answer.status === 404) return null
      if (answer.status !== 200) throw refused(answer, `to read the Secret ${namespace}/${name}`)
      const data = objectOf(answer.body['data'])
      return Object.fromEntries(
        Object.entries(data).map(([key, value]) => [
          key,
          Buffer.from(typeof value === 'string' ? value : '', 'base64'),
        ]),
      )
    },

    async createSecret(namespace, name, { data, labels, immutable }) {
      const answer = await call('POST', secretPath(namespace), {
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name, namespace, ...(labels === undefined ? {} : { labels }) },
        type: 'Opaque',
        ...(immutable === undefined ? {} : { immutable }),
        data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, value.toString('base64')])),
      })
      if (answer.status === 409) return false
      if (answer.status !== 201) throw refused(answer, `to make the Secret ${namespace}/${name}`)
      return true
    },

    async list(kind, namespace, labels) {
      const selector = Object.entries(labels)
        .map(([name, value]) => `${name}=${value}`)
        .join(',')
      const kept: KeptObject[] = []
      for (let next = ''; ;) {
        const query = new URLSearchParams({
          labelSelector: selector,
          limit: '100',
          ...(next === '' ? {} : { continue: next }),
        })
        const answer = await call('GET', `${keptPath(kind, namespace)}?${query.toString()}`)
        if (answer.status !== 200) throw refused(answer, `to list objects ${kind} of ${namespace}`)
        const items = answer.body['items']
        if (Array.isArray(items)) kept.push(...items.map(keptObject))
        const more = objectOf(answer.body['metadata'])['continue']
        if (typeof more !== 'string' || more === '') return kept
        next = more
      }
    },

    async get(kind, namespace, name) {
      const answer = await call('GET', keptPath(kind, namespace, name))
      if (answer.status === 404) return null
      if (answer.status !== 200) throw refused(answer, `to read the ${kind} ${namespace}/${name}`)
      return keptObject(answer.body)
    },

    async apply(kind, namespace, { name, labels, annotations, spec }, manager) {
      const query = new URLSearchParams({ fieldManager: manager, force: 'true' })
      const object = {
        apiVersion: 'signet.dev/v1alpha1',
        kind,
        metadata: { name, namespace, labels, annotations },
        spec,
      }
      const path = `${keptPath(kind, namespace, name)}?${query.toString()}`
      const answer = await call('PATCH', path, object, 'application/apply-patch+yaml')
      if (answer.status !== 200 && answer.status !== 201)
        throw refused(answer, `to keep the ${kind} ${namespace}/${name}`)
    },

    async delete(kind, namespace, name) {
      const answer = await call('DELETE', keptPath(kind, namespace, name))
      if (answer.status !== 200 && answer.status !== 202 && answer.status !== 404)
        throw refused(answer, `to delete the ${kind} ${namespace}/${name}`)
    },

    async getNamespace(name) {
      const answer = await call('GET', `/api/v1/namespaces/${encodeURIComponent(name)}`)
      if (answer.status === 404) return null
      if (answer.status !== 200) throw refused(answer, `to read the namespace ${name}`)
      return answer.body
    },

    async listObjects(kind, namespace, { max, signal }) {
      const objects: Record<string, unknown>[] = []
      let rest = ''
      do {
        if (signal?.aborted === true)
          throw new SignetError('KUBERNETES_UNAVAILABLE', `${kind} of ${namespace} take too long to read`)
        const path = `${READABLE[kind]}/namespaces/${encodeURIComponent(namespace)}/${kind}?limit=${PAGE_OBJECTS}${rest}`
        const answer = await call('GET', path)
        if (answer.status !== 200) throw refused(answer, `to list ${kind} of ${namespace}`)
        const { items } = answer.body
        if (Array.isArray(items)) objects.push(...items.map(objectOf))
        if (objects.length > max)
          throw new SignetError('KUBERNETES_REFUSED', `${namespace} has more than ${max} ${kind}: they are not read`)
        const next = objectOf(answer.body['metadata'])['continue']
        rest = typeof next === 'string' && next !== '' ? `&continue=${encodeURIComponent(next)}` : ''
      } while (rest !== '')
      return objects
    },

    async close() {
      await connected?.pool.close()
    },
  }
}

function keptPath(kind: KeptKind, namespace: string, name?: string): string {
  const path = `/apis/signet.dev/v1alpha1/namespaces/${encodeURIComponent(namespace)}/${KEPT_KINDS[kind]}`
  return name === undefined ? path : `${path}/${encodeURIComponent(name)}`
}

function keptObject(value: unknown): KeptObject {
  const metadata = objectOf(objectOf(value)['metadata'])
  const texts = (of: unknown): Record<string, string> =>
    Object.fromEntries(
      Object.entries(objectOf(of)).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    )
  const { name } = metadata
  return {
    name: typeof name === 'string' ? name : '',
    labels: texts(metadata['labels']),
    annotations: texts(metadata['annotations']),
  }
}

/**
 * What a TokenReview says (authentication.k8s.io/v1). An API server that knows no audiences leaves `audiences` out and has then not
 * checked ours: that counts as no.
 */
export function reviewedPod(review: Record<string, unknown>, audience: string): ReviewedPod | null {
  const status = objectOf(review['status'])
  const audiences = status['audiences']
  if (status['authenticated'] !== true || !Array.isArray(audiences) || !audiences.includes(audience)) return null
  const user = objectOf(status['user'])
  const [system, kind, namespace, serviceAccount, ...rest] = String(user['username']).split(':')
  const isServiceAccount = system === 'system' && kind === 'serviceaccount' && rest.length === 0
  if (!isServiceAccount || !namespace || !serviceAccount) return null
  const extra = objectOf(user['extra'])
  const name = onlyText(extra[POD_NAME])
  const uid = onlyText(extra[POD_UID])
  return { namespace, serviceAccount, pod: name === null || uid === null ? null : { name, uid } }
}

function secretPath(namespace: string, name?: string): string {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`
  return name === undefined ? path : `${path}/${encodeURIComponent(name)}`
}

async function readObject(body: AsyncIterable<Buffer>): Promise<Record<string, unknown>> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body) {
    length += chunk.length
    if (length > MAX_ANSWER_BYTES)
      throw new SignetError(
        'KUBERNETES_REFUSED',
        `an answer of the Kubernetes API has more than ${MAX_ANSWER_BYTES} bytes`,
      )
    chunks.push(chunk)
  }
  try {
    return objectOf(JSON.parse(Buffer.concat(chunks, length).toString('utf8')))
  } catch {
    return {}
  }
}

/** A `Status` says why in `reason` and `message`, which name objects and rights, not their content. */
function refused({ status, body }: Answer, what: string): SignetError {
  const code = status === 429 || status >= 500 ? 'KUBERNETES_UNAVAILABLE' : 'KUBERNETES_REFUSED'
  const message = typeof body['message'] === 'string' ? `: ${body['message'].slice(0, 300)}` : ''
  return new SignetError(code, `the Kubernetes API answers ${status} when asked ${what}${message}`, {
    details: { status },
  })
}

function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}

function onlyText(value: unknown): string | null {
  return Array.isArray(value) && value.length === 1 && typeof value[0] === 'string' && value[0] !== '' ? value[0] : null
}
