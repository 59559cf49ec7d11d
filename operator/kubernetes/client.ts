import type { Readable } from 'node:stream'
import { Agent, request as send, type Dispatcher } from 'undici'
import { SignetError } from '#core/error/signet-error.ts'
import type { ApiCredentials } from './credentials.ts'

export type ApiRequest = {
  /** Default GET. */
  readonly method?: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'
  /** `/apis/GROUP/VERSION/…`; the parts that others chose are encoded by the caller (`apiPath`). */
  readonly path: string
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly body?: unknown
  /** Default `application/json`; of a PATCH it says which kind. */
  readonly contentType?: string
  /** Default `application/json`. */
  readonly accept?: string
  readonly signal?: AbortSignal
  /** Default 30,000. */
  readonly timeoutMs?: number
  /** Of the answer; default 256 MiB. Past it the request fails, `isTooLarge`. */
  readonly maxBytes?: number
}

export type KubernetesClient = {
  /**
   * @throws SignetError KUBERNETES_UNAVAILABLE (no connection, time-out, 429, 5xx), KUBERNETES_REFUSED (any other status);
   *   `apiStatus(error)` gives the status, where the server sent one.
   */
  request<T>(request: ApiRequest): Promise<T>
  /** The body as it comes, for watches; `bodyTimeoutMs` without a byte ends it with an error. @throws as `request` */
  stream(request: ApiRequest & { readonly bodyTimeoutMs: number }): Promise<Readable>
  close(): Promise<void>
}

export const MERGE_PATCH = 'application/merge-patch+json'
/** Objects of any kind without spec and status: what a pod or namespace watch needs costs a tenth. */
export const METADATA_LIST = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1'
export const METADATA_WATCH = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1'

const DEFAULT_TIMEOUT_MS = 30_000
/** A list comes in pages of 500 objects; etcd holds none above 1.5 MiB. */
const MAX_RESPONSE_BYTES = 256 * 1024 * 1024
const MAX_ERROR_BYTES = 64 * 1024

/** `apiPath('apis/signet.dev/v1alpha1', 'namespaces', ns, 'compliancerules')`, each part encoded. */
export function apiPath(root: string, ...parts: readonly string[]): string {
  return `/${[root, ...parts.map(encodeURIComponent)].join('/')}`
}

/** The HTTP status that the API server answered with; null where it did not answer. */
export function apiStatus(error: unknown): number | null {
  if (!(error instanceof SignetError)) return null
  const status = error.details?.['status']
  return typeof status === 'number' ? status : null
}

/** The answer was larger than the request allowed. */
export function isTooLarge(error: unknown): boolean {
  return error instanceof SignetError && error.cause instanceof TooLarge
}

class TooLarge extends Error {}

/** How long the server asked us to wait, in milliseconds. */
export function retryAfterMs(error: unknown): number | null {
  if (!(error instanceof SignetError)) return null
  const ms = error.details?.['retry_after_ms']
  return typeof ms === 'number' ? ms : null
}

/**
 * A client of the Kubernetes API: JSON over kept connections, one pool for requests and one for watches, so that watches never take
 * the last connection. The token is read for each request; the authority is read again after a connection failed.
 */
export function createKubernetesClient(credentials: ApiCredentials, options: { userAgent: string }): KubernetesClient {
  const pools = createPools(credentials)

  const exchange = async (request: ApiRequest, watching: number | null): Promise<Dispatcher.ResponseData> => {
    const url = new URL(credentials.server + request.path)
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined) url.searchParams.set(name, String(value))
    }
    const timeout = AbortSignal.timeout(request.timeoutMs ?? DEFAULT_TIMEOUT_MS)
    const attempt = async (): Promise<Dispatcher.ResponseData> => {
      const token = credentials.token()
      return send(url, {
        method: request.method ?? 'GET',
        dispatcher: watching === null ? pools.requests : pools.watches,
        // A watch is ended by the server, by its silence or by its caller.
        signal: watching === null ? anySignal([timeout, request.signal]) : (request.signal ?? null),
        headersTimeout: request.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        ...(watching === null ? {} : { bodyTimeout: watching }),
        headers: {
          accept: request.accept ?? 'application/json',
          'user-agent': options.userAgent,
          ...(request.body === undefined ? {} : { 'content-type': request.contentType ?? 'application/json' }),
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        },
        body: request.body === undefined ? null : JSON.stringify(request.body),
      })
    }
    try {
      const response = await attempt()
      // 401 is decided before anything else: nothing was done, and the token may have been replaced a moment ago.
      if (response.statusCode !== 401) return response
      await response.body.dump()
      return await attempt()
    } catch (cause) {
      if (request.signal?.aborted === true || cause instanceof SignetError) throw cause
      pools.renew()
      throw unavailable(request, cause)
    }
  }

  return {
    async request<T>(request: ApiRequest): Promise<T> {
      const response = await exchange(request, null)
      if (response.statusCode >= 300) throw await failure(request, response)
      try {
        return JSON.parse(await readText(response.body, request.maxBytes ?? MAX_RESPONSE_BYTES)) as T
      } catch (cause) {
        if (request.signal?.aborted === true) throw cause
        throw unavailable(request, cause)
      }
    },
    async stream(request) {
      const response = await exchange(request, request.bodyTimeoutMs)
      if (response.statusCode >= 300) throw await failure(request, response)
      return response.body
    },
    close: () => pools.destroy(),
  }
}

type Pools = { readonly requests: Agent; readonly watches: Agent; renew(): void; destroy(): Promise<void> }

function createPools(credentials: ApiCredentials): Pools {
  const make = (connections: number | null): { ca: string | undefined; agent: Agent } => {
    const ca = credentials.ca()
    const connect = {
      ...(ca === undefined ? {} : { ca }),
      ...credentials.clientPair,
      ...(credentials.serverName === undefined ? {} : { servername: credentials.serverName }),
      keepAlive: true,
      keepAliveInitialDelay: 30_000,
      timeout: 10_000,
    }
    return { ca, agent: new Agent({ connect, connections, pipelining: 1 }) }
  }
  let requests = make(16)
  let watches = make(null)
  return {
    get requests() {
      return requests.agent
    },
    get watches() {
      return watches.agent
    },
    renew() {
      if (credentials.ca() === requests.ca) return
      const old = [requests.agent, watches.agent]
      requests = make(16)
      watches = make(null)
      for (const agent of old) agent.close().catch(() => {})
    },
    async destroy() {
      await Promise.all([requests.agent.destroy(), watches.agent.destroy()])
    },
  }
}

function anySignal(signals: readonly (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((signal) => signal !== undefined))
}

async function failure(request: ApiRequest, response: Dispatcher.ResponseData): Promise<SignetError> {
  const status = response.statusCode
  const text = await readText(response.body, MAX_ERROR_BYTES).catch(() => '')
  let message = text.slice(0, 200)
  let reason: string | undefined
  try {
    const body = JSON.parse(text) as { message?: unknown; reason?: unknown }
    if (typeof body.message === 'string') message = body.message.slice(0, 500)
    if (typeof body.reason === 'string') reason = body.reason
  } catch {
    // Not a Status object: the text itself says what there is to say.
  }
  const retrySeconds = Number(response.headers['retry-after'])
  const code = status === 429 || status >= 500 ? 'KUBERNETES_UNAVAILABLE' : 'KUBERNETES_REFUSED'
  return new SignetError(code, `${request.method ?? 'GET'} ${request.path}: ${status} ${message}`, {
    details: {
      status,
      ...(reason === undefined ? {} : { reason }),
      ...(Number.isFinite(retrySeconds) && retrySeconds > 0 ? { retry_after_ms: retrySeconds * 1000 } : {}),
    },
  })
}

function unavailable(request: ApiRequest, cause: unknown): SignetError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new SignetError('KUBERNETES_UNAVAILABLE', `${request.method ?? 'GET'} ${request.path}: ${reason}`, { cause })
}

async function readText(body: Readable, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = []
  let total = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    total += chunk.length
    if (total > maxBytes) throw new TooLarge(`the answer is larger than ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}
