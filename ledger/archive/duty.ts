import { setTimeout as sleep } from 'node:timers/promises'
import type { RestoreStatement } from '#core/archive/restore.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { ArchivedCheckpoints } from '#runtime/archive/checkpoints.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import { poolReader } from '#runtime/wall/reader.ts'
import {
  addSnapshot,
  keepClaim,
  readHeld,
  readSnapshotInForce,
  readSnapshots,
  releaseArchive,
  type StoredSnapshot,
} from '../store/snapshots.ts'
import { keepCheckpoints } from './checkpoints.ts'
import { findContradiction, stateRestore, type Contradiction } from './continuity.ts'
import { endUnfinished } from '../store/unfinished.ts'
import { keepLocks } from './locks.ts'
import type { ArchiveMetrics } from './metrics.ts'
import { publicKeysOf } from './public-keys.ts'
import { takeSnapshot, type SnapshotDeps } from './snapshot.ts'

export type ArchiveDutyDeps = SnapshotDeps & {
  readonly log: Logger
  readonly metrics: ArchiveMetrics
  /** Name of the log in its checkpoints. */
  readonly origin: string
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
  /** Leaves of the last checkpoint that was archived; 0 where none was. */
  heldSize(): Promise<number>
  /** Restores that were stated, and what there is to state. @throws SignetError ARCHIVE_UNAVAILABLE, ARCHIVE_INVALID */
  restores(): Promise<{ readonly stated: readonly RestoreStatement[]; readonly open: Contradiction | null }>
  /** @throws SignetError as `stateRestore`; LEDGER_BUSY while another process states one */
  stateRestore(statement: {
    readonly reason: string
    readonly by: string
    readonly givesUp: number
    readonly record: (unsigned: Omit<RestoreStatement, 'signature'>) => Promise<void>
  }): Promise<RestoreStatement>
  /** For the verifier: what the tree must contain. */
  readonly archived: ArchivedCheckpoints
  stop(): Promise<void>
}

const LOOK_EVERY_MS = 10_000
const AFTER_FAILURE_MS = 60_000
const DAY_MS = 86_400_000

/** Archives for as long as the process lives: snapshots now and then, each new checkpoint within a second. */
export function keepArchiving(deps: ArchiveDutyDeps): Archive {
  const { work, wall, store, keys, origin, log, metrics, holder, clock, everyMinutes } = deps
  const reader = poolReader(wall)
  const ofArchive = { store, publicKeys: () => publicKeysOf(keys), origin, clock }
  const archived = new ArchivedCheckpoints(ofArchive)
  const stopped = new AbortController()
  const pause = (ms: number): Promise<void> => sleep(ms, undefined, { signal: stopped.signal }).catch(() => undefined)
  const failed = (what: 'snapshot' | 'checkpoint' | 'lock', error: unknown): void => {
    metrics.failures.inc({ what, code: error instanceof SignetError ? error.code : 'INTERNAL' })
    log.warn(
      { error },
      what === 'lock' ? 'locks of the archive could not be made longer' : `a ${what} was not archived`,
    )
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
      const last = await readSnapshotInForce(work, (await archived.end()).restores)
      const made = await takeSnapshot(deps, last, async () => {
        stopped.signal.throwIfAborted()
        await keepClaim(work, 'snapshots', holder)
      })
      if (made !== null) {
        await addSnapshot(work, made)
        await endUnfinished(work)
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

  const retainUntil = (): Date => new Date(Math.ceil((clock().getTime() + deps.retainDays * DAY_MS) / 1_000) * 1_000)
  const checkpoints = (): Promise<void> =>
    keepCheckpoints(
      {
        reader,
        work,
        store,
        archived,
        holder,
        retainUntil,
        onArchived: (size) => metrics.checkpointSize.set(size),
        onFailure: (error) => failed('checkpoint', error),
      },
      stopped.signal,
    )

  const locks = (): Promise<void> =>
    keepLocks(
      {
        ...deps,
        reader,
        archived,
        onEnd: (at) => metrics.lockEnds.set(at.getTime() / 1_000),
        onFailure: (error) => failed('lock', error),
      },
      stopped.signal,
    )

  const running = [snapshots(), checkpoints(), locks()]
  return {
    list: (limit) => readSnapshots(work, limit),
    snapshot: () => inTurn(make),
    heldSize: async () => (await readHeld(work))?.size ?? 0,
    async restores() {
      const end = await archived.end()
      return { stated: end.restores, open: await findContradiction(reader, archived, end) }
    },
    async stateRestore({ record, ...statement }) {
      await keepClaim(work, 'restores', holder)
      try {
        const of = { reader, archived, store, keys, origin, clock, retainUntil: retainUntil(), record }
        const made = await stateRestore(of, statement)
        log.warn({ ...made }, 'the wall is stated to be restored: what the archive has beyond it is given up')
        return made
      } finally {
        await releaseArchive(work, 'restores', holder).catch(() => undefined)
      }
    },
    archived: new ArchivedCheckpoints(ofArchive),
    async stop() {
      stopped.abort()
      await Promise.all(running)
      await turn
    },
  }
}
