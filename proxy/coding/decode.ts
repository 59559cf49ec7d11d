import { brotliDecompressSync, gunzipSync, inflateSync, zstdDecompressSync } from 'node:zlib'
import type { Coding } from './coding.ts'
import { CodingFault } from './fault.ts'
import { damaged, Decoder, MAX_PIECE_BYTES, trailing, ZSTD_WINDOW, type GrowthLimits } from './decoder.ts'

export type Decoded =
  | { readonly kind: 'whole'; readonly content: Buffer }
  /** Past the limit, and no bomb: its first bytes and how long it is. */
  | { readonly kind: 'large'; readonly prefix: Buffer; readonly length: number }

const MIN_PIECE_BYTES = 1_024
/** Text grows about so much; what is foreseen is made in one piece. */
const USUAL_RATIO = 6

/**
 * Removes the codings of a whole body, in the thread pool; of content past `limits.freeBytes`, only its beginning is kept.
 * @throws CodingFault
 */
export async function decodeContent(body: Buffer, codings: readonly Coding[], limits: GrowthLimits): Promise<Decoded> {
  // Some servers name a coding where there is nothing to code.
  if (body.length === 0 || codings.length === 0) return { kind: 'whole', content: body }
  const pieces: Buffer[] = []
  let length = 0
  let kept = 0
  const take = (piece: Buffer): void => {
    length += piece.length
    if (length > limits.freeBytes) return
    kept = length
    pieces.push(piece)
  }
  const decoder = new Decoder(codings, limits, take, pieceBytes(body))
  try {
    await decoder.write(body)
    await decoder.end()
  } finally {
    decoder.destroy()
  }
  const content = pieces.length === 1 ? (pieces[0] as Buffer) : Buffer.concat(pieces, kept)
  return length > limits.freeBytes ? { kind: 'large', prefix: content, length } : { kind: 'whole', content }
}

/** What is decoded and made here and now takes 0.3 ms at most; handing it to the thread pool and back costs a small answer ten times its decoding. */
const SMALL_CODED_BYTES = 8_192
const SMALL_BYTES = 65_536

type SmallOptions = { readonly info: boolean; readonly maxOutputLength: number; readonly chunkSize: number }

const DECODE_NOW = {
  gzip: gunzipSync,
  deflate: inflateSync,
  br: brotliDecompressSync,
  zstd: (body: Buffer, options: SmallOptions) => zstdDecompressSync(body, { ...options, params: ZSTD_WINDOW }),
} as const

/**
 * The same at once, where it takes no time; null where it would, and `decodeContent` has to.
 * @throws CodingFault
 */
export function decodeSmall(body: Buffer, codings: readonly Coding[], maxBytes: number): Buffer | null {
  const [coding, second] = codings
  if (coding === undefined || body.length === 0) return body
  if (second !== undefined || body.length > SMALL_CODED_BYTES) return null
  const options = { info: true, maxOutputLength: Math.min(SMALL_BYTES, maxBytes), chunkSize: pieceBytes(body) }
  try {
    // With `info`, which the types do not know: how much it took.
    const { buffer, engine } = DECODE_NOW[coding](body, options) as unknown as {
      readonly buffer: Buffer
      readonly engine: { readonly bytesWritten: number }
    }
    if (engine.bytesWritten !== body.length) throw trailing()
    return buffer
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ERR_BUFFER_TOO_LARGE') return null
    throw error instanceof CodingFault ? error : damaged(error)
  }
}

function pieceBytes(body: Buffer): number {
  return Math.max(MIN_PIECE_BYTES, Math.min(MAX_PIECE_BYTES, body.length * USUAL_RATIO))
}
