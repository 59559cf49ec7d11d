import { SignetError } from '#core/error/signet-error.ts'
import { objectLabels, type ObjectStore, type StoredObject } from './objects.ts'
import { parseIndex, type RevisionIndex } from './revision.ts'

/** Which revision a person wants in force; stays until the annotation is removed. On the index ConfigMap. */
export const ROLLBACK_TO = 'signet.dev/rollback-to'
/** For people. */
export const REVISION = 'signet.dev/revision'
const NAMESPACE_LABEL = 'signet.dev/bundle-namespace'
const PREFIX = 'signet-bundles-'

/** A namespace's index as it was read. */
export type IndexRecord = {
  readonly namespace: string
  readonly index: RevisionIndex
  /** What the annotation asks for. */
  readonly rollbackTo: string | undefined
  readonly object: StoredObject
}

/** `signet-bundles-NAMESPACE` */
export function indexName(namespace: string): string {
  return `${PREFIX}${namespace}`
}

/** The namespace of an index object; null for another object. */
export function namespaceOfIndex(name: string): string | null {
  return name.startsWith(PREFIX) ? name.slice(PREFIX.length) : null
}

/** Throws BUNDLE_INVALID for an index that is not in form, or is another namespace's. */
export function readIndexObject(object: StoredObject): IndexRecord {
  const namespace = namespaceOfIndex(object.name) ?? ''
  const index = parseIndex(object.data['index.json'], object.name)
  if (index.scope !== `namespace/${namespace}`) {
    parseIndex(undefined, `${object.name} (its scope is ${index.scope})`)
  }
  return { namespace, index, rollbackTo: object.annotations[ROLLBACK_TO], object }
}

/** Whether replicas find it: they follow labels. */
export function isLabelled({ namespace, object }: IndexRecord): boolean {
  return Object.entries(labelsOf(namespace)).every(([name, value]) => object.labels[name] === value)
}

function labelsOf(namespace: string): Record<string, string> {
  return { ...objectLabels('index'), [NAMESPACE_LABEL]: namespace }
}

/** An index object whose content is none any more: somebody wrote it. What it said is lost; `error` says what is wrong with it. */
export type RuinedIndex = Omit<IndexRecord, 'index'> & { readonly index: null; readonly error: SignetError }

/** Written by a later release, which may lead again: not ours to replace. */
function isOfNewerVersion(text: string | undefined): boolean {
  try {
    const { version } = JSON.parse(text ?? '') as { version?: unknown }
    return typeof version === 'number' && version > 1
  } catch {
    return false
  }
}

/** For who can write it anew. Null where there is none. Throws BUNDLE_INVALID for one of a later release. */
export async function readIndexOrRuin(
  objects: ObjectStore,
  namespace: string,
): Promise<IndexRecord | RuinedIndex | null> {
  const object = await objects.read(indexName(namespace))
  if (object === null) return null
  try {
    return readIndexObject(object)
  } catch (error) {
    if (!(error instanceof SignetError) || error.code !== 'BUNDLE_INVALID') throw error
    if (isOfNewerVersion(object.data['index.json'])) throw error
    return { namespace, index: null, rollbackTo: object.annotations[ROLLBACK_TO], object, error }
  }
}

/** Throws BUNDLE_INVALID. Null where there is none. */
export async function readIndex(objects: ObjectStore, namespace: string): Promise<IndexRecord | null> {
  const object = await objects.read(indexName(namespace))
  return object === null ? null : readIndexObject(object)
}

/** Writes an index over the one that was read (null: there was none). Null when another writer was faster. */
export async function writeIndex(
  objects: ObjectStore,
  read: Pick<IndexRecord, 'object'> | null,
  namespace: string,
  index: RevisionIndex,
): Promise<IndexRecord | null> {
  const { 'kubectl.kubernetes.io/last-applied-configuration': _, ...annotations } = read?.object.annotations ?? {}
  const object = {
    name: indexName(namespace),
    labels: { ...read?.object.labels, ...labelsOf(namespace) },
    annotations: { ...annotations, [REVISION]: index.revisions[0]?.revision ?? '' },
    // Pretty, since people read it; parsed again, since what we cannot read back must not get in.
    data: { 'index.json': `${JSON.stringify(index, null, 1)}\n` },
    binaryData: {},
  }
  parseIndex(object.data['index.json'], object.name)
  const written = await (read === null ? objects.create(object) : objects.replace(read.object, object))
  return written === null ? null : readIndexObject(written)
}
