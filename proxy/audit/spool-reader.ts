import { open } from 'node:fs/promises'
import { findFrame, MAX_FRAME_BYTES, readFrame } from './frame.ts'
import { SEGMENT_HEADER_BYTES } from './segment.ts'

export type SpoolItem = {
  readonly seq: number
  readonly line: Buffer
  /** Offset behind it in its segment. */
  readonly end: number
}

export type SpoolBatch = {
  readonly segment: number
  readonly items: readonly SpoolItem[]
  /** Offset from which the next batch starts. */
  readonly end: number
  /** Bytes that were no frame and were passed over. */
  readonly skippedBytes: number
}

/** One read: a whole frame of the largest kind fits, and 500 lines of the usual size do. */
const READ_BYTES = 2 * MAX_FRAME_BYTES

/**
 * Reads up to `maxItems` lines with together up to `maxBytes` (line feeds included; a single longer line is returned alone) from
 * `offset` of a segment, which ends at `end`. Frames are checked again: the disk may have lost what was there at start.
 */
export async function readBatch(
  segment: { readonly id: number; readonly path: string; readonly end: number },
  from: number,
  limits: { maxItems: number; maxBytes: number },
): Promise<SpoolBatch> {
  const start = Math.max(from, SEGMENT_HEADER_BYTES)
  const length = Math.min(segment.end - start, READ_BYTES)
  const bytes = await readAt(segment.path, start, Math.max(length, 0))
  const isEnd = start + length >= segment.end
  const items: SpoolItem[] = []
  let offset = 0
  let lastSeq = 0
  let batchBytes = 0
  let skippedBytes = 0
  while (items.length < limits.maxItems && offset < bytes.length) {
    const frame = readFrame(bytes, offset)
    if (typeof frame === 'string' || frame.seq <= lastSeq) {
      // The read ended within a frame: the next one starts with it.
      if (frame === 'partial' && !isEnd && bytes.length - offset < MAX_FRAME_BYTES) break
      const found = findFrame(bytes, offset + 1, lastSeq)
      const next = found === -1 ? (isEnd ? bytes.length : Math.max(offset + 1, bytes.length - MAX_FRAME_BYTES)) : found
      skippedBytes += next - offset
      offset = next
      continue
    }
    const line = bytes.subarray(frame.lineStart, frame.end)
    if (items.length > 0 && batchBytes + line.length + 1 > limits.maxBytes) break
    items.push({ seq: frame.seq, line, end: start + frame.end })
    batchBytes += line.length + 1
    lastSeq = frame.seq
    offset = frame.end
  }
  return { segment: segment.id, items, end: start + offset, skippedBytes }
}

async function readAt(path: string, position: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  const file = await open(path, 'r')
  try {
    let filled = 0
    while (filled < length) {
      const { bytesRead } = await file.read(bytes, filled, length - filled, position + filled)
      if (bytesRead === 0) throw new Error(`the segment ends ${length - filled} bytes before its known end`)
      filled += bytesRead
    }
    return bytes
  } finally {
    await file.close()
  }
}
