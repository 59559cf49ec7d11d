import { setTimeout as sleep } from 'node:timers/promises'
import { SignetError } from '#core/error/signet-error.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import { readArchiveHead } from '../store/archive.ts'
import {
  addSnapshot,
  claimArchive,
  keepClaim,
  readSnapshots,
  releaseArchive,
  type StoredSnapshot,
} from '../store/snapshots.ts'
import type { ArchiveMetrics } from './metrics.ts'
import { takeSnapshot, type SnapshotDeps } from './snapshot.ts'

export type ArchiveDutyDeps = SnapshotDeps & {
  readonly work: Pool
  readonly log: Logger
  readonly metrics: ArchiveMetrics
  /** Names this process in claims; a uuid. */
  readonly holder: string
  /** Minutes between two snapshots; 0: only on demand. */
  readonly everyMinutes: number
}
export type Archive = {
  /** The last snapshots, the newest first. */
  list(limit: number): Promise<StoredSnapshot[]>
  /** Null where nothing is new. @throws SignetError LEDGER_BUSY while another process makes one; ARCHIVE_UNAVAILABLE, ARCHIVE_INVALID */
  snapshot(): Promise<StoredSnapshot | null>
  stop(): Promise<void>
}

const LOOK_EVERY_MS = 10_000
const AFTER_FAILURE_MS = 60_000
const CHECKPOINT_EVERY_MS = 500
const CHECKPOINT_AFTER_FAILURE_MS = 2_000
const DAY_MS = 86_400_000

/** Archives for as long as the process lives: snapshots now and then, each new checkpoint within a second. */
export function keepArchiving(deps: ArchiveDutyDeps): Archive {
  const { work, wall, store, log, metrics, holder, clock, everyMinutes } = deps
  const stopped = new AbortController()
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal: stopped.signal }).catch(() => undefined)
  const failed = (what: 'snapshot' | 'checkpoint', error: unknown): void => {
    metrics.failures.inc({ what, code: error instanceof SignetError ? error.code : 'INTERNAL' })
    log.warn({ error }, `a ${what} was not archived`)
  }
  // A claim is of a process: two snapshots of one must not go on at once.
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(run: () => Promise<T>): Promise<T> => {
    const done = turn.then(run)
    turn = done.catch(() => undefined)
    return done
  }

  async function make(): Promise<StoredSnapshot | null> {
    await keepClaim(work, 'snapshots', holder)
    try {
      const [last = null] = await readSnapshots(work, 1)
      const made = await takeSnapshot(deps, last, async () => {
        stopped.signal.throwIfAborted()
        await keepClaim(work, 'snapshots', holder)
      })
      if (made !== null) {
        await addSnapshot(work, made)
        log.info({ ...made }, 'a snapshot is archived, read back and proven')
      }
      metrics.lastSnapshot.set(((made ?? last)?.madeAt.getTime() ?? 0) / 1_000)
      return made
    } finally {
      await releaseArchive(work, 'snapshots', holder).catch(() => undefined)
    }
  }

  async function snapshots(): Promise<void> {
    while (!stopped.signal.aborted) {
      let pauseMs = LOOK_EVERY_MS
      try {
        const [last] = await readSnapshots(work, 1)
        metrics.lastSnapshot.set((last?.madeAt.getTime() ?? 0) / 1_000)
        const due = last === undefined || clock().getTime() >= last.madeAt.getTime() + everyMinutes * 60_000
        if (everyMinutes > 0 && due) await inTurn(make)
      } catch (error) {
        if (!stopped.signal.aborted && !(error instanceof SignetError && error.code === 'LEDGER_BUSY')) {
          failed('snapshot', error)
          pauseMs = AFTER_FAILURE_MS
        }
      }
      await pause(pauseMs)
    }
  }

  async function checkpoints(): Promise<void> {
    let size = 0
    while (!stopped.signal.aborted) {
      let pauseMs = CHECKPOINT_EVERY_MS
      try {
        const head = await readArchiveHead(poolReader(wall))
        if (head !== null && head.size > size && (await claimArchive(work, 'checkpoints', holder))) {
          const until = new Date(Math.ceil((clock().getTime() + deps.retainDays * DAY_MS) / 1_000) * 1_000)
          await store.put(`checkpoints/${String(head.size).padStart(16, '0')}`, Buffer.from(head.note), until)
          size = head.size
          metrics.checkpointSize.set(size)
        }
      } catch (error) {
        if (!stopped.signal.aborted) failed('checkpoint', error)
        pauseMs = CHECKPOINT_AFTER_FAILURE_MS
      }
      await pause(pauseMs)
    }
    await releaseArchive(work, 'checkpoints', holder).catch(() => undefined)
  }

  const running = [snapshots(), checkpoints()]
  return {
    list: (limit) => readSnapshots(work, limit),
    snapshot: () => inTurn(make),
    async stop() {
      stopped.abort()
      await Promise.all(running)
      await turn
    },
  }
}
