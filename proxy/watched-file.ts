import { readFileSync, statSync } from 'node:fs'

/**
 * Looks at a file every `intervalMs` and gives its text when it changed. Polling, since files from Kubernetes Secrets and ConfigMaps are
 * symbolic links that are swapped, which watchers miss. `apply` may throw: the file is then left until it changes again.
 * Returns a function that stops.
 */
export function watchFile(
  path: string,
  intervalMs: number,
  apply: (text: string) => void,
  onError: (error: unknown) => void,
): () => void {
  let seen = stamp(path)
  const timer = setInterval(() => {
    const now = stamp(path)
    if (now === seen) return
    seen = now
    try {
      apply(readFileSync(path, 'utf8'))
    } catch (error) {
      onError(error)
    }
  }, intervalMs)
  timer.unref()
  return () => clearInterval(timer)
}

function stamp(path: string): string {
  try {
    const { mtimeMs, size, ino } = statSync(path)
    return `${mtimeMs} ${size} ${ino}`
  } catch {
    return 'missing'
  }
}
