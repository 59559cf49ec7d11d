import { brotliCompress, constants, deflate, gzip, zstdCompress } from 'node:zlib'
import { promisify } from 'node:util'
import type { Coding } from './coding.ts'

const compressBrotli = promisify(brotliCompress)
const compressGzip = promisify(gzip)
const compressDeflate = promisify(deflate)
const compressZstd = promisify(zstdCompress)

/** As servers do on the fly: what a higher level saves in bytes costs several times the CPU (`docs/performance.md`). */
const ZLIB = { level: 4 }
const BROTLI_QUALITY = 4
/** 256 KiB of window bound the memory of an encoder. */
const BROTLI_WINDOW = 18
const ZSTD = { params: { [constants.ZSTD_c_compressionLevel]: 3 } }

/** Applies a content coding, in the thread pool. Nothing of the clock or the machine gets into it. */
export function encodeContent(content: Buffer, coding: Coding): Promise<Buffer> {
  switch (coding) {
    case 'gzip':
      return compressGzip(content, ZLIB)
    case 'deflate':
      return compressDeflate(content, ZLIB)
    case 'zstd':
      return compressZstd(content, ZSTD)
    case 'br':
      return compressBrotli(content, {
        params: {
          [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY,
          [constants.BROTLI_PARAM_LGWIN]: BROTLI_WINDOW,
          [constants.BROTLI_PARAM_SIZE_HINT]: content.length,
        },
      })
  }
}
