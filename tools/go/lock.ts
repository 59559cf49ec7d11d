import { open, rename, rm, stat, utimes } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'

const LOCK_REFRESH_MS = 2_000
const LOCK_STALE_MS = 30_000

/**
 * A lock file whose holder refreshes its time; one that has not been refreshed for 30 s was left by a process that died.
 * Resolves to the release function, or to null when another process has made meanwhile what `isDone` asks for.
 */
export async function acquireLock(
  path: string,
  { isDone, onWait }: { isDone: () => Promise<boolean>; onWait: () => void },
): Promise<(() => Promise<void>) | null> {
  let told = false
  for (;;) {
    try {
      const handle = await open(path, 'wx')
      await handle.writeFile(String(process.pid))
      await handle.close()
      const refresher = setInterval(() => {
        const now = new Date()
        utimes(path, now, now).catch(() => {})
      }, LOCK_REFRESH_MS)
      refresher.unref()
      return async () => {
        clearInterval(refresher)
        await rm(path, { force: true })
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    if (await isDone()) return null
    const age = await stat(path).then(
      (s) => Date.now() - s.mtimeMs,
      () => 0,
    )
    if (age > LOCK_STALE_MS) {
      // Renaming decides between several that find it stale: one wins, the others find it gone.
      const stale = `${path}.${process.pid}.stale`
      await rename(path, stale).then(
        () => rm(stale, { force: true }),
        () => {},
      )
      continue
    }
    if (!told) onWait()
    told = true
    await sleep(500)
  }
}
