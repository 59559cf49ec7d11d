import { pack } from 'tar-stream'

const BLOCK = 512
const ZEROS = Buffer.alloc(64 * 1024)

/**
 * The regular files of a tar archive, by name without a leading `/` or `./`. Reads ustar as OPA and we write it: regular
 * files only, at most `maxFiles` (64), each name once, checksums right, two zero blocks at the end and nothing but zeros after them.
 * Throws Error with what is wrong.
 */
export function readTar(archive: Buffer, maxFiles = 64): Map<string, Buffer> {
  const files = new Map<string, Buffer>()
  let offset = 0
  for (;;) {
    const header = archive.subarray(offset, offset + BLOCK)
    if (header.length < BLOCK) throw new Error('archive ends in the middle of a header')
    if (isZero(header)) break
    const name = readName(header)
    let sum = 0
    for (let i = 0; i < BLOCK; i++) sum += i >= 148 && i < 156 ? 32 : header[i]!
    if (sum !== readOctal(header, 148, 8)) throw new Error(`header checksum of ${JSON.stringify(name)} is wrong`)
    const type = header[156]
    if (type !== 0x30 && type !== 0) throw new Error(`${JSON.stringify(name)} is not a regular file`)
    const size = readOctal(header, 124, 12)
    const start = offset + BLOCK
    if (start + size > archive.length) throw new Error(`${JSON.stringify(name)} is cut off`)
    if (name === '' || files.has(name)) throw new Error(`file name ${JSON.stringify(name)} is empty or there twice`)
    if (files.size === maxFiles) throw new Error(`more than ${maxFiles} files`)
    files.set(name, archive.subarray(start, start + size))
    offset = start + Math.ceil(size / BLOCK) * BLOCK
  }
  if (archive.length - offset < 2 * BLOCK || !isZero(archive.subarray(offset))) {
    throw new Error('archive does not end with zero blocks')
  }
  return files
}

/** A tar archive of these files in the order given; the same files give the same bytes. */
export async function writeTar(files: Iterable<readonly [name: string, content: Buffer]>): Promise<Buffer> {
  const tar = pack()
  const chunks: Buffer[] = []
  const done = (async () => {
    for await (const chunk of tar) chunks.push(chunk as Buffer)
  })()
  for (const [name, content] of files) {
    tar.entry({ name, size: content.length, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0, type: 'file' }, content)
  }
  tar.finalize()
  await done
  return Buffer.concat(chunks)
}

function readName(header: Buffer): string {
  const text = (start: number, end: number): string => {
    const field = header.subarray(start, end)
    const zero = field.indexOf(0)
    return field.subarray(0, zero === -1 ? field.length : zero).toString('utf8')
  }
  const isUstar = header.subarray(257, 262).toString('latin1') === 'ustar'
  const prefix = isUstar ? text(345, 500) : ''
  return `${prefix === '' ? '' : `${prefix}/`}${text(0, 100)}`.replace(/^(\.?\/)+/, '')
}

function readOctal(header: Buffer, start: number, length: number): number {
  const text = header
    .subarray(start, start + length)
    .toString('latin1')
    .replace(/[\0 ]+$/, '')
  if (!/^ *[0-7]{1,11}$/.test(text)) throw new Error('a number in a header is not octal')
  return Number.parseInt(text.trim(), 8)
}

function isZero(bytes: Buffer): boolean {
  for (let at = 0; at < bytes.length; at += ZEROS.length) {
    const part = bytes.subarray(at, at + ZEROS.length)
    if (!part.equals(ZEROS.subarray(0, part.length))) return false
  }
  return true
}
