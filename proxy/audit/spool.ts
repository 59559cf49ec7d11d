import { mkdirSync } from 'node:fs'
import { unlink } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Logger } from 'pino'
import { SignetError } from '#core/error/signet-error.ts'
import { loadCursor, saveCursor, type Cursor } from './cursor.ts'
import { realDisk, type SpoolDisk } from './disk.ts'
import { FRAME_HEADER_BYTES, MAX_LINE_BYTES, type FrameEncoder, type LineParts } from './frame.ts'
import type { LineBatch } from './line-batch.ts'
import { RecentLines, type RecentLimits } from './recent-lines.ts'
import { quarantineSegment, recoverSpool, type Segment } from './recover.ts'
import { SEGMENT_HEADER_BYTES } from './segment.ts'
import { SegmentWriter, unavailable } from './segment-writer.ts'
import { lockSpool } from './spool-lock.ts'
import { readBatch } from './spool-reader.ts'

/** What a crash takes with it of the cursor is sent again, and recognised. */
const CURSOR_DELAY_MS = 1_000
const NOTHING_RECENT: RecentLimits = { batches: 0, batchItems: 0, batchBytes: 0 }

export type SpoolOptions = {
  dir: string
  /** UUID of this run; every line appended belongs to it. */
  session: string
  startedAt: Date
  logger: Logger
  /** Bytes on disk, quarantined segments included; at least four segments. Default 1 GiB. */
  maxBytes?: number
  /** Size at which a new segment is begun, from 4 KiB. Default 16 MiB. */
  segmentBytes?: number
  /** Longest time from an append to the start of its sync, 0 to 10 ms. Default 10. */
  fsyncIntervalMs?: number
  /** Called after each sync with its duration. */
  onSynced?: (seconds: number) => void
  disk?: SpoolDisk
  /** Batches of the lines appended last that are kept in memory for `read`. Default none: all are read from the disk. */
  recent?: RecentLimits
}

/** What is to be sent next: a session, its last number, and whether lines of it are waiting. */
export type SpoolHead = {
  readonly session: string
  readonly startedAtMs: number
  readonly lastSeq: number
  readonly current: boolean
  readonly pending: boolean
}

/** Opens a spool, recovers what a predecessor left. Throws SPOOL_LOCKED, CONFIG_INVALID, or what the file system says. */
export function openSpool(options: SpoolOptions): Spool {
  return new Spool(options)
}

/**
 * A durable queue of audit lines in a directory: appended synchronously, made durable in groups, read from the front by the sender,
 * deleted when acknowledged. One process at a time. Survives `kill -9` at any point without losing a line whose append returned;
 * a power failure may take what was appended in the last `fsyncIntervalMs` and during the sync then under way (see `synced`).
 */
export class Spool {
  readonly #dir: string
  readonly #session: string
  readonly #maxBytes: number
  readonly #logger: Logger
  readonly #release: () => void
  readonly #writer: SegmentWriter
  readonly #recent: RecentLines
  #segments: Segment[]
  #diskBytes: number
  #pendingEvents: number
  #pendingBytes: number
  #cursor: Cursor
  #cursorTimer: NodeJS.Timeout | undefined
  #cursorSaving: Promise<void> | undefined
  #full = false
  #closed = false
  #wake: (() => void) | undefined

  constructor(options: SpoolOptions) {
    const { dir, logger, maxBytes = 1024 ** 3, segmentBytes = 16 * 1024 ** 2, fsyncIntervalMs = 10 } = options
    checkLimits(maxBytes, segmentBytes, fsyncIntervalMs)
    mkdirSync(dir, { recursive: true, mode: 0o700 })
    this.#release = lockSpool(dir, { pid: process.pid, startedAt: options.startedAt.toISOString() })
    try {
      const { cursor, damaged } = loadCursor(dir)
      if (damaged) logger.error({ dir }, 'the audit spool cursor is unreadable: everything in the spool is sent again')
      const found = recoverSpool(dir, cursor, logger)
      this.#cursor = cursor
      this.#segments = found.segments
      this.#pendingEvents = found.pendingEvents
      this.#pendingBytes = found.pendingBytes
      this.#diskBytes = found.quarantinedBytes + found.segments.reduce((sum, { end }) => sum + end, 0)
      this.#writer = new SegmentWriter({
        dir,
        session: options.session,
        startedAtMs: options.startedAt.getTime(),
        segmentBytes,
        fsyncIntervalMs,
        nextId: found.nextId,
        disk: options.disk ?? realDisk,
        logger,
        onSynced: options.onSynced ?? (() => undefined),
        onOpened: (segment) => this.#onOpened(segment),
        onDropped: (segment) => this.#onDropped(segment),
        onWritten: (segment, frames, firstSeq) => this.#onWritten(segment, frames, firstSeq),
      })
    } catch (error) {
      this.#release()
      throw error
    }
    this.#recent = new RecentLines(options.recent ?? NOTHING_RECENT)
    this.#dir = dir
    this.#session = options.session
    this.#maxBytes = maxBytes
    this.#logger = logger
    this.#writer.start()
  }

  /** Number of the last line appended in this session, 0 before the first. The next line must carry `lastSeq + 1`. */
  get lastSeq(): number {
    return this.#writer.lastSeq
  }

  get pendingEvents(): number {
    return this.#pendingEvents
  }

  /** Bytes of the lines that are not acknowledged. */
  get pendingBytes(): number {
    return this.#pendingBytes
  }

  get diskBytes(): number {
    return this.#diskBytes
  }

  /** The head of the chain that was handed to the last `acknowledge`, also of an earlier run. */
  get checkpoint(): Cursor['checkpoint'] {
    return this.#cursor.checkpoint
  }

  /** False while an append would be refused, or soon (the last eighth, at most 1 MiB): for readiness. */
  get writable(): boolean {
    const reserve = Math.min(MAX_LINE_BYTES, this.#maxBytes / 8)
    return !this.#closed && !this.#writer.failing && this.#diskBytes + reserve <= this.#maxBytes
  }

  /**
   * Appends one line (UTF-8, 1 byte to 1 MiB, no line feed; it may come in parts) as number `lastSeq + 1`. On return it is in the
   * page cache: it survives the death of the process. Throws SPOOL_UNAVAILABLE (full, disk failure, closed) or AUDIT_EVENT_INVALID;
   * then nothing of the line is kept and the number is free.
   */
  append(...line: LineParts): void {
    if (this.#closed) throw unavailable('The audit spool is closed.')
    if (!this.#writer.append(line, this.#maxBytes - this.#diskBytes)) this.#refuse()
  }

  /**
   * Runs `work` and writes what it appends together when it returns: then it is in the page cache, and not before. Throws
   * SPOOL_UNAVAILABLE where that fails: then no line of the group may be relied on (some may have been kept), and numbers may be free.
   */
  group(work: () => void): void {
    this.#writer.group(work)
  }

  /** Resolves when all appended so far survives a power failure; rejects with SPOOL_UNAVAILABLE where it may not. */
  synced(): Promise<void> {
    return this.#writer.synced()
  }

  /** The session to be sent next, or null where the spool holds none. */
  head(): SpoolHead | null {
    const segment = this.#front()
    if (segment === null) return null
    const { session, startedAtMs } = segment
    const current = session === this.#session
    const last = this.#segments.findLast((other) => other.session === session) ?? segment
    const pending = Math.max(this.#cursor.offset, SEGMENT_HEADER_BYTES) < segment.end
    return { session, startedAtMs, lastSeq: current ? this.lastSeq : last.lastSeq, current, pending }
  }

  /** The next lines of the session at the head, in order, without moving on; may be empty where only damage was skipped. */
  async read(maxItems: number, maxBytes: number): Promise<LineBatch | null> {
    const segment = this.#front()
    if (segment === null) return null
    const from = Math.max(this.#cursor.offset, SEGMENT_HEADER_BYTES)
    const recent = this.#recent.take(segment.id, from, maxItems, maxBytes)
    if (recent !== null) return recent
    const end = Math.min(segment.end, this.#recent.startBehind(segment.id, from))
    const batch = await readBatch({ id: segment.id, path: segment.path, end }, from, { maxItems, maxBytes })
    if (batch.skippedBytes > 0) {
      segment.corrupt = true
      this.#logger.error(
        { segment: basename(segment.path), skipped_bytes: batch.skippedBytes },
        'damaged bytes in the audit spool were passed over; what is missing shows as a gap in the ledger',
      )
    }
    return batch
  }

  /**
   * Marks the first `count` lines of `batch` as done with (all of them: what was passed over behind them, too), and takes the batch
   * back if `reusable`: nobody looks at it any more. `checkpoint`: the head that the ledger last signed.
   */
  acknowledge(batch: LineBatch, checkpoint: Cursor['checkpoint'], count = batch.count, reusable = false): void {
    const offset = count === batch.count ? batch.end : count === 0 ? batch.start : batch.offset(count - 1)
    this.#cursor = { version: 1, segment: batch.segment, offset, checkpoint }
    this.#pendingEvents = Math.max(0, this.#pendingEvents - count)
    const bytes = batch.lengthOf(count) - count
    this.#pendingBytes = this.#pendingEvents === 0 ? 0 : Math.max(0, this.#pendingBytes - bytes)
    if (reusable) this.#recent.release(batch)
    // On a full disk this is what makes space.
    this.#cursorTimer ??= setTimeout(() => void this.saveCursor(), this.writable ? CURSOR_DELAY_MS : 0).unref()
  }

  /** Gives up the segment at the head after reading it failed for good: it is quarantined, its lines show as a gap. */
  skipSegment(): void {
    const segment = this.#front()
    if (segment === null) return
    if (segment === this.#writer.segment) this.#writer.retire()
    segment.corrupt = true
    this.#cursor = { ...this.#cursor, segment: segment.id, offset: segment.end }
    this.#logger.error(
      { segment: basename(segment.path) },
      'a segment of the audit spool cannot be read and is passed over',
    )
  }

  /** Forgets a session that is drained and closed at the ledger. */
  async forgetSession(session: string): Promise<void> {
    if (session === this.#session) this.#writer.retire()
    const last = this.#segments.findLast((segment) => segment.session === session)
    if (last === undefined) return
    this.#cursor = { ...this.#cursor, segment: last.id + 1, offset: 0 }
    await this.saveCursor()
  }

  /** Saves the cursor and removes what is before it. Never rejects: a cursor that lags only means that lines are sent twice. */
  saveCursor(): Promise<void> {
    clearTimeout(this.#cursorTimer)
    this.#cursorTimer = undefined
    this.#cursorSaving = this.#saveAfter(this.#cursorSaving)
    return this.#cursorSaving
  }

  /** Resolves at the next append or `interrupt`; at once where lines wait already. */
  appended(): Promise<void> {
    if (this.head()?.pending === true) return Promise.resolve()
    return new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  interrupt(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  /** Syncs, saves the cursor and gives the directory free. What is not acknowledged stays for the next process. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#writer.close()
    } catch (error) {
      this.#logger.error({ err: error }, 'the audit spool could not be synced on close')
    }
    await this.saveCursor()
    this.#release()
  }

  /** Moves over exhausted segments of a session and returns the segment at the cursor. */
  #front(): Segment | null {
    let index = this.#segments.findIndex((segment) => segment.id >= this.#cursor.segment)
    let segment = this.#segments[index]
    if (segment === undefined) return null
    if (segment.id > this.#cursor.segment) this.#cursor = { ...this.#cursor, segment: segment.id, offset: 0 }
    for (;;) {
      const next: Segment | undefined = this.#segments[index + 1]
      const exhausted = Math.max(this.#cursor.offset, SEGMENT_HEADER_BYTES) >= segment.end
      if (!exhausted || next === undefined || next.session !== segment.session) return segment
      segment = next
      index += 1
      this.#cursor = { ...this.#cursor, segment: segment.id, offset: 0 }
    }
  }

  async #saveAfter(previous: Promise<void> | undefined): Promise<void> {
    await previous
    try {
      await saveCursor(this.#dir, this.#cursor)
    } catch (error) {
      this.#logger.error({ err: error }, 'the audit spool cursor could not be saved')
    }
    // Also where it was not saved: on a full disk this is what makes space, and a missing segment counts as done.
    await this.#removeDone()
  }

  async #removeDone(): Promise<void> {
    const done = this.#segments.filter(
      (segment) => segment.id < this.#cursor.segment && segment !== this.#writer.segment,
    )
    this.#segments = this.#segments.filter((segment) => !done.includes(segment))
    for (const segment of done) {
      try {
        if (segment.corrupt) {
          quarantineSegment(segment, this.#logger)
          continue
        }
        await unlink(segment.path)
      } catch (error) {
        this.#logger.error({ err: error, path: segment.path }, 'a segment of the audit spool could not be removed')
        continue
      }
      this.#diskBytes -= segment.end
    }
    if (this.#full && this.writable) {
      this.#full = false
      this.#logger.info('the audit spool has space again')
    }
  }

  #onWritten(segment: Segment, frames: FrameEncoder, firstSeq: number): void {
    const { buffer, length, ends } = frames
    const base = segment.end - length
    let start = 0
    for (let index = 0; index < ends.length; index += 1) {
      const end = ends[index] as number
      this.#recent.add(segment.id, base + start, base + end, firstSeq + index, buffer, start + FRAME_HEADER_BYTES, end)
      start = end
    }
    this.#diskBytes += length
    this.#pendingEvents += ends.length
    this.#pendingBytes += length - ends.length * FRAME_HEADER_BYTES
    if (this.#wake !== undefined) this.interrupt()
  }

  #onOpened(segment: Segment): void {
    this.#segments.push(segment)
    this.#diskBytes += segment.end
  }

  #onDropped(segment: Segment): void {
    this.#segments = this.#segments.filter((other) => other !== segment)
    this.#diskBytes -= segment.end
  }

  #refuse(): never {
    if (!this.#full) {
      this.#full = true
      this.#logger.error(
        { disk_bytes: this.#diskBytes, max_bytes: this.#maxBytes, pending_events: this.#pendingEvents },
        'the audit spool is full: responses are refused until the ledger takes events',
      )
    }
    throw unavailable(`The audit spool is full: it may hold ${this.#maxBytes} bytes.`)
  }
}

function checkLimits(maxBytes: number, segmentBytes: number, fsyncIntervalMs: number): void {
  const inRange = segmentBytes >= 4096 && maxBytes >= 4 * segmentBytes && fsyncIntervalMs >= 0 && fsyncIntervalMs <= 10
  if (inRange) return
  throw new SignetError(
    'CONFIG_INVALID',
    `The audit spool takes segments of at least 4096 bytes (not ${segmentBytes}), at least four of them in its limit (not ${maxBytes} bytes), and syncs within 0 to 10 ms (not ${fsyncIntervalMs}).`,
  )
}
