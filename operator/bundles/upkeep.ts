import { SignetError } from '#core/error/signet-error.ts'
import { pause, type Clock } from '#operator/clock.ts'
import type { Blobs } from './blobs.ts'
import { objectLabels, type ObjectStore } from './objects.ts'
import type { Publisher } from './publisher.ts'
import { namespaceOfIndex, readIndex } from './revisions.ts'
import type { BundleSigner, KeysInUse } from './signer.ts'
import { WRITTEN_AT } from './status-share.ts'

export type UpkeepDeps = {
  readonly objects: ObjectStore
  readonly blobs: Blobs
  readonly publisher: Publisher
  readonly signer: BundleSigner
  readonly clock: Clock
  /** Between two rounds; default 30,000. */
  readonly intervalMs?: number
  /** Between two collections of garbage; default 300,000. */
  readonly collectMs?: number
  readonly onError: (error: unknown) => void
  readonly onUnaudited?: (events: number) => void
  /** What is stored is not believed, since its key is gone or somebody changed it: only the rules themselves can be signed. */
  readonly onUntrusted?: (namespace: string) => void
}

const STATUS_OBJECT_LIFE_MS = 600_000

/**
 * What the leader does without being asked: keys are rotated, bundles signed again before they expire, rollbacks done, events delivered,
 * and what nothing needs removed. One namespace's fault is its own.
 */
export async function keepUp(deps: UpkeepDeps, signal: AbortSignal): Promise<void> {
  const { clock, intervalMs = 30_000, collectMs = 300_000 } = deps
  let collectedMs = -Infinity
  do {
    try {
      const isDue = clock.monotonicMs() - collectedMs >= collectMs
      await upkeepRound(deps, isDue, signal)
      if (isDue) collectedMs = clock.monotonicMs()
    } catch (error) {
      if (!signal.aborted) deps.onError(error)
    }
  } while (await pause(clock, intervalMs, signal))
}

/** Once; rejects when the store does not answer. `collecting`: garbage, too. */
export async function upkeepRound(deps: UpkeepDeps, collecting: boolean, signal: AbortSignal): Promise<void> {
  const { objects, publisher, signer } = deps
  const heads = await objects.listHeads(objectLabels('index'))
  const namespaces = heads.map(({ name }) => namespaceOfIndex(name)).filter((namespace) => namespace !== null)
  const used = new Set<string>()
  const keys = { inForce: new Set<string>(), stored: new Set<string>() }
  /** Of each blob that is in force: whose it is. */
  const users = new Map<string, string[]>()
  let unaudited = 0
  let isComplete = true
  for (const namespace of namespaces) {
    if (signal.aborted) return
    try {
      // After its upkeep, so that what is read is what is now in force.
      const { problems } = await publisher.upkeep(namespace)
      for (const { error } of problems) if (isLost(error)) throw error
      const record = await readIndex(objects, namespace)
      if (record === null) continue
      unaudited += record.index.outbox.length
      for (const [place, revision] of record.index.revisions.entries()) {
        for (const blob of [...revision.modules, revision.policy]) used.add(blob)
        keys.stored.add(revision.key_id)
        if (place > 0) continue
        keys.inForce.add(revision.key_id)
        for (const blob of [...revision.modules, revision.policy]) {
          users.set(blob, [...(users.get(blob) ?? []), namespace])
        }
      }
    } catch (error) {
      isComplete = false
      deps.onError(error)
      if (isLost(error)) deps.onUntrusted?.(namespace)
    }
  }
  deps.onUnaudited?.(unaudited)
  for (const blob of await deps.blobs.damaged(users.keys())) {
    deps.onError(new SignetError('BUNDLE_UNAVAILABLE', `The stored blob ${blob} was damaged; it is stored again`))
    for (const namespace of users.get(blob) ?? []) deps.onUntrusted?.(namespace)
  }
  // What could not be read may need any key and any blob.
  await signer.refresh(isComplete ? keys : await everything(signer))
  if (!collecting || signal.aborted) return
  if (isComplete) await deps.blobs.collect(used)
  await removeStatusObjects(objects, deps.clock.wallMs())
}

/** Its key is gone, or somebody changed it. */
function isLost(error: unknown): boolean {
  return error instanceof SignetError && (error.code === 'BUNDLE_UNTRUSTED' || error.code === 'BUNDLE_INVALID')
}

async function everything(signer: BundleSigner): Promise<KeysInUse> {
  const kids = new Set((await signer.storedTrust()).keys.map(({ kid }) => kid))
  return { inForce: kids, stored: kids }
}

/** Those whose replica is gone. */
async function removeStatusObjects(objects: ObjectStore, nowMs: number): Promise<void> {
  for (const object of await objects.listHeads(objectLabels('status'))) {
    const writtenMs = Date.parse(object.annotations[WRITTEN_AT] ?? '') || object.createdAt.getTime()
    if (nowMs - writtenMs > STATUS_OBJECT_LIFE_MS) await objects.remove(object)
  }
}
