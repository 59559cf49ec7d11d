import { randomUUID } from 'node:crypto'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from '#runtime/postgres/transaction.ts'
import type { Logger } from '#runtime/telemetry/log.ts'
import type { MetricsRegistry } from '#runtime/telemetry/metrics.ts'
import type { Batch } from '../entry.ts'
import type { Sequencer } from '../sequencer.ts'
import { attemptOf, counted, type CountedAttempt, type Watched } from './attempt.ts'
import { claimCursor, releaseCursor, saveCursor, type LogCursor } from './cursor.ts'
import { logFiles, readChunk, type LogFile } from './log-files.ts'
import { createWallLogMetrics } from './metrics.ts'

export type WallLogDeps = {
  readonly work: Pool
  readonly sequencer: Sequencer
  readonly log: Logger
  readonly registry: MetricsRegistry
  /** Folder of the wall's jsonlog files. */
  readonly dir: string
  readonly watched: Watched
  /** Whose chain has the attempts. */
  readonly tenant: string
}

const POLL_MS = 1_000
const RETRY_MS = 5_000
const MAX_CHUNK_BYTES = 256 * 1024
const MAX_EVENTS_A_CHUNK = 50
const LEDGER = 'signet-ledger'

/** Follows the log of the wall's server and records attempts on the wall, in one process at a time, for as long as this one lives. */
export function watchWallLog(deps: WallLogDeps): { stop(): Promise<void> } {
  const { work, log, registry } = deps
  const stopped = new AbortController()
  const holder = randomUUID()
  const { recorded, behind } = createWallLogMetrics(registry)
  const onRecorded = ({ kind, count }: CountedAttempt): void => recorded.inc({ kind }, count)

  async function follow(): Promise<void> {
    let failing = false
    while (!stopped.signal.aborted) {
      const outcome = await readOn(deps, holder, onRecorded).catch((error: unknown) => {
        if (!failing)
          log.error({ error, dir: deps.dir }, "the log of the wall's server cannot be followed; it is tried again")
        failing = true
        return null
      })
      if (outcome !== null) {
        if (failing) log.info('the log of the wall is followed again')
        failing = false
        behind.set(outcome.behindBytes)
        if (outcome.more) continue
      }
      await sleep(outcome === null ? RETRY_MS : POLL_MS, undefined, { signal: stopped.signal }).catch(() => undefined)
    }
  }
  const following = follow()
  return {
    async stop() {
      stopped.abort()
      await following
      await releaseCursor(work, deps.dir, holder).catch(() => undefined)
    },
  }
}

/** One chunk of the log. `more`: there is another at once. */
async function readOn(
  { work, sequencer, dir, watched, tenant }: WallLogDeps,
  holder: string,
  onRecorded: (attempt: CountedAttempt) => void,
): Promise<{ more: boolean; behindBytes: number }> {
  const cursor = await claimCursor(work, dir, holder)
  if (cursor === null) return { more: false, behindBytes: 0 }
  const files = await logFiles(dir)
  const at = placeOf(files, cursor)
  if (at === null) return { more: false, behindBytes: 0 }
  const { file, position, until, lost } = at
  const { values, end } = await readChunk(path.join(dir, file.name), position, { maxBytes: MAX_CHUNK_BYTES, until })
  const here = { file: file.name, identity: file.identity }
  const attempts = counted(
    values.flatMap((value) => attemptOf(value, watched) ?? []),
    MAX_EVENTS_A_CHUNK,
  )
  const all = lost === null ? attempts : [lostLog(lost), ...attempts]
  if (all.length > 0) {
    // First how far this goes: after a crash exactly the same is recorded again, and so is in the chain once.
    if (lost === null && !(await saveCursor(work, dir, holder, { ...here, position, pending: end })))
      return { more: false, behindBytes: 0 }
    await sequencer.append(attemptsOf(tenant, all))
    all.forEach(onRecorded)
  }
  await saveCursor(work, dir, holder, { ...here, position: end, pending: null })
  const later = files.slice(files.indexOf(file) + 1)
  const behindBytes = file.size - end + later.reduce((sum, { size }) => sum + size, 0)
  return { more: end > position && behindBytes > 0, behindBytes: Math.max(behindBytes, 0) }
}

type Place = {
  readonly file: LogFile
  readonly position: number
  readonly until: number | null
  readonly lost: LogCursor | null
}

/** Where to read on; null where there is nothing yet. `lost`: the place that is no longer there. */
export function placeOf(files: readonly LogFile[], cursor: LogCursor): Place | null {
  const index = files.findIndex(({ identity }) => identity === cursor.identity)
  const file = files[index]
  if (file === undefined || file.size < cursor.position) {
    const first = files[0]
    if (first === undefined) return null
    return { file: first, position: 0, until: null, lost: cursor.identity === null ? null : cursor }
  }
  const next = files[index + 1]
  if (cursor.pending === null && file.size === cursor.position && next !== undefined)
    return { file: next, position: 0, until: null, lost: null }
  return { file, position: cursor.position, until: cursor.pending, lost: null }
}

function lostLog({ file, identity, position }: LogCursor): CountedAttempt {
  return {
    kind: 'log-lost',
    login: null,
    client: null,
    command: `${file} was removed or emptied before it was read to its end`,
    sqlstate: null,
    at: '',
    lastAt: '',
    line: `${identity}/${position}`,
    count: 1,
  }
}

function attemptsOf(tenant: string, attempts: readonly CountedAttempt[]): Batch {
  return {
    producer: { tenant, producerId: LEDGER },
    entries: attempts.map(({ kind, login, client, command, sqlstate, at, lastAt, line, count }) => ({
      kind: 'notice',
      type: 'audit.wall.attempt',
      cause: [kind, line],
      outcome: kind.endsWith('refused') || kind === 'permission-denied' ? 'denied' : 'unknown',
      resourceType: 'wall',
      resourceId: kind,
      context: { kind, database_role: login, client, command, sqlstate, count, first_at: at, last_at: lastAt },
    })),
  }
}
