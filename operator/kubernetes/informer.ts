import { pause, type Clock } from '#operator/clock.ts'
import { apiStatus, isTooLarge, METADATA_LIST, METADATA_WATCH, retryAfterMs, type KubernetesClient } from './client.ts'
import { objectKey, type KubernetesObject, type ObjectList } from './object.ts'
import { watchLines } from './watch-lines.ts'

/** `before` is missing for a new object, `after` for a deleted one; both are there, and the same, on a resync. */
export type Change<T> = { readonly key: string; readonly before?: T; readonly after?: T }

export type InformerOptions<T extends KubernetesObject> = {
  /** For logs and metrics: `compliancerules`. */
  readonly name: string
  readonly client: KubernetesClient
  /** Of the collection: `/apis/signet.dev/v1alpha1/compliancerules`. */
  readonly path: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
  /** Asks the server for metadata only. */
  readonly metadataOnly?: boolean
  /** What is kept of an object; null: not of interest, as if it were not there. Must not throw on what a cluster can hold. */
  readonly keep: (object: T) => T | null
  /** Told of each change, in order, also during the first list. What it throws is reported and forgotten. */
  readonly onChange: (change: Change<T>) => void
  /** Every so often each object is told of again, so that what was lost on the way is found. Default 600,000. */
  readonly resyncMs?: number
  readonly clock: Clock
  readonly random: () => number
  readonly observer?: InformerObserver
}

export type InformerObserver = {
  /** The list was read anew. */
  listed(objects: number): void
  /** A list or watch failed, and is tried again. */
  failed(error: unknown, retryAfterMs: number): void
  /** `onChange` or `keep` threw: a defect of ours. */
  handlerFailed(key: string, error: unknown): void
}

export type Informer<T> = {
  /** Lists, then watches, until `signal` aborts; resolves then. Never rejects. */
  run(signal: AbortSignal): Promise<void>
  /** The first list is complete. */
  readonly synced: boolean
  /** Resolves when it is, or when `signal` aborts. */
  whenSynced(signal: AbortSignal): Promise<void>
  /** Milliseconds (monotonic) since the API server was last heard of here; Infinity before the first time. */
  readonly silentMs: number
  get(key: string): T | undefined
  values(): IterableIterator<T>
  readonly size: number
}

const PAGE_OBJECTS = 500
/** A page that is larger is asked for again in smaller ones: parsing it holds the event loop. One object has its limit from etcd. */
const PAGE_BYTES = 16 * 1024 * 1024
const BACKOFF = { baseMs: 200, maxMs: 10_000 }
/** A watch that lived that long ended in the ordinary way. */
const HEALTHY_WATCH_MS = 5_000
const MIN_WATCH_SECONDS = 240
/** With bookmarks a live watch says something every minute. */
const SILENCE_MS = 130_000
const MAX_EVENT_BYTES = 16 * 1024 * 1024
const DEFAULT_RESYNC_MS = 600_000

type WatchEvent<T> = { type: string; object: T & { code?: number; message?: string } }

/** The watch cannot go on from where it was: list again. */
class Expired extends Error {}

/**
 * A local copy of a collection, kept by list and watch, that outlives what happens to API servers: expired resource versions (410), dropped and
 * silent connections, restarts, refusals while roles are being changed, and handlers that throw. The watch goes on from where it
 * broke where the server can; otherwise the list is read anew, in pages, and compared with what is known. Waits between tries grow
 * to 10 s at most.
 */
export function createInformer<T extends KubernetesObject>(options: InformerOptions<T>): Informer<T> {
  const { client, clock, observer } = options
  const objects = new Map<string, T>()
  const waiting = Promise.withResolvers<void>()
  let synced = false
  let heardMs = -Infinity
  let version = ''
  let failures = 0

  const tell = (change: Change<T>): void => {
    try {
      options.onChange(change)
    } catch (error) {
      observer?.handlerFailed(change.key, error)
    }
  }
  const keep = (object: T): T | null => {
    try {
      return options.keep(object)
    } catch (error) {
      observer?.handlerFailed(objectKey(object.metadata), error)
      return null
    }
  }
  const remove = (key: string): void => {
    const before = objects.get(key)
    if (before === undefined) return
    objects.delete(key)
    tell({ key, before })
  }
  const upsert = (object: T): void => {
    const key = objectKey(object.metadata)
    const after = keep(object)
    if (after === null) return remove(key)
    const before = objects.get(key)
    if (
      before?.metadata.resourceVersion !== undefined &&
      before.metadata.resourceVersion === after.metadata.resourceVersion
    )
      return
    objects.set(key, after)
    tell(before === undefined ? { key, after } : { key, before, after })
  }

  const list = async (signal: AbortSignal): Promise<void> => {
    const seen = new Set<string>()
    let next: string | undefined
    let listedVersion = ''
    let limit = PAGE_OBJECTS
    let isComplete = false
    while (!isComplete) {
      let page: ObjectList<T>
      try {
        page = await client.request<ObjectList<T>>({
          path: options.path,
          query: { ...selectors(options), limit, continue: next },
          ...(options.metadataOnly === true ? { accept: METADATA_LIST } : {}),
          ...(limit === 1 ? {} : { maxBytes: PAGE_BYTES }),
          signal,
        })
      } catch (error) {
        if (!isTooLarge(error) || limit === 1) throw error
        limit = Math.ceil(limit / 4)
        continue
      }
      heardMs = clock.monotonicMs()
      for (const object of page.items ?? []) {
        seen.add(objectKey(object.metadata))
        upsert(object)
      }
      next = page.metadata.continue === '' ? undefined : page.metadata.continue
      listedVersion = page.metadata.resourceVersion ?? ''
      isComplete = next === undefined
    }
    for (const key of objects.keys()) if (!seen.has(key)) remove(key)
    version = listedVersion
    observer?.listed(objects.size)
    if (!synced) {
      synced = true
      waiting.resolve()
    }
  }

  const watch = async (signal: AbortSignal): Promise<void> => {
    const body = await client.stream({
      path: options.path,
      query: {
        ...selectors(options),
        watch: true,
        allowWatchBookmarks: true,
        resourceVersion: version,
        // Spread, so that the watches of all replicas do not end together.
        timeoutSeconds: Math.round(MIN_WATCH_SECONDS * (1 + options.random())),
      },
      ...(options.metadataOnly === true ? { accept: METADATA_WATCH } : {}),
      bodyTimeoutMs: SILENCE_MS,
      signal,
    })
    heardMs = clock.monotonicMs()
    for await (const line of watchLines(body, MAX_EVENT_BYTES)) {
      heardMs = clock.monotonicMs()
      const event = line as WatchEvent<T>
      if (event.type === 'ERROR') throw new Expired(event.object.message ?? `code ${event.object.code}`)
      if (event.type === 'ADDED' || event.type === 'MODIFIED') upsert(event.object)
      else if (event.type === 'DELETED') remove(objectKey(event.object.metadata))
      version = event.object.metadata.resourceVersion ?? version
      failures = 0
    }
  }

  const turn = async (signal: AbortSignal): Promise<void> => {
    if (version === '') await list(signal)
    const startedMs = clock.monotonicMs()
    try {
      await watch(signal)
    } catch (error) {
      // An answer that is no watch (410, 504 for a version that a restored etcd never had, 403) leaves no ground to go on from.
      if (error instanceof Expired || apiStatus(error) !== null) version = ''
      throw error
    }
    if (clock.monotonicMs() - startedMs < HEALTHY_WATCH_MS) throw new Error('the watch ended at once')
    failures = 0
  }

  const resync = (signal: AbortSignal): void => {
    const cancel = clock.timer(options.resyncMs ?? DEFAULT_RESYNC_MS, () => {
      for (const [key, object] of objects) tell({ key, before: object, after: object })
      resync(signal)
    })
    signal.addEventListener('abort', cancel, { once: true })
  }

  return {
    async run(signal) {
      const stop = new AbortController()
      const both = AbortSignal.any([signal, stop.signal])
      resync(both)
      while (!signal.aborted) {
        try {
          await turn(signal)
        } catch (error) {
          if (signal.aborted) break
          const bound = Math.min(BACKOFF.maxMs, BACKOFF.baseMs * 2 ** Math.min(failures, 20))
          failures += 1
          const waitMs = Math.max(
            (bound * (1 + options.random())) / 2,
            Math.min(retryAfterMs(error) ?? 0, BACKOFF.maxMs),
          )
          observer?.failed(error, waitMs)
          await pause(clock, waitMs, signal)
        }
      }
      stop.abort()
    },
    get synced() {
      return synced
    },
    async whenSynced(signal) {
      if (signal.aborted) return
      const aborted = Promise.withResolvers<void>()
      const onAbort = (): void => aborted.resolve()
      signal.addEventListener('abort', onAbort, { once: true })
      await Promise.race([waiting.promise, aborted.promise])
      signal.removeEventListener('abort', onAbort)
    },
    get silentMs() {
      return clock.monotonicMs() - heardMs
    },
    get: (key) => objects.get(key),
    values: () => objects.values(),
    get size() {
      return objects.size
    },
  }
}

function selectors({
  labelSelector,
  fieldSelector,
}: {
  readonly labelSelector?: string
  readonly fieldSelector?: string
}): Record<string, string | undefined> {
  return { labelSelector, fieldSelector }
}
