import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** A file system of a fixed size, which a test can fill. */
export type SmallDisk = {
  readonly dir: string
  /** Takes all but `leave` bytes. */
  fill(leave: number): void
  empty(): void
  unmount(): void
}

/** Mounting needs rights that not every machine gives: null there, but where the checks count (CI) it has to be possible. */
export function mountSmallDisk(megabytes: number): SmallDisk | null {
  const dir = mkdtempSync(path.join(tmpdir(), 'signet-small-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', dir], { stdio: 'ignore' })
  } catch (cause) {
    rmSync(dir, { recursive: true, force: true })
    if (process.env['CI'] !== undefined)
      throw new Error('a small tmpfs cannot be mounted for the test of a full disk: run as root', { cause })
    return null
  }
  // PostgreSQL's account passes through.
  chmodSync(dir, 0o755)
  mkdirSync(path.join(dir, 'ballast'))
  let pieces = 0
  return {
    dir,
    fill(leave) {
      const { bavail, bsize } = statfsSync(dir)
      const bytes = bavail * bsize - leave
      try {
        if (bytes > 0) writeFileSync(path.join(dir, 'ballast', String(pieces++)), Buffer.alloc(bytes, 1))
      } catch (error) {
        // Somebody else was faster with the last pages: as full as wanted.
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
    },
    empty() {
      rmSync(path.join(dir, 'ballast'), { recursive: true, force: true })
      mkdirSync(path.join(dir, 'ballast'))
    },
    unmount() {
      execFileSync('umount', [dir])
      rmSync(dir, { recursive: true, force: true })
    },
  }
}
