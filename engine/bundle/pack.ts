import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { writeTar } from './tar.ts'

/** Two zero blocks end a tar archive. */
const END_BYTES = 1024
const compress = promisify(gzip)

/**
 * A part of a bundle: these files as tar entries, as a gzip member of its own. A gzip file is a sequence of members (RFC 1952,
 * 2.2), so that a large part that many bundles share is compressed once, and kept once: a bundle is its parts, one after
 * the other, and `END_PART` at the end. The work is done off the event loop.
 */
export async function packPart(files: Iterable<readonly [name: string, content: Buffer]>): Promise<Buffer> {
  const archive = await writeTar([...files].map(([name, content]) => [`/${name}`, content]))
  return member(archive.subarray(0, archive.length - END_BYTES))
}

/** What every bundle made of parts ends with. */
export const END_PART: Promise<Buffer> = member(Buffer.alloc(END_BYTES))

async function member(bytes: Buffer): Promise<Buffer> {
  const packed = await compress(bytes, { level: 6 })
  // Byte 9 names the operating system (RFC 1952, 2.3.1): unknown, so that all make the same bytes.
  packed[9] = 255
  return packed
}
