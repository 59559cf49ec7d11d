import {
  brotliCompress,
  brotliCompressSync,
  constants,
  deflate,
  deflateSync,
  gzip,
  gzipSync,
  zstdCompress,
  zstdCompressSync,
} from 'node:zlib'
import { promisify } from 'node:util'
import type { Coding } from './coding.ts'
import type { Lanes } from './lanes.ts'

/** Up to this, 0.1 ms at most, coding here and now is cheaper than the way to the thread pool and back. */
const SMALL_BYTES = 16_384

const compress = {
  gzip: promisify(gzip),
  deflate: promisify(deflate),
  br: promisify(brotliCompress),
  zstd: promisify(zstdCompress),
}

/**
 * Levels as servers have them on the fly: what a higher one saves in bytes costs several times the CPU (`docs/performance.md`). Windows no
 * larger than the content, 256 KiB at most: the memory of an encoder is what a small answer would pay for most, in collections.
 */
function zlibOptions({ length }: Buffer) {
  return {
    level: 4,
    windowBits: Math.min(15, windowLog(length)),
    memLevel: length <= 2_048 ? 4 : length <= SMALL_BYTES ? 6 : 8,
    chunkSize: pieceBytes(length),
  }
}

function brotliOptions({ length }: Buffer) {
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: 4,
    [constants.BROTLI_PARAM_LGWIN]: Math.max(10, Math.min(18, windowLog(length))),
    [constants.BROTLI_PARAM_SIZE_HINT]: length,
  }
  return { params, chunkSize: pieceBytes(length) }
}

function zstdOptions({ length }: Buffer) {
  const params = { [constants.ZSTD_c_compressionLevel]: 3 }
  return { params, pledgedSrcSize: length, chunkSize: pieceBytes(length) }
}

/** zlib has no window below 9 bits. */
function windowLog(length: number): number {
  return Math.max(9, Math.ceil(Math.log2(length + 1)))
}

function pieceBytes(length: number): number {
  return Math.max(1_024, Math.min(65_536, length >> 1))
}

/** Applies a content coding. Nothing of the clock or the machine gets into it. */
export function encodeContent(content: Buffer, coding: Coding, coders: Lanes): Buffer | Promise<Buffer> {
  return content.length <= SMALL_BYTES ? encodeNow(content, coding) : coders.run(() => encodeInPool(content, coding))
}

function encodeNow(content: Buffer, coding: Coding): Buffer {
  switch (coding) {
    case 'gzip':
      return gzipSync(content, zlibOptions(content))
    case 'deflate':
      return deflateSync(content, zlibOptions(content))
    case 'br':
      return brotliCompressSync(content, brotliOptions(content))
    case 'zstd':
      return zstdCompressSync(content, zstdOptions(content))
  }
}

function encodeInPool(content: Buffer, coding: Coding): Promise<Buffer> {
  switch (coding) {
    case 'gzip':
      return compress.gzip(content, zlibOptions(content))
    case 'deflate':
      return compress.deflate(content, zlibOptions(content))
    case 'br':
      return compress.br(content, brotliOptions(content))
    case 'zstd':
      return compress.zstd(content, zstdOptions(content))
  }
}
