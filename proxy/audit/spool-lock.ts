import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { SignetError } from '#core/error/signet-error.ts'

const SQLITE_BUSY = 5

/**
 * Takes a spool directory for this process and returns the release. Two processes in one spool would number over each other.
 *
 * A file with a process id cannot guard it: taking over a stale one is a race, and two containers that share a volume do not see
 * each other's processes. Node has no flock, but its SQLite takes real `fcntl` locks, which the kernel drops when the holder
 * dies, however it dies. The database stays empty; `owner.json` only makes the message clear.
 *
 * Throws SPOOL_LOCKED.
 */
export function lockSpool(dir: string, owner: { pid: number; startedAt: string }): () => void {
  const ownerPath = join(dir, 'owner.json')
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(join(dir, 'lock.db'), { timeout: 0 })
    database.exec('PRAGMA journal_mode = OFF; PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE')
  } catch (cause) {
    try {
      database?.close()
    } catch {
      // The error that counts is the first one.
    }
    const busy = (cause as { errcode?: number }).errcode === SQLITE_BUSY
    throw new SignetError(
      'SPOOL_LOCKED',
      busy
        ? `The audit spool ${dir} is in use by ${describeOwner(ownerPath)}. Each proxy needs a spool directory of its own.`
        : `The audit spool ${dir} cannot be locked: ${(cause as Error).message}. It must be a writable directory on a local disk.`,
      { cause },
    )
  }
  const held = database
  try {
    writeFileSync(ownerPath, JSON.stringify({ pid: owner.pid, started_at: owner.startedAt }))
  } catch {
    // A full disk: the lock holds all the same.
  }
  return () => held.close()
}

function describeOwner(path: string): string {
  try {
    const owner = JSON.parse(readFileSync(path, 'utf8')) as { pid?: unknown; started_at?: unknown }
    if (typeof owner.pid === 'number') return `process ${owner.pid}, running since ${String(owner.started_at)}`
  } catch {
    // No or no readable owner file.
  }
  return 'another process'
}
