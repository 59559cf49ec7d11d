import { readdirSync, readFileSync, renameSync, statSync, truncateSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import type { Logger } from 'pino'
import type { Cursor } from './cursor.ts'
import { inspectSegment, parseSegmentName, SEGMENT_HEADER_BYTES } from './segment.ts'

/** A segment as the running spool knows it. */
export type Segment = {
  readonly id: number
  readonly path: string
  readonly session: string
  readonly startedAtMs: number
  /** `spool_seq` of its last frame; one less than its first where it is empty. */
  lastSeq: number
  /** Length up to the end of the last whole frame: nothing behind it is ever read. */
  end: number
  /** Bytes that are no frame were met between frames: quarantined instead of deleted. */
  corrupt: boolean
}

export type Recovery = {
  readonly segments: Segment[]
  readonly nextId: number
  readonly quarantinedBytes: number
  readonly pendingEvents: number
  readonly pendingBytes: number
}

/**
 * Takes stock of a spool directory: cuts torn tails, removes what was acknowledged, marks corrupt segments (their whole lines are
 * still delivered; then they are quarantined) and quarantines at once what holds no line. Nothing that holds a line is deleted.
 */
export function recoverSpool(dir: string, cursor: Cursor, logger: Logger): Recovery {
  const segments: Segment[] = []
  let nextId = cursor.segment + 1
  let quarantinedBytes = 0
  let pendingEvents = 0
  let pendingBytes = 0
  for (const name of readdirSync(dir).sort()) {
    const parsed = parseSegmentName(name)
    if (parsed === null) continue
    const path = join(dir, name)
    nextId = Math.max(nextId, parsed.id + 1)
    if (parsed.quarantined) {
      quarantinedBytes += statSync(path).size
      continue
    }
    const bytes = readFileSync(path)
    const done = parsed.id < cursor.segment ? Infinity : parsed.id === cursor.segment ? cursor.offset : 0
    const found = inspectSegment(bytes, done)
    if (found.header === null) {
      // A crash between making the file and writing its header leaves a short or empty one.
      if (bytes.length < SEGMENT_HEADER_BYTES || bytes.every((byte) => byte === 0)) unlinkSync(path)
      else quarantinedBytes += quarantineSegment({ path, end: bytes.length }, logger)
      continue
    }
    const torn = bytes.length - found.end
    if (found.corrupt) {
      logger.error(
        { segment: name, bytes: bytes.length, last_spool_seq: found.lastSeq },
        'the audit spool has a corrupt segment: its whole lines are sent, then the file is kept as .corrupt; what is missing shows as a gap in the ledger',
      )
    } else if (torn > 0) {
      logger.warn(
        { segment: name, torn_bytes: torn, last_spool_seq: found.lastSeq },
        'the audit spool has a torn tail, left by a crash within an append: cut off',
      )
      truncateSync(path, found.end)
    }
    const { session, startedAtMs } = found.header
    segments.push({
      id: parsed.id,
      path,
      session,
      startedAtMs,
      lastSeq: found.lastSeq,
      end: found.end,
      corrupt: found.corrupt,
    })
    pendingEvents += found.pendingEvents
    pendingBytes += found.pendingBytes
  }
  return { segments, nextId, quarantinedBytes, pendingEvents, pendingBytes }
}

/** Keeps a segment under a name that no one reads, and returns the bytes that it holds on the disk. */
export function quarantineSegment(segment: Pick<Segment, 'path' | 'end'>, logger: Logger): number {
  const kept = `${segment.path}.corrupt`
  renameSync(segment.path, kept)
  logger.error(
    { path: kept },
    'a corrupt audit segment is kept for inspection: move it away when done, it counts as used space',
  )
  return segment.end
}
