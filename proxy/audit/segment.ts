import { crc32 } from 'node:zlib'
import { findFrame, MAX_FRAME_BYTES, readFrame } from './frame.ts'

/**
 * A segment is one file of the spool: a header of 64 bytes, then frames. All of it belongs to one session (one run of a proxy).
 *
 *   0  magic       "SGSPOOL1"
 *   8  session     UUID, 16 bytes
 *  24  started_at  when the session began, milliseconds since 1970, 64 bit little-endian
 *  32  first_seq   spool_seq of the first frame, 64 bit little-endian
 *  40  zeros
 *  60  crc32       of bytes 0 … 59
 */
export const SEGMENT_HEADER_BYTES = 64
const MAGIC = Buffer.from('SGSPOOL1', 'latin1')
const NAME = /^segment-(\d{16})\.spool(\.corrupt)?$/

export type SegmentHeader = { readonly session: string; readonly startedAtMs: number; readonly firstSeq: number }

export function segmentName(id: number): string {
  return `segment-${String(id).padStart(16, '0')}.spool`
}

/** The id in a segment's file name (quarantined ones end in `.corrupt`), or null for any other file. */
export function parseSegmentName(name: string): { id: number; quarantined: boolean } | null {
  const match = NAME.exec(name)
  return match === null ? null : { id: Number(match[1]), quarantined: match[2] !== undefined }
}

export function encodeSegmentHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES)
  MAGIC.copy(bytes)
  bytes.write(header.session.replaceAll('-', ''), 8, 'hex')
  bytes.writeBigUInt64LE(BigInt(header.startedAtMs), 24)
  bytes.writeBigUInt64LE(BigInt(header.firstSeq), 32)
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60)
  return bytes
}

function decodeSegmentHeader(bytes: Buffer): SegmentHeader | null {
  if (bytes.length < SEGMENT_HEADER_BYTES || !bytes.subarray(0, 8).equals(MAGIC)) return null
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) return null
  const hex = bytes.toString('hex', 8, 24)
  return {
    session: [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-'),
    startedAtMs: Number(bytes.readBigUInt64LE(24)),
    firstSeq: Number(bytes.readBigUInt64LE(32)),
  }
}

export type Inspection = {
  /** Null where neither the header nor a line says whose segment this is: nothing in it can be sent. */
  readonly header: SegmentHeader | null
  /** Number of the last intact frame; `first_seq - 1` where there is none. */
  readonly lastSeq: number
  /** Offset behind the last intact frame: what follows is a torn tail. */
  readonly end: number
  /** Intact frames that end after `from`, and the bytes of their lines. */
  readonly pendingEvents: number
  readonly pendingBytes: number
  /** Damage that no interrupted append explains: bytes that are no frame before bytes that are one, or a broken header. */
  readonly corrupt: boolean
}

/**
 * Reads a segment as found at start. An append that was cut off by a crash leaves an incomplete or wrong frame at the very end
 * (or, after a power failure, zeros): a torn tail. Anything else that is no frame is corruption.
 */
export function inspectSegment(bytes: Buffer, from: number): Inspection {
  let header = decodeSegmentHeader(bytes)
  let corrupt = header === null
  let offset = SEGMENT_HEADER_BYTES
  let lastSeq = header === null ? 0 : header.firstSeq - 1
  let pendingEvents = 0
  let pendingBytes = 0
  while (offset < bytes.length) {
    const frame = readFrame(bytes, offset)
    if (typeof frame === 'string' || frame.seq <= lastSeq) {
      const next = findFrame(bytes, offset + 1, lastSeq)
      if (next === -1) break
      corrupt = true
      offset = next
      continue
    }
    header ??= headerOfLine(bytes.toString('utf8', frame.lineStart, frame.end), frame.seq)
    if (frame.end > from) {
      pendingEvents += 1
      pendingBytes += frame.end - frame.lineStart
    }
    lastSeq = frame.seq
    offset = frame.end
  }
  const end = Math.min(offset, bytes.length)
  if (bytes.length - end > MAX_FRAME_BYTES && !isZero(bytes.subarray(end))) corrupt = true
  return { header, lastSeq, end, pendingEvents, pendingBytes, corrupt }
}

/** A line names its session, so that a segment whose header is damaged can still be delivered. */
function headerOfLine(line: string, seq: number): SegmentHeader | null {
  try {
    const { session } = JSON.parse(line) as { session?: unknown }
    if (typeof session !== 'string' || !/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(session)) return null
    return { session, startedAtMs: 0, firstSeq: seq }
  } catch {
    return null
  }
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}
