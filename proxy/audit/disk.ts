import { closeSync, fdatasync, fsync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { promisify } from 'node:util'

/** The file calls that decide whether an event is kept. A seam for fault tests; `realDisk` is the only other implementation. */
export type SpoolDisk = {
  open(path: string): number
  /** Writes at the end of the file; may write less than asked. */
  write(fd: number, bytes: Uint8Array, length: number): number
  truncate(fd: number, length: number): void
  sync(fd: number): Promise<void>
  /** Makes created, renamed and removed names of a directory durable. */
  syncDirectory(dir: string): Promise<void>
  close(fd: number): void
  unlink(path: string): void
}

const fdatasyncAsync = promisify(fdatasync)
const fsyncAsync = promisify(fsync)

export const realDisk: SpoolDisk = {
  // O_APPEND: after a truncation the next write lands at the new end without a position to keep.
  open: (path) => openSync(path, 'ax', 0o600),
  write: (fd, bytes, length) => writeSync(fd, bytes, 0, length),
  truncate: ftruncateSync,
  sync: (fd) => fdatasyncAsync(fd),
  async syncDirectory(dir) {
    const fd = openSync(dir, 'r')
    try {
      await fsyncAsync(fd)
    } finally {
      closeSync(fd)
    }
  },
  close: closeSync,
  unlink: unlinkSync,
}
