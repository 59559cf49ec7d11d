import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import { checkpointKey } from '#runtime/archive/checkpoint-search.ts'
import type { ArchivedCheckpoints } from '#runtime/archive/checkpoints.ts'
import type { ObjectStore } from '#runtime/archive/object-store.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { WallReader } from '#runtime/wall/reader.ts'
import { readArchiveHead } from '../store/archive.ts'
import { claimCheckpoints, releaseArchive, saveHeld } from '../store/snapshots.ts'
import { contradicts, holds } from './continuity.ts'

export type CheckpointDeps = {
  readonly reader: WallReader
  readonly work: Pool
  readonly store: ObjectStore
  readonly archived: ArchivedCheckpoints
  readonly holder: string
  /** Until when what is written now is locked. */
  readonly retainUntil: () => Date
  readonly onArchived: (size: number) => void
  readonly onFailure: (error: unknown) => void
}

const EVERY_MS = 500
const AFTER_FAILURE_MS = 2_000
/** It takes somebody to mend that. */
const AFTER_CONTRADICTION_MS = 5_000

type Known = { readonly branch: number; readonly newest: { readonly size: number; readonly root: Buffer } | null }

/**
 * Puts each new checkpoint into the archive within a second. A wall that does not contain the last one there gets none in: it would grow past
 * what contradicts it.
 */
export async function keepCheckpoints(deps: CheckpointDeps, stopped: AbortSignal): Promise<void> {
  const { reader, work, store, archived, holder } = deps
  let known: Known | null = null
  let done = -1

  async function round(): Promise<void> {
    const head = await readArchiveHead(reader)
    if (head === null || head.size === done) return
    const claim = await claimCheckpoints(work, holder)
    if (claim === null) return
    // Another process may have gone on meanwhile, or a restore was stated.
    const isLast =
      known !== null && claim.held?.branch === known.branch && claim.held.size === (known.newest?.size ?? 0)
    if (known === null || !isLast) known = await archived.end()
    const { branch, newest } = known
    if (newest !== null && !(await holds(reader, newest))) throw contradicts(newest)
    if (head.size > (newest?.size ?? 0)) {
      await store.put(checkpointKey(branch, head.size), Buffer.from(head.note), deps.retainUntil())
      known = { branch, newest: head }
    }
    await saveHeld(work, { branch, size: known.newest?.size ?? 0 })
    done = head.size
    deps.onArchived(done)
  }

  while (!stopped.aborted) {
    let pauseMs = EVERY_MS
    try {
      await round()
    } catch (error) {
      known = null
      done = -1
      if (!stopped.aborted) deps.onFailure(error)
      pauseMs =
        error instanceof SignetError && error.code === 'CHAIN_BROKEN' ? AFTER_CONTRADICTION_MS : AFTER_FAILURE_MS
    }
    await sleep(pauseMs, undefined, { signal: stopped }).catch(() => undefined)
  }
  await releaseArchive(work, 'checkpoints', holder).catch(() => undefined)
}
