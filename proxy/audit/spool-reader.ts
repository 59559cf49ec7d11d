import { open } from 'node:fs/promises'
import { findFrame, FRAME_HEADER_BYTES, MAX_FRAME_BYTES, readFrame } from './frame.ts'
import { LineBatch } from './line-batch.ts'
import { SEGMENT_HEADER_BYTES } from './segment.ts'

/** One read: a whole frame of the largest kind fits, and 1000 lines of the usual size do. */
const READ_BYTES = 2 * MAX_FRAME_BYTES

/**
 * Reads up to `maxItems` lines with together up to `maxBytes` (line feeds included; a single longer line is returned alone) from
 * `offset` of a segment, which ends at `end`. Frames are checked again: the disk may have lost what was there at start.
 */
export async function readBatch(
  segment: { readonly id: number; readonly path: string; readonly end: number },
  from: number,
  limits: { maxItems: number; maxBytes: number },
): Promise<LineBatch> {
  const start = Math.max(from, SEGMENT_HEADER_BYTES)
  const length = Math.min(segment.end - start, READ_BYTES)
  const bytes = await readAt(segment.path, start, Math.max(length, 0))
  const isEnd = start + length >= segment.end
  // Lines move to the front of the buffer that they were read into: a frame is longer than a line and its line feed.
  const most = Math.min(limits.maxItems, Math.ceil(bytes.length / FRAME_HEADER_BYTES))
  const batch = new LineBatch(bytes, most).reset(segment.id, start)
  let offset = 0
  let lastSeq = 0
  while (batch.count < limits.maxItems && offset < bytes.length) {
    const frame = readFrame(bytes, offset)
    if (typeof frame === 'string' || frame.seq <= lastSeq) {
      // The read ended within a frame: the next one starts with it.
      if (frame === 'partial' && !isEnd && bytes.length - offset < MAX_FRAME_BYTES) break
      const found = findFrame(bytes, offset + 1, lastSeq)
      const next = found === -1 ? (isEnd ? bytes.length : Math.max(offset + 1, bytes.length - MAX_FRAME_BYTES)) : found
      batch.skippedBytes += next - offset
      offset = next
      batch.end = start + offset
      continue
    }
    if (batch.count > 0 && batch.length + frame.end - frame.lineStart + 1 > limits.maxBytes) break
    batch.add(frame.seq, bytes, frame.lineStart, frame.end, start + frame.end)
    lastSeq = frame.seq
    offset = frame.end
  }
  return batch
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
