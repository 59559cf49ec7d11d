import { createHash } from 'node:crypto'
import { open, readdir, stat } from 'node:fs/promises'
import path from 'node:path'

/** A file of JSON lines as PostgreSQL writes them, and which one it is: a name is used again. */
export type LogFile = {
  readonly name: string
  readonly identity: string
  readonly size: number
  readonly mtimeMs: number
}
export type LogChunk = { readonly values: readonly unknown[]; readonly end: number }

const FINGERPRINT_BYTES = 512
const NEWLINE = 10

/** The `*.json` of a folder that have a first line, oldest first. */
export async function logFiles(dir: string): Promise<LogFile[]> {
  const files: LogFile[] = []
  for (const name of await readdir(dir)) {
    if (!name.endsWith('.json')) continue
    const file = path.join(dir, name)
    const [info, first] = await Promise.all([stat(file), bytesOf(file, 0, FINGERPRINT_BYTES)])
    const line = first.indexOf(NEWLINE)
    // Until the first line is whole, or longer than the print, the print would change.
    if (line === -1 && first.length < FINGERPRINT_BYTES) continue
    const print = first.subarray(0, line === -1 ? FINGERPRINT_BYTES : line)
    const identity = createHash('sha256').update(`${info.ino}/`).update(print).digest('hex')
    files.push({ name, identity, size: info.size, mtimeMs: info.mtimeMs })
  }
  return files.toSorted((a, b) => a.mtimeMs - b.mtimeMs || (a.name < b.name ? -1 : 1))
}

/**
 * The whole lines from `position` on, up to `maxBytes` of them (or exactly up to `until`), and where they end. A line that is no JSON
 * counts as undefined; one longer than `maxBytes` is passed over, piece by piece.
 */
export async function readChunk(
  file: string,
  position: number,
  { maxBytes, until }: { readonly maxBytes: number; readonly until: number | null },
): Promise<LogChunk> {
  const bytes = await bytesOf(file, position, until === null ? maxBytes : until - position)
  const last = bytes.lastIndexOf(NEWLINE)
  if (last === -1) return { values: [], end: bytes.length < maxBytes ? position : position + bytes.length }
  const lines = bytes.toString('utf8', 0, last).split('\n')
  return { values: lines.map(parsed), end: position + last + 1 }
}

function parsed(line: string): unknown {
  try {
    return JSON.parse(line)
  } catch {
    return undefined
  }
}

async function bytesOf(file: string, position: number, length: number): Promise<Buffer> {
  const handle = await open(file, 'r')
  try {
    const buffer = Buffer.alloc(Math.max(length, 0))
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, position)
    return buffer.subarray(0, bytesRead)
  } finally {
    await handle.close()
  }
}
