import { join } from 'node:path'
import type { Logger } from 'pino'
import { SignetError } from '#core/error/signet-error.ts'
import type { SpoolDisk } from './disk.ts'
import { FrameEncoder, type LineParts } from './frame.ts'
import { GroupSync } from './group-sync.ts'
import type { Segment } from './recover.ts'
import { encodeSegmentHeader, SEGMENT_HEADER_BYTES, segmentName } from './segment.ts'

const PROBE_INTERVAL_MS = 500
const PROBE_BYTES = 64 * 1024
/** So much of a group waits at most to be written. */
const GROUP_BYTES = 256 * 1024
/** Errors after which the file itself is as good as before; after any other (EIO, EFBIG, …) it is given up for a new one. */
const OUT_OF_SPACE = new Set(['ENOSPC', 'EDQUOT'])

export type SegmentWriterOptions = {
  dir: string
  session: string
  startedAtMs: number
  segmentBytes: number
  fsyncIntervalMs: number
  nextId: number
  disk: SpoolDisk
  logger: Logger
  onSynced: (seconds: number) => void
  /** A segment came to be, or (empty, after a failed sync) is gone again. */
  onOpened: (segment: Segment) => void
  onDropped: (segment: Segment) => void
  /** Frames (`firstSeq` and following) were written to the end of a segment, which is now longer by them. */
  onWritten: (segment: Segment, frames: FrameEncoder, firstSeq: number) => void
}

type Active = { readonly segment: Segment; readonly fd: number }

/** The writing end of the spool: one segment at a time is appended to, and what the disk does wrong is answered here. */
export class SegmentWriter {
  readonly #options: SegmentWriterOptions
  readonly #sync: GroupSync
  readonly #encoder = new FrameEncoder()
  #active: Active | null = null
  #nextId: number
  #lastSeq = 0
  /** Up to which number lines are in the file; those behind it wait for the end of their group. */
  #writtenSeq = 0
  #inGroup = false
  #groupError: unknown = null
  #failure: Error | undefined
  /** A sync failed: nothing is appended until a new segment was synced. */
  #faulted = false
  #probeTimer: NodeJS.Timeout | undefined
  #probing = false
  #closed = false

  constructor(options: SegmentWriterOptions) {
    this.#options = options
    this.#nextId = options.nextId
    this.#sync = new GroupSync({
      disk: options.disk,
      dir: options.dir,
      intervalMs: options.fsyncIntervalMs,
      onSynced: options.onSynced,
      onFault: (error) => this.#onFault(error),
    })
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  get failing(): boolean {
    return this.#failure !== undefined
  }

  get segment(): Segment | null {
    return this.#active?.segment ?? null
  }

  /** Begins the first segment. A full disk does not stop the process: it is not ready, and takes events when there is space. */
  start(): void {
    try {
      this.#open()
    } catch (error) {
      this.#failed(error as Error)
    }
  }

  /** Appends a line; false (nothing written) where that would take more than `room` bytes. In a group it waits for the group's end. */
  append(line: LineParts, room: number): boolean {
    if (this.#faulted) throw unavailable('The disk failed to make audit events durable.', this.#failure)
    const encoder = this.#encoder
    const seq = this.#lastSeq + 1
    encoder.add(line, seq)
    if (encoder.length + SEGMENT_HEADER_BYTES > room) {
      encoder.dropLast()
      return false
    }
    this.#lastSeq = seq
    if (!this.#inGroup || encoder.length > GROUP_BYTES) this.#flush()
    return true
  }

  /** Runs `work` and writes all that it appends at once. Throws SPOOL_UNAVAILABLE where that fails: none of it is to be relied on. */
  group(work: () => void): void {
    this.#inGroup = true
    this.#groupError = null
    try {
      work()
    } finally {
      this.#inGroup = false
      this.#flush()
    }
    // A part of it was to be written early, and was not.
    if (this.#groupError !== null) throw this.#groupError
  }

  /** Writes the frames that wait, into one segment. */
  #flush(): void {
    const encoder = this.#encoder
    const { length } = encoder
    if (length === 0) return
    let active = this.#active
    try {
      if (active === null || active.segment.end + length > this.#options.segmentBytes) active = this.#rotate()
      this.#write(active.fd, encoder.buffer, length)
    } catch (error) {
      encoder.clear()
      this.#lastSeq = this.#writtenSeq
      if (active !== null && active === this.#active) this.#undo(active, error as Error)
      this.#failed(error as Error)
      const failure = unavailable('The disk does not take audit events.', error)
      if (this.#inGroup) this.#groupError = failure
      throw failure
    }
    if (this.#failure !== undefined) this.#recovered()
    const firstSeq = this.#writtenSeq + 1
    active.segment.end += length
    active.segment.lastSeq = this.#lastSeq
    this.#writtenSeq = this.#lastSeq
    this.#sync.touch(active.fd)
    this.#options.onWritten(active.segment, encoder, firstSeq)
    encoder.clear()
  }

  synced(): Promise<void> {
    return this.#sync.synced()
  }

  /** Ends the active segment; the next append begins another. */
  retire(): void {
    if (this.#active === null) return
    const { fd } = this.#active
    this.#active = null
    this.#sync.retire(fd)
  }

  /** Ends writing for good. Rejects with SPOOL_UNAVAILABLE where the last events are not durable. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#probeTimer)
    this.retire()
    await this.#sync.synced()
  }

  #write(fd: number, bytes: Uint8Array, length: number): void {
    const written = this.#options.disk.write(fd, bytes, length)
    if (written === length) return
    throw Object.assign(new Error(`wrote ${written} of ${length} bytes`), { code: 'SHORT_WRITE' })
  }

  #open(): Active {
    const { dir, disk, session, startedAtMs } = this.#options
    const id = this.#nextId
    this.#nextId += 1
    const path = join(dir, segmentName(id))
    const fd = disk.open(path)
    try {
      const header = encodeSegmentHeader({ session, startedAtMs, firstSeq: this.#writtenSeq + 1 })
      this.#write(fd, header, header.length)
    } catch (error) {
      disk.close(fd)
      disk.unlink(path)
      throw error
    }
    const segment: Segment = {
      id,
      path,
      session,
      startedAtMs,
      lastSeq: this.#writtenSeq,
      end: SEGMENT_HEADER_BYTES,
      corrupt: false,
    }
    this.#active = { segment, fd }
    this.#options.onOpened(segment)
    this.#sync.touch(fd)
    this.#sync.directoryChanged()
    return this.#active
  }

  #rotate(): Active {
    const previous = this.#active
    const next = this.#open()
    if (previous !== null) this.#sync.retire(previous.fd)
    return next
  }

  /** Takes back what a failed write left, so that the file ends with a whole frame; gives the file up where that fails too. */
  #undo(active: Active, error: Error): void {
    try {
      this.#options.disk.truncate(active.fd, active.segment.end)
      // An empty one is kept in any case: a disk with space for headers only must not fill with them.
      if (OUT_OF_SPACE.has(errorCode(error)) || active.segment.end === SEGMENT_HEADER_BYTES) return
    } catch {
      // The tail stays torn: it is cut at the next start, and never read before.
    }
    this.retire()
  }

  #failed(error: Error): void {
    if (this.#failure === undefined) {
      this.#options.logger.error(
        { err: error, code: errorCode(error) },
        'the audit spool cannot be written: responses are refused until it can',
      )
    }
    this.#failure = error
    if (!this.#closed) this.#probeTimer ??= setInterval(() => void this.#probe(), PROBE_INTERVAL_MS).unref()
  }

  #recovered(): void {
    this.#failure = undefined
    this.#faulted = false
    clearInterval(this.#probeTimer)
    this.#probeTimer = undefined
    this.#options.logger.info('the audit spool can be written again')
  }

  #onFault(error: Error): void {
    this.#faulted = true
    const active = this.#active
    this.#active = null
    if (active !== null) {
      try {
        this.#options.disk.close(active.fd)
        if (active.segment.end === SEGMENT_HEADER_BYTES) {
          this.#options.disk.unlink(active.segment.path)
          this.#options.onDropped(active.segment)
        }
      } catch {
        // It is given up in any case.
      }
    }
    this.#failed(error)
  }

  /** A proxy that is not ready gets no requests and appends nothing: find out by itself when the disk works again. */
  async #probe(): Promise<void> {
    if (this.#closed || this.#probing || this.#failure === undefined) return
    this.#probing = true
    try {
      const active = this.#active ?? this.#open()
      try {
        this.#write(active.fd, Buffer.alloc(PROBE_BYTES), PROBE_BYTES)
      } finally {
        this.#undo(active, Object.assign(new Error('probe'), { code: 'ENOSPC' }))
      }
      if (this.#faulted) await this.#sync.synced()
      if (this.failing && !this.#closed) this.#recovered()
    } catch {
      // Still failing: tried again at the next interval.
    } finally {
      this.#probing = false
    }
  }
}

export function unavailable(message: string, cause?: unknown): SignetError {
  return new SignetError('SPOOL_UNAVAILABLE', message, { cause })
}

function errorCode(error: Error): string {
  return (error as NodeJS.ErrnoException).code ?? 'UNKNOWN'
}
