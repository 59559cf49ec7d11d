import { PassThrough, type Readable } from 'node:stream'
import { SignetError } from '#core/error/signet-error.ts'
import type { ApiRequest, KubernetesClient } from './client.ts'
import { objectKey, type ObjectMeta } from './object.ts'

type Stored = { metadata: ObjectMeta; [member: string]: unknown }
type Watcher = { path: string; body: PassThrough; matches: (object: Stored) => boolean }

export type MemoryApi = KubernetesClient & {
  /** As another client would. Gives the object as it is stored. */
  put(collection: string, object: object): Stored
  remove(collection: string, name: string): void
  get(collection: string, name: string): Stored | undefined
  /** What was asked, `PATCH /apis/…`, in order. */
  readonly calls: string[]
  /** Called before each request; may throw what the server would answer. */
  before: (request: ApiRequest & { watching: boolean }) => void | Promise<void>
  /** Ends all watches, with an error or in the ordinary way. */
  endWatches(error?: Error): void
  /** Sends a line to all watches. */
  send(event: unknown): void
  /** Watches from an older version are refused with 410 from now on. */
  compact(): void
  readonly watches: number
}

/** What an API server answers with when it refuses. */
export function apiError(status: number, message = 'refused'): SignetError {
  const code = status === 429 || status >= 500 ? 'KUBERNETES_UNAVAILABLE' : 'KUBERNETES_REFUSED'
  return new SignetError(code, `${status} ${message}`, { details: { status } })
}

/** What a client sees while no API server is there. */
export function unreachable(): SignetError {
  return new SignetError('KUBERNETES_UNAVAILABLE', 'connect ECONNREFUSED')
}

/**
 * An API server's storage in memory: resource versions, generations, conflicts, status subresource, pages and watches, as far as the
 * operator uses them. Collections of all namespaces hold the objects of each.
 */
export function memoryApi(): MemoryApi {
  const collections = new Map<string, Map<string, Stored>>()
  const watchers = new Set<Watcher>()
  const history: { version: number; path: string; event: { type: string; object: Stored } }[] = []
  const calls: string[] = []
  let version = 100
  let compacted = 0

  const split = (
    path: string,
  ): { collection: string; namespace: string | undefined; name: string | undefined; sub: string } => {
    const match =
      /^(\/apis?\/(?:[^/]+\/)?v[^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([a-z]+)(?:\/([^/]+))?(?:\/(status))?$/.exec(
        path,
      )
    if (match === null) throw new Error(`memory API: ${path}`)
    const [, root, namespace, resource, name, sub = ''] = match
    return {
      collection: `${root}/${resource}`,
      namespace,
      name: name === undefined ? undefined : decodeURIComponent(name),
      sub,
    }
  }
  const at = (collection: string): Map<string, Stored> => {
    const found = collections.get(collection) ?? new Map<string, Stored>()
    collections.set(collection, found)
    return found
  }
  const tell = (path: string, type: string, object: Stored): void => {
    const event = { type, object }
    history.push({ version, path, event })
    for (const watcher of watchers) {
      if (watcher.path === path && watcher.matches(object)) watcher.body.write(`${JSON.stringify(event)}\n`)
    }
  }
  const store = (collection: string, object: Stored, type: 'ADDED' | 'MODIFIED'): Stored => {
    version += 1
    const kept = structuredClone({
      ...object,
      metadata: { uid: `uid-${version}`, generation: 1, ...object.metadata, resourceVersion: String(version) },
    })
    at(collection).set(objectKey(kept.metadata), kept)
    tell(collection, type, kept)
    return structuredClone(kept)
  }

  const answer = (request: ApiRequest): unknown => {
    const { collection, namespace, name, sub } = split(request.path)
    const objects = at(collection)
    const key = name === undefined ? '' : objectKey({ name, ...(namespace === undefined ? {} : { namespace }) })
    const found = objects.get(key)
    const body = structuredClone(request.body) as Stored
    switch (request.method ?? 'GET') {
      case 'GET': {
        if (name !== undefined) {
          if (found === undefined) throw apiError(404)
          return structuredClone(found)
        }
        const all = [...objects.values()].filter((object) => selects(request, namespace)(object))
        const limit = Number(request.query?.['limit'] ?? Infinity)
        const from = Number(request.query?.['continue'] ?? 0)
        const rest = all.length - from - limit
        return {
          metadata: { resourceVersion: String(version), ...(rest > 0 ? { continue: String(from + limit) } : {}) },
          items: structuredClone(all.slice(from, from + limit)),
        }
      }
      case 'POST': {
        const posted = { ...body, metadata: { ...body.metadata, ...(namespace === undefined ? {} : { namespace }) } }
        if (objects.has(objectKey(posted.metadata))) throw apiError(409)
        return store(collection, posted, 'ADDED')
      }
      case 'PUT': {
        if (found === undefined) throw apiError(404)
        const wanted = body.metadata.resourceVersion
        if (wanted !== undefined && wanted !== found.metadata.resourceVersion) throw apiError(409)
        return store(collection, { ...body, metadata: { ...found.metadata, ...body.metadata } }, 'MODIFIED')
      }
      case 'PATCH': {
        if (found === undefined) throw apiError(404)
        if (body.metadata?.uid !== undefined && body.metadata.uid !== found.metadata.uid) throw apiError(409)
        const patch = sub === 'status' ? { status: body['status'] } : body
        return store(collection, merge(found, patch) as Stored, 'MODIFIED')
      }
      case 'DELETE': {
        if (found === undefined) throw apiError(404)
        api.remove(collection, key)
        return {}
      }
    }
  }

  const api: MemoryApi = {
    calls,
    before: () => {},
    put(collection, object) {
      const { metadata } = object as Stored
      const found = at(collection).get(objectKey(metadata))
      const generation = (found?.metadata.generation ?? 0) + 1
      const uid = found?.metadata.uid
      const merged = {
        ...(object as Stored),
        metadata: { generation, ...(uid === undefined ? {} : { uid }), ...metadata },
      }
      return store(collection, merged, found === undefined ? 'ADDED' : 'MODIFIED')
    },
    remove(collection, key) {
      const found = at(collection).get(key)
      if (found === undefined) return
      at(collection).delete(key)
      version += 1
      tell(collection, 'DELETED', { ...found, metadata: { ...found.metadata, resourceVersion: String(version) } })
    },
    get: (collection, key) => structuredClone(at(collection).get(key)),
    async request<T>(request: ApiRequest): Promise<T> {
      calls.push(`${request.method ?? 'GET'} ${request.path}`)
      await api.before({ ...request, watching: false })
      return answer(request) as T
    },
    async stream(request): Promise<Readable> {
      calls.push(`WATCH ${request.path}`)
      await api.before({ ...request, watching: true })
      const from = Number(request.query?.['resourceVersion'] ?? 0)
      if (from < compacted) throw apiError(410)
      const { collection, namespace } = split(request.path)
      const body = new PassThrough()
      const watcher = { path: collection, body, matches: selects(request, namespace) }
      for (const { version: at, path, event } of history) {
        if (at > from && path === collection && watcher.matches(event.object)) body.write(`${JSON.stringify(event)}\n`)
      }
      watchers.add(watcher)
      const end = (): void => void body.destroy(new Error('aborted'))
      request.signal?.addEventListener('abort', end, { once: true })
      body.on('error', () => {})
      body.on('close', () => watchers.delete(watcher))
      return body
    },
    endWatches(error) {
      for (const { body } of watchers) {
        if (error === undefined) body.end()
        else body.destroy(error)
      }
    },
    send(event) {
      for (const { body } of watchers) body.write(`${JSON.stringify(event)}\n`)
    },
    compact() {
      version += 1
      compacted = version
    },
    get watches() {
      return watchers.size
    },
    close: async () => {},
  }
  return api
}

function selects(request: ApiRequest, namespace: string | undefined): (object: Stored) => boolean {
  const [field, wanted] = String(request.query?.['fieldSelector'] ?? '').split('=')
  return ({ metadata }) =>
    (namespace === undefined || metadata.namespace === namespace) &&
    (field !== 'metadata.name' || metadata.name === wanted)
}

/** RFC 7386. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const merged: Record<string, unknown> = { ...(typeof target === 'object' && !Array.isArray(target) ? target : {}) }
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = merge(merged[key], value)
  }
  return merged
}
