import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, zstdDecompress } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'
import { tooLarge } from './bounded.ts'

type Decode = (coded: Uint8Array, options: { maxOutputLength: number }) => Promise<Buffer>

const DECODERS: Readonly<Record<string, Decode>> = {
  gzip: promisify(gunzip),
  'x-gzip': promisify(gunzip),
  deflate: promisify(inflate),
  br: promisify(brotliDecompress),
  zstd: promisify(zstdDecompress),
}
/** Nobody sends more, but who wants to keep us busy. */
const MAX_CODINGS = 3

/**
 * Content without its Content-Encoding (RFC 9110 §8.4), off the event loop. Whole or not at all: a coding that ends early is refused.
 * @throws SignetError STAMP_INVALID for a coding that is not known, or content that is not of it; STAMP_CONTENT_TOO_LARGE past `maxBytes`
 */
export async function decodeContent(content: Buffer, encoding: string | undefined, maxBytes: number): Promise<Buffer> {
  const codings = (encoding ?? '')
    .toLowerCase()
    .split(',')
    .map((coding) => coding.trim())
    .filter((coding) => coding !== '' && coding !== 'identity')
  if (codings.length > MAX_CODINGS) throw notDecoded(`has ${codings.length} codings, where ${MAX_CODINGS} are taken`)
  let decoded = content
  for (const coding of codings.toReversed()) {
    const decode = Object.hasOwn(DECODERS, coding) ? DECODERS[coding] : undefined
    if (decode === undefined) throw notDecoded('has a coding that is not known (gzip, deflate, br and zstd are)')
    // The answer to HEAD, or a 204.
    if (decoded.length === 0) continue
    try {
      decoded = await decode(decoded, { maxOutputLength: maxBytes })
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge(maxBytes)
      throw notDecoded(`is not what its coding «${coding}» says`, cause)
    }
  }
  return decoded
}

function notDecoded(what: string, cause?: unknown): SignetError {
  return new SignetError('STAMP_INVALID', `the content cannot be verified: it ${what}`, { cause })
}
