import { createReadStream } from 'node:fs'
import { createGunzip } from 'node:zlib'
import { SignetError } from '#core/error/signet-error.ts'

const BLOCK = 512
/** What `tar` may add in zeros behind the two blocks that end an archive. */
const MAX_PADDING = 1024 * 1024

export type ArchiveFile = { readonly name: string; readonly size: number; readonly chunks: AsyncGenerator<Buffer> }

/**
 * The files of a gzipped tar archive as they come, each to be read to its end before the next. Takes nothing but plain files of ustar
 * with the names expected, in that order, each once (no links, folders, long names or extensions), so that nothing of what an archive can
 * do besides is there to be used; and holds no more than a chunk. `sizeLimit`: bytes that a file may have, or null for a name that is
 * not expected here. @throws SignetError EXPORT_INVALID
 */
export async function* readArchive(
  path: string,
  sizeLimit: (name: string, index: number) => number | null,
): AsyncGenerator<ArchiveFile> {
  const input = createReadStream(path)
  const gunzip = createGunzip()
  input.on('error', (error) => gunzip.destroy(error))
  input.pipe(gunzip)
  const bytes = new ByteReader(gunzip)
  try {
    for (let index = 0; ; index++) {
      const header = await bytes.exactly(BLOCK)
      if (isZero(header)) break
      const { name, size } = readHeader(header)
      const limit = sizeLimit(name, index)
      if (limit === null) throw invalid(`${JSON.stringify(name)} does not belong there, or is there twice`)
      if (size > limit) throw invalid(`${name} has ${size} bytes; ${limit} are the most`)
      let left = size
      yield {
        name,
        size,
        chunks: (async function* () {
          while (left > 0) {
            const chunk = await bytes.some(left)
            left -= chunk.length
            yield chunk
          }
        })(),
      }
      if (left > 0) throw new Error(`${name} was not read to its end`)
      const padding = await bytes.exactly((BLOCK - (size % BLOCK)) % BLOCK)
      if (!isZero(padding)) throw invalid('something stands between two files')
    }
    await bytes.zerosToEnd(BLOCK, MAX_PADDING)
  } finally {
    input.destroy()
    gunzip.destroy()
  }
}

/** POSIX.1-1988 ustar: name, octal size, checksum, type. */
function readHeader(header: Buffer): { name: string; size: number } {
  let sum = 0
  for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : (header[i] ?? 0)
  if (sum !== readOctal(header, 148, 8)) throw invalid('a header has a wrong checksum')
  const zero = header.indexOf(0)
  const name = header.toString('latin1', 0, Math.min(zero === -1 ? 100 : zero, 100))
  if (header[156] !== 0x30 || header.toString('latin1', 257, 262) !== 'ustar' || header[345] !== 0)
    throw invalid(`${JSON.stringify(name)} is no plain file`)
  return { name, size: readOctal(header, 124, 12) }
}

function readOctal(header: Buffer, start: number, length: number): number {
  const digits = /^ *([0-7]{1,11})[\0 ]*$/.exec(header.toString('latin1', start, start + length))?.[1]
  if (digits === undefined) throw invalid('a number in a header is not octal')
  return Number.parseInt(digits, 8)
}

function isZero(bytes: Buffer): boolean {
  return bytes.every((byte) => byte === 0)
}

class ByteReader {
  readonly #source: AsyncIterator<Buffer>
  #rest: Buffer = Buffer.alloc(0)

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]()
  }

  /** One to `max` bytes. */
  async some(max: number): Promise<Buffer> {
    if (this.#rest.length === 0 && !(await this.#more())) throw invalid('it is cut off')
    const bytes = this.#rest.subarray(0, max)
    this.#rest = this.#rest.subarray(bytes.length)
    return bytes
  }

  async exactly(length: number): Promise<Buffer> {
    const parts: Buffer[] = []
    for (let left = length; left > 0;) {
      const part = await this.some(left)
      parts.push(part)
      left -= part.length
    }
    return Buffer.concat(parts)
  }

  /** At least `least` zeros and at most `most`, and then nothing. */
  async zerosToEnd(least: number, most: number): Promise<void> {
    let count = 0
    do {
      if (!isZero(this.#rest)) throw invalid('something stands behind its end')
      count += this.#rest.length
      if (count > most) throw invalid('it does not end')
      this.#rest = Buffer.alloc(0)
    } while (await this.#more())
    if (count < least) throw invalid('it is cut off')
  }

  async #more(): Promise<boolean> {
    for (;;) {
      const next = await this.#source.next().catch((error: unknown) => {
        // zlib's own words for what is no gzip, or cut off.
        const code = error instanceof Error && 'code' in error ? String(error.code) : ''
        throw /^(Z_|ERR_ZLIB)/.test(code) ? invalid(`it is not gzip, or cut off (${code})`) : error
      })
      if (next.done === true) return false
      this.#rest = next.value
      if (next.value.length > 0) return true
    }
  }
}

function invalid(what: string): SignetError {
  return new SignetError('EXPORT_INVALID', `the archive is not one that an export is: ${what}`)
}
