import { writeSync } from 'node:fs'

/** Writes a line to standard output before it returns: what a process reported before it was killed, it had done. */
export function report(line: string): void {
  let rest = Buffer.from(`${line}\n`)
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest))
    } catch (error) {
      // The pipe is full and not blocking: the reader is behind.
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error
    }
  }
}
