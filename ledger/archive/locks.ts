import { setTimeout as sleep } from 'node:timers/promises'
import type { ArchiveManifest } from '#core/archive/manifest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { checkpointKey } from '#runtime/archive/checkpoint-search.ts'
import type { ArchivedCheckpoints } from '#runtime/archive/checkpoints.ts'
import type { ObjectStore } from '#runtime/archive/object-store.ts'
import { restoreKey } from '#runtime/archive/restores.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { WallReader } from '#runtime/wall/reader.ts'
import type { LedgerKeys } from '../keys.ts'
import { readPurged } from '../store/archive.ts'
import { claimArchive, keepClaim, readSnapshotInForce, releaseArchive } from '../store/snapshots.ts'
import { readLast } from './snapshot.ts'
import { wholeSecond } from './tenant-part.ts'

export type LockDeps = {
  readonly work: Pool
  readonly store: ObjectStore
  readonly keys: LedgerKeys
  readonly reader: WallReader
  readonly archived: ArchivedCheckpoints
  readonly clock: () => Date
  readonly retainDays: number
}

const DAY_MS = 86_400_000
const LOOK_EVERY_MS = 60 * 60_000
const AFTER_FAILURE_MS = 5 * 60_000
const MAX_LEAD_MS = 90 * DAY_MS

/** How long before its end a lock is made longer. */
export function leadOf(retainDays: number): number {
  return Math.min(MAX_LEAD_MS, (retainDays * DAY_MS) / 4)
}

type Kept = { readonly key: string; readonly version: string | undefined; readonly until: Date | null }

/**
 * Makes locks longer, by `retainDays` from now, of what is needed for longer than they last: the last snapshot with all that it names, the
 * statements of restores, the newest checkpoint. Not of records that the wall purged: their time was that of their class. `beat` is called before
 * each object that is looked at. Gives when the first of all locks ends, null where nothing is archived.
 * @throws SignetError ARCHIVE_UNAVAILABLE, ARCHIVE_INVALID where what is needed is not there
 */
export async function extendLocks(deps: LockDeps, beat: () => Promise<void>): Promise<Date | null> {
  const { store, clock, retainDays } = deps
  const now = clock().getTime()
  const soon = now + leadOf(retainDays)
  const longer = wholeSecond(now + retainDays * DAY_MS)
  const extended = async ({ key, version, until }: Kept): Promise<Date> => {
    if (until !== null && until.getTime() >= soon) return until
    await beat()
    const ends = await store.lockedUntil(key, version)
    if (ends !== null && ends.getTime() >= soon) return ends
    await store.extendLock(key, version, longer)
    return longer
  }
  let first: Date | null = null
  let missing: SignetError | null = null
  for await (const kept of keptObjects(deps)) {
    try {
      const ends = await extended(kept)
      if (first === null || ends < first) first = ends
    } catch (error) {
      // One that is gone must not cost the others their locks.
      if (!(error instanceof SignetError) || error.code !== 'ARCHIVE_INVALID') throw error
      missing ??= error
    }
  }
  if (missing !== null) throw missing
  return first
}

async function* keptObjects({ work, store, keys, reader, archived }: LockDeps): AsyncGenerator<Kept> {
  const { branch, newest, restores } = await archived.end()
  const unpinned = (key: string): Kept => ({ key, version: undefined, until: null })
  // The versions that count are the oldest: what came over them is somebody else's.
  for (const { number } of restores) {
    for (const version of await store.versions(restoreKey(number))) yield { ...unpinned(restoreKey(number)), version }
  }
  if (newest !== null && newest.size > (restores.at(-1)?.continues.size ?? 0)) {
    const key = checkpointKey(branch, newest.size)
    for (const version of await store.versions(key)) yield { ...unpinned(key), version }
  }
  const last = await readSnapshotInForce(work, restores)
  if (last === null) return
  yield { ...unpinned(last.manifestKey), version: last.manifestVersion ?? undefined }
  yield* objectsOf(await readLast({ store, keys }, last), reader)
}

async function* objectsOf(manifest: ArchiveManifest, reader: WallReader): AsyncGenerator<Kept> {
  const kept = ({ key, version, retain_until }: ArchiveManifest['runs'][number]): Kept => ({
    key,
    version,
    until: new Date(retain_until),
  })
  yield* manifest.runs.map(kept)
  for (const objects of Object.values(manifest.tables)) yield* objects.map(kept)
  for (const { tenant, links, parts } of manifest.tenants) {
    yield* links.map(kept)
    const purged = await readPurged(reader, tenant)
    for (const { retention_class, month, objects, stamps } of parts) {
      if (purged.has(`${retention_class} ${month}`)) continue
      yield* objects.map(kept)
      yield* stamps.map(kept)
    }
  }
}

/** Looks as often as the first lock that ends asks for; one process at a time. */
export async function keepLocks(
  deps: LockDeps & {
    readonly holder: string
    readonly onEnd: (first: Date) => void
    readonly onFailure: (error: unknown) => void
  },
  stopped: AbortSignal,
): Promise<void> {
  const { work, holder, clock, retainDays } = deps
  let first: Date | null = null
  const beat = async (): Promise<void> => {
    stopped.throwIfAborted()
    await keepClaim(work, 'locks', holder)
  }
  while (!stopped.aborted) {
    let pauseMs = LOOK_EVERY_MS
    try {
      const due = first === null || first.getTime() < clock().getTime() + leadOf(retainDays)
      if (due && (await claimArchive(work, 'locks', holder))) {
        first = await extendLocks(deps, beat)
        if (first !== null) deps.onEnd(first)
      }
    } catch (error) {
      if (!stopped.aborted) deps.onFailure(error)
      pauseMs = AFTER_FAILURE_MS
    }
    await sleep(pauseMs, undefined, { signal: stopped }).catch(() => undefined)
  }
  await releaseArchive(work, 'locks', holder).catch(() => undefined)
}
