import { crc32 } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'

/**
 * One frame of a spool segment, all numbers little-endian:
 *
 *   0  magic   ff 53 47 fe   (0xff and 0xfe occur in no UTF-8 text, so a line can never hold it)
 *   4  crc32   of everything after it
 *   8  length  of the line in bytes, 1 … MAX_LINE_BYTES
 *  12  seq     spool_seq, 64 bit
 *  20  line    UTF-8, without line feed
 */
export const FRAME_HEADER_BYTES = 20
/** Longest line that a frame takes; a batch of the wire contract holds at least four of them. */
export const MAX_LINE_BYTES = 1024 * 1024
export const MAX_FRAME_BYTES = FRAME_HEADER_BYTES + MAX_LINE_BYTES

const MAGIC = Buffer.from([0xff, 0x53, 0x47, 0xfe])
const MAGIC_NUMBER = MAGIC.readUInt32LE(0)
const LINE_FEED = 0x0a
const TWO_32 = 2 ** 32

/** A line, in up to three parts behind one another: saves putting them together before they are written. */
export type LineParts = readonly [head: string | Uint8Array, middle?: string | Uint8Array, tail?: string]

/** Writes frames one behind the other into one buffer that it keeps: adding one allocates nothing but a view. */
export class FrameEncoder {
  buffer = Buffer.allocUnsafeSlow(64 * 1024)
  /** Bytes of all frames, and where each of them ends. */
  length = 0
  readonly ends: number[] = []

  /** Puts a frame behind the others and returns its length. Throws AUDIT_EVENT_INVALID for a line no frame can hold. */
  add(line: LineParts, seq: number): number {
    const [head, middle, tail] = line
    const start = this.length
    const lineStart = start + FRAME_HEADER_BYTES
    let at = this.#put(head, lineStart)
    if (middle !== undefined) at = this.#put(middle, at)
    if (tail !== undefined) at = this.#put(tail, at)
    const { buffer } = this
    const length = at - lineStart
    const covered = buffer.subarray(start + 8, at)
    if (length === 0 || length > MAX_LINE_BYTES || covered.indexOf(LINE_FEED, FRAME_HEADER_BYTES - 8) !== -1)
      throw invalidLine(length)
    buffer.writeUInt32LE(MAGIC_NUMBER, start)
    buffer.writeUInt32LE(length, start + 8)
    buffer.writeUInt32LE(seq % TWO_32, start + 12)
    buffer.writeUInt32LE(Math.floor(seq / TWO_32), start + 16)
    buffer.writeUInt32LE(crc32(covered), start + 4)
    this.length = at
    this.ends.push(at)
    return at - start
  }

  /** Takes the last frame out again. */
  dropLast(): void {
    this.ends.pop()
    this.length = this.ends.at(-1) ?? 0
  }

  clear(): void {
    this.length = 0
    this.ends.length = 0
  }

  #put(part: string | Uint8Array, at: number): number {
    if (typeof part !== 'string') {
      this.#reserve(at, part.length)
      this.buffer.set(part, at)
      return at + part.length
    }
    // UTF-8 needs at most 3 bytes per UTF-16 unit; the exact count is only worth its price near the end of the buffer.
    if (at + part.length * 3 > this.buffer.length) this.#reserve(at, Buffer.byteLength(part))
    return at + this.buffer.write(part, at, 'utf8')
  }

  #reserve(at: number, length: number): void {
    if (length > MAX_LINE_BYTES) throw invalidLine(length)
    if (at + length <= this.buffer.length) return
    const larger = Buffer.allocUnsafeSlow(2 * (at + length))
    this.buffer.copy(larger, 0, 0, at)
    this.buffer = larger
  }
}

function invalidLine(length: number): SignetError {
  return new SignetError(
    'AUDIT_EVENT_INVALID',
    `An audit line of ${length} bytes cannot be spooled: it must have 1 to ${MAX_LINE_BYTES} bytes and no line feed.`,
  )
}

export type Frame = { readonly seq: number; readonly lineStart: number; readonly end: number }

/**
 * The frame at `offset`, or why there is none: `partial` if it may go on past the end of `bytes`, `bad` if no bytes that follow
 * can make it a frame.
 */
export function readFrame(bytes: Buffer, offset: number): Frame | 'partial' | 'bad' {
  const available = bytes.length - offset
  if (available < FRAME_HEADER_BYTES) {
    const prefix = Math.min(available, MAGIC.length)
    return MAGIC.compare(bytes, offset, offset + prefix, 0, prefix) === 0 ? 'partial' : 'bad'
  }
  if (bytes.readUInt32LE(offset) !== MAGIC_NUMBER) return 'bad'
  const length = bytes.readUInt32LE(offset + 8)
  if (length === 0 || length > MAX_LINE_BYTES) return 'bad'
  const lineStart = offset + FRAME_HEADER_BYTES
  const end = lineStart + length
  if (end > bytes.length) return 'partial'
  if (crc32(bytes.subarray(offset + 8, end)) !== bytes.readUInt32LE(offset + 4)) return 'bad'
  const seq = bytes.readUInt32LE(offset + 12) + bytes.readUInt32LE(offset + 16) * TWO_32
  return Number.isSafeInteger(seq) && seq > 0 ? { seq, lineStart, end } : 'bad'
}

/** Offset of the first intact frame at or after `from` whose number is above `afterSeq`; -1 where there is none. */
export function findFrame(bytes: Buffer, from: number, afterSeq: number): number {
  for (let at = bytes.indexOf(MAGIC, from); at !== -1; at = bytes.indexOf(MAGIC, at + 1)) {
    const frame = readFrame(bytes, at)
    if (typeof frame === 'object' && frame.seq > afterSeq) return at
  }
  return -1
}
