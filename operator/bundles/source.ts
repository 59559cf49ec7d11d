import { LRUCache } from 'lru-cache'
import { sha256Hex } from '#engine/bundle/canonical.ts'
import { END_PART, packPart } from '#engine/bundle/pack.ts'
import { OBJECT_LABEL, type ObjectChange, type ObjectStore } from './objects.ts'
import type { StoredRevision } from './revision.ts'
import { namespaceOfIndex, readIndexObject } from './revisions.ts'
import type { RevisionStore } from './revision-store.ts'
import { TRUST_OBJECT, trustText } from './signer.ts'

/** A bundle ready to be sent: its parts, one after the other. */
export type ServedBundle = {
  readonly etag: string
  readonly revision: string
  readonly parts: readonly Buffer[]
  readonly length: number
}

/** What a replica knows of a namespace's index. */
export type IndexSummary = {
  readonly namespace: string
  readonly etag: string
  readonly inForce: StoredRevision
  readonly rollbackTo: string | undefined
  /** Events that the ledger has not acknowledged yet. */
  readonly unaudited: number
  /** Ids of the keys that stored revisions were signed by. */
  readonly storedKeys: readonly string[]
}

export type BundleSource = {
  /** Follows the store until `signal` aborts. Never rejects. */
  run(signal: AbortSignal): Promise<void>
  /** The first list is through; before it nobody can be told that there is no bundle. */
  readonly synced: boolean
  /** The JWKS as text; null before the leader has made it. */
  readonly trust: string | null
  get(namespace: string): IndexSummary | undefined
  all(): IterableIterator<IndexSummary>
  /** Null where there is none. Throws BUNDLE_UNAVAILABLE, BUNDLE_INVALID when the store does not hold what its index says. */
  open(namespace: string): Promise<ServedBundle | null>
  /** Calls back once, when the bundle is another than `etag` (null: none), or never; the returned function takes it back. */
  onNext(namespace: string, etag: string | null, callback: () => void): () => void
  readonly waiting: number
}

export type BundleSourceDeps = {
  readonly objects: ObjectStore
  readonly store: RevisionStore
  /** Packed bundles kept in memory. */
  readonly maxBytes: number
  /** An index changed or went. */
  readonly onChange?: (namespace: string) => void
  readonly onError?: (error: unknown) => void
}

/** Bundles that are put together at the same time; each needs some times its size of memory for a moment. */
const MAX_BUILDS = 2

/** Says which signed bundle this is: the token covers every file, and each signing gives another one. */
export function etagOf(revision: Pick<StoredRevision, 'signature'>): string {
  return `"${sha256Hex(revision.signature).slice(0, 32)}"`
}

export function createBundleSource(deps: BundleSourceDeps): BundleSource {
  const { objects, store } = deps
  const summaries = new Map<string, IndexSummary>()
  const waiters = new Map<string, Set<{ etag: string | null; callback: () => void }>>()
  const parts = new LRUCache<string, Buffer>({ maxSize: deps.maxBytes, sizeCalculation: (bytes) => bytes.length + 200 })
  const building = new Map<string, Promise<ServedBundle>>()
  const turn = createTurns(MAX_BUILDS)
  let synced = false
  let trust: string | null = null
  let waiting = 0

  function onObject(change: ObjectChange): void {
    const name = change.type === 'present' ? change.object.name : change.name
    if (name === TRUST_OBJECT) {
      // A trust root that was deleted is made again by the leader; until then the former one is right.
      if (change.type === 'present') trust = trustText(change.object.data) ?? trust
      return
    }
    const namespace = namespaceOfIndex(name)
    if (namespace === null) return
    if (change.type === 'absent') summaries.delete(namespace)
    else {
      try {
        summaries.set(namespace, summarise(change.object))
      } catch (error) {
        // What was served is still signed and good.
        deps.onError?.(error)
      }
    }
    wake(namespace)
    deps.onChange?.(namespace)
  }

  function wake(namespace: string): void {
    const etag = summaries.get(namespace)?.etag ?? null
    const found = waiters.get(namespace)
    if (found === undefined) return
    for (const waiter of found) if (waiter.etag !== etag) waiter.callback()
  }

  async function build({ namespace, inForce, etag }: IndexSummary): Promise<ServedBundle> {
    const files = await store.files(`namespace/${namespace}`, inForce)
    const wasm = new Map([...files].filter(([name]) => name.endsWith('.wasm')))
    const head = await part(
      etag,
      [...files].filter(([name]) => !wasm.has(name)),
    )
    const rest: Buffer[] = []
    // In the order of the manifest: the root module, which all namespaces share, then the namespace's own.
    for (const [index, [name, content]] of [...wasm].entries()) {
      rest.push(await part(`${inForce.modules[index]}`, [[name, content]]))
    }
    return served(inForce, etag, [head, ...rest, await END_PART])
  }

  async function part(key: string, files: [string, Buffer][]): Promise<Buffer> {
    const found = parts.get(key)
    if (found !== undefined) return found
    const packed = await packPart(files)
    parts.set(key, packed)
    return packed
  }

  /** Of what is in memory; null when a part is not. */
  async function fromMemory({ inForce, etag }: IndexSummary): Promise<ServedBundle | null> {
    const found = [etag, ...inForce.modules].map((key) => parts.get(key))
    return found.every((bytes) => bytes !== undefined) ? served(inForce, etag, [...found, await END_PART]) : null
  }

  return {
    async run(signal) {
      await objects.watch({
        label: OBJECT_LABEL,
        values: ['index', 'trust'],
        onChange: onObject,
        onSynced: () => (synced = true),
        onError: (error) => deps.onError?.(error),
        signal,
      })
    },
    get synced() {
      return synced
    },
    get trust() {
      return trust
    },
    get: (namespace) => summaries.get(namespace),
    all: () => summaries.values(),
    async open(namespace) {
      const summary = summaries.get(namespace)
      if (summary === undefined) return null
      const ready = await fromMemory(summary)
      if (ready !== null) return ready
      const running = building.get(summary.etag)
      if (running !== undefined) return running
      const started = turn(() => build(summary)).finally(() => building.delete(summary.etag))
      building.set(summary.etag, started)
      return started
    },
    onNext(namespace, etag, callback) {
      const waiter = { etag, callback }
      const found = waiters.get(namespace) ?? new Set()
      waiters.set(namespace, found.add(waiter))
      waiting += 1
      return () => {
        if (!found.delete(waiter)) return
        waiting -= 1
        if (found.size === 0 && waiters.get(namespace) === found) waiters.delete(namespace)
      }
    },
    get waiting() {
      return waiting
    },
  }
}

function summarise(object: Parameters<typeof readIndexObject>[0]): IndexSummary {
  const { namespace, index, rollbackTo } = readIndexObject(object)
  const inForce = index.revisions[0]!
  return {
    namespace,
    etag: etagOf(inForce),
    inForce,
    rollbackTo,
    unaudited: index.outbox.length,
    storedKeys: [...new Set(index.revisions.map((revision) => revision.key_id))],
  }
}

function served(revision: StoredRevision, etag: string, parts: readonly Buffer[]): ServedBundle {
  return { etag, revision: revision.revision, parts, length: parts.reduce((sum, bytes) => sum + bytes.length, 0) }
}

/** Runs at most `max` at a time, the others in the order that they came. */
export function createTurns(max: number): <T>(run: () => Promise<T>) => Promise<T> {
  let running = 0
  const queue: (() => void)[] = []
  return async (run) => {
    if (running >= max) await new Promise<void>((resolve) => queue.push(resolve))
    else running += 1
    try {
      return await run()
    } finally {
      const next = queue.shift()
      if (next === undefined) running -= 1
      else next()
    }
  }
}
