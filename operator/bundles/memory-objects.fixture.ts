import type { NewObject, ObjectStore, StoredObject, WatchObjects } from './objects.ts'

export type MemoryObjects = ObjectStore & {
  readonly all: Map<string, StoredObject>
  /** Called before each write; may throw, or change what is there as another writer would. */
  beforeWrite: (operation: 'create' | 'replace' | 'remove', name: string) => void | Promise<void>
  /** As a person with kubectl does. Undefined removes. */
  annotate(name: string, key: string, value: string | undefined): void
  /** What was written, in order: `create NAME`. */
  readonly writes: string[]
}

/** An API server's ConfigMaps in memory: resource versions, conflicts, watches. `now` dates what is made. */
export function memoryObjects(now: () => Date = () => new Date()): MemoryObjects {
  const all = new Map<string, StoredObject>()
  const watchers = new Set<WatchObjects>()
  const writes: string[] = []
  let version = 0

  const tell = (object: StoredObject, type: 'present' | 'absent'): void => {
    for (const watcher of watchers) {
      if (!watcher.values.includes(object.labels[watcher.label] ?? '')) continue
      queueMicrotask(() => watcher.onChange(type === 'present' ? { type, object } : { type, name: object.name }))
    }
  }
  const put = (object: NewObject, of: { uid: string; createdAt: Date }): StoredObject => {
    const size = [...Object.values(object.data), ...Object.values(object.binaryData)].reduce((s, v) => s + v.length, 0)
    if (size > 1 << 20) throw new Error(`ConfigMap ${object.name} is too long: ${size}`)
    const { name, labels, annotations, data, binaryData } = object
    const { uid, createdAt } = of
    const kept: StoredObject = {
      ...structuredClone({ name, labels, annotations, data }),
      // structuredClone makes plain Uint8Arrays of Buffers.
      binaryData: Object.fromEntries(Object.entries(binaryData).map(([key, value]) => [key, Buffer.from(value)])),
      uid,
      createdAt,
      resourceVersion: String(++version),
    }
    all.set(name, kept)
    tell(kept, 'present')
    return kept
  }

  const store: MemoryObjects = {
    all,
    writes,
    beforeWrite: () => {},
    annotate(name, key, value) {
      const found = all.get(name)
      if (found === undefined) throw new Error(`no ${name}`)
      const { [key]: _, ...rest } = found.annotations
      put({ ...found, annotations: value === undefined ? rest : { ...rest, [key]: value } }, found)
    },
    read: async (name) => all.get(name) ?? null,
    async create(object) {
      await store.beforeWrite('create', object.name)
      if (all.has(object.name)) return null
      writes.push(`create ${object.name}`)
      return put(object, { uid: `uid-${++version}`, createdAt: now() })
    },
    async replace(read, object) {
      await store.beforeWrite('replace', object.name)
      const found = all.get(read.name)
      if (found === undefined || found.resourceVersion !== read.resourceVersion) return null
      writes.push(`replace ${object.name}`)
      return put(object, found)
    },
    async remove(read) {
      await store.beforeWrite('remove', read.name)
      const found = all.get(read.name)
      if (found === undefined || found.resourceVersion !== read.resourceVersion || found.uid !== read.uid) return false
      writes.push(`remove ${read.name}`)
      all.delete(read.name)
      tell(found, 'absent')
      return true
    },
    listHeads: async (labels) =>
      [...all.values()]
        .filter((object) => Object.entries(labels).every(([key, value]) => object.labels[key] === value))
        .map((object) => ({ ...object, data: {}, binaryData: {} })),
    async watch(options) {
      for (const object of all.values()) {
        if (options.values.includes(object.labels[options.label] ?? '')) options.onChange({ type: 'present', object })
      }
      options.onSynced()
      watchers.add(options)
      await new Promise<void>((resolve) => {
        if (options.signal.aborted) resolve()
        options.signal.addEventListener('abort', () => resolve(), { once: true })
      })
      watchers.delete(options)
    },
  }
  return store
}
