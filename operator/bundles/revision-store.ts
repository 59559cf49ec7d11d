import type { JsonObject } from '#core/json/value.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import { bundleFiles } from '#engine/bundle/build.ts'
import { canonicalText } from '#engine/bundle/canonical.ts'
import { SIGNATURES } from '#engine/bundle/layout.ts'
import { openFiles } from '#engine/bundle/load.ts'
import { signaturesFile } from '#engine/bundle/sign.ts'
import type { TrustRoot } from '#engine/bundle/trust.ts'
import type { Blobs } from './blobs.ts'
import { moduleBytes, readModule, storedContent } from './modules.ts'
import type { ObjectStore } from './objects.ts'
import type { StoredRevision } from './revision.ts'

export type StoredParts = Pick<StoredRevision, 'modules' | 'policy'>

/** Contents of revisions: modules and policy data, each stored once however many bundles have it. */
export type RevisionStore = {
  readonly objects: ObjectStore
  /** `packedBytes`: of all of it, compressed. */
  put(modules: readonly BundleModule[], policy: JsonObject): Promise<StoredParts & { readonly packedBytes: number }>
  modules(parts: StoredParts): Promise<readonly BundleModule[]>
  /** The files of the bundle as they were signed, by name. */
  files(scope: string, revision: StoredRevision): Promise<Map<string, Buffer>>
  /**
   * The content of a stored revision, to be signed again: only if the signature that it was published with holds. Throws BUNDLE_INVALID,
   * BUNDLE_UNTRUSTED, BUNDLE_UNAVAILABLE.
   */
  content(
    scope: string,
    revision: StoredRevision,
    trust: TrustRoot,
  ): Promise<{ modules: readonly BundleModule[]; policy: JsonObject }>
}

export function createRevisionStore(objects: ObjectStore, blobs: Blobs): RevisionStore {
  const modules = (parts: StoredParts): Promise<BundleModule[]> =>
    Promise.all(parts.modules.map(async (sha256) => readModule(await blobs.get(sha256))))

  async function files(scope: string, revision: StoredRevision): Promise<Map<string, Buffer>> {
    const policy = JSON.parse((await blobs.get(revision.policy)).toString('utf8')) as JsonObject
    const content = storedContent(scope, revision, await modules(revision), policy)
    return bundleFiles(content).set(SIGNATURES, signaturesFile(revision.signature))
  }

  return {
    objects,
    async put(parts, policy) {
      const stored: { sha256: string; packedBytes: number }[] = []
      for (const bytes of [...parts.map(moduleBytes), Buffer.from(canonicalText(policy))]) {
        stored.push(await blobs.put(bytes))
      }
      return {
        modules: stored.slice(0, -1).map(({ sha256 }) => sha256),
        policy: stored.at(-1)!.sha256,
        packedBytes: stored.reduce((sum, { packedBytes }) => sum + packedBytes, 0),
      }
    },
    modules,
    files,
    async content(scope, revision, trust) {
      const { content } = await openFiles(await files(scope, revision), trust)
      return { modules: content.modules, policy: content.policy }
    },
  }
}
