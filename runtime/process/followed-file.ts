import { readFile } from 'node:fs/promises'

export type FollowedFile = {
  readonly path: string
  /** What `apply` was last given, or what was read before following began. */
  readonly text: string
  readonly pollMs: number
  readonly signal: AbortSignal
  /** May throw: the file is then left until it changes again. */
  apply(text: string): void
  onError(error: unknown): void
}

/**
 * Reads a file every `pollMs` and gives its text when it changed, until `signal` aborts. Polling and comparing text, since files of
 * ConfigMaps and Secrets are symbolic links that are swapped, which watchers and times of change miss.
 */
export function followFile(file: FollowedFile): void {
  let seen: string | null = file.text
  let reading = false
  const look = async (): Promise<void> => {
    let text: string
    try {
      text = await readFile(file.path, 'utf8')
    } catch (error) {
      if (seen !== null) file.onError(error)
      seen = null
      return
    }
    if (text === seen || file.signal.aborted) return
    seen = text
    try {
      file.apply(text)
    } catch (error) {
      file.onError(error)
    }
  }
  const timer = setInterval(() => {
    if (reading) return
    reading = true
    void look().finally(() => {
      reading = false
    })
  }, file.pollMs)
  timer.unref()
  file.signal.addEventListener('abort', () => clearInterval(timer), { once: true })
  if (file.signal.aborted) clearInterval(timer)
}
