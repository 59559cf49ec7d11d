import { SignetError } from '#core/error/signet-error.ts'
import type { SpoolDisk } from './disk.ts'

export type GroupSyncOptions = {
  disk: SpoolDisk
  dir: string
  /** Longest time from a write to the start of its sync. */
  intervalMs: number
  onSynced: (seconds: number) => void
  /** A sync failed: nothing in any open file may be called durable any more, and none of them may be written on. */
  onFault: (error: Error) => void
}

type Waiter = { target: number; resolve: () => void; reject: (error: Error) => void }

/**
 * Makes writes durable in groups: one sync at a time, at most `intervalMs` after a write, at once when someone waits. After a
 * failed sync the kernel may have dropped the pages and call the file clean, so that a second sync that succeeds proves nothing
 * (the «fsyncgate» of PostgreSQL): what was written until then is never reported as durable.
 */
export class GroupSync {
  readonly #options: GroupSyncOptions
  readonly #dirty = new Set<number>()
  #retired: number[] = []
  #directoryDirty = false
  /** Writes so far, how many of them are durable, and up to which one durability was lost. */
  #written = 0
  #durable = 0
  #lost = 0
  #fault: Error | undefined
  #waiters: Waiter[] = []
  #timer: NodeJS.Timeout | undefined
  #running = false
  #urgent = false

  constructor(options: GroupSyncOptions) {
    this.#options = options
  }

  /** Says that `fd` was written to. On the path of every event. */
  touch(fd: number): void {
    this.#written += 1
    this.#dirty.add(fd)
    if (this.#timer === undefined && !this.#running) this.#schedule()
  }

  directoryChanged(): void {
    this.#written += 1
    this.#directoryDirty = true
    if (this.#timer === undefined && !this.#running) this.#schedule()
  }

  /** `fd` will not be written to again: sync it once more, then close it. */
  retire(fd: number): void {
    this.#retired.push(fd)
    this.touch(fd)
  }

  /** Resolves when all that was written before this call is durable; rejects with SPOOL_UNAVAILABLE where it never will be. */
  synced(): Promise<void> {
    const target = this.#written
    if (target <= this.#durable) return Promise.resolve()
    if (target <= this.#lost) return Promise.reject(notDurable(this.#fault))
    return new Promise<void>((resolve, reject) => {
      this.#waiters.push({ target, resolve, reject })
      this.#hurry()
    })
  }

  #schedule(): void {
    this.#timer = setTimeout(() => void this.#round(), this.#options.intervalMs)
    this.#timer.unref()
  }

  /** Waiters of one turn of the event loop share a sync. */
  #hurry(): void {
    if (this.#running || this.#urgent) return
    this.#urgent = true
    setImmediate(() => {
      this.#urgent = false
      if (!this.#running) void this.#round()
    })
  }

  async #round(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const { disk, dir } = this.#options
    const target = this.#written
    const files = [...this.#dirty]
    this.#dirty.clear()
    const retired = this.#retired
    this.#retired = []
    const directory = this.#directoryDirty
    this.#directoryDirty = false
    if (files.length === 0 && !directory) return
    this.#running = true
    const started = performance.now()
    try {
      for (const fd of files) await disk.sync(fd)
      if (directory) await disk.syncDirectory(dir)
      this.#durable = target
      this.#options.onSynced((performance.now() - started) / 1000)
    } catch (error) {
      this.#fail(error as Error)
    } finally {
      for (const fd of retired) closeQuietly(disk, fd)
      this.#running = false
    }
    this.#settle()
    if (this.#waiters.length > 0) this.#hurry()
    else if (this.#written > this.#durable && this.#written > this.#lost) this.#schedule()
  }

  #settle(): void {
    const settled = this.#waiters.filter((waiter) => waiter.target <= this.#durable)
    if (settled.length === 0) return
    this.#waiters = this.#waiters.filter((waiter) => waiter.target > this.#durable)
    for (const waiter of settled) waiter.resolve()
  }

  #fail(error: Error): void {
    this.#lost = this.#written
    this.#fault = error
    this.#dirty.clear()
    for (const fd of this.#retired) closeQuietly(this.#options.disk, fd)
    this.#retired = []
    const waiters = this.#waiters
    this.#waiters = []
    this.#options.onFault(error)
    for (const waiter of waiters) waiter.reject(notDurable(error))
  }
}

function notDurable(cause: Error | undefined): SignetError {
  return new SignetError(
    'SPOOL_UNAVAILABLE',
    'The disk did not make the event durable: syncing the audit spool failed.',
    {
      cause,
    },
  )
}

function closeQuietly(disk: SpoolDisk, fd: number): void {
  try {
    disk.close(fd)
  } catch {
    // Synced before, or given up: nothing depends on the close.
  }
}
