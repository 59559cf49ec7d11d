import { SignetError } from '#core/error/signet-error.ts'

/** By this type of a bundle a client knows that the server holds polls, as OPA does. */
export const LONG_POLL_TYPE = 'application/vnd.openpolicyagent.bundles'

/** What polls wait for, by key: the namespace or the tenant whose bundle it is. */
export type PolledBundles = {
  get(key: string): { readonly etag: string } | undefined
  /** Calls back once, when the bundle is another than `etag` (null: none), or never; the returned function takes it back. */
  onNext(key: string, etag: string | null, callback: () => void): () => void
}

export type HeldPollsOptions = {
  readonly source: PolledBundles
  readonly maxPolls: number
  readonly maxPollsPerCaller: number
}

/** Polls that wait for a new revision. Bounded; the newest of a caller displaces its oldest, which may be of a connection long dead. */
export type HeldPolls = {
  /**
   * Resolves when the bundle of `key` is another than `etag`, when the time is over, the client is gone, or a newer poll of the
   * caller takes its place. Throws OVERLOADED when too many are held.
   */
  hold(poll: { key: string; etag: string | null; caller: string; waitMs: number; signal: AbortSignal }): Promise<void>
  /** Ends all, and takes no more: the process drains. */
  end(): void
  readonly size: number
}

export function createHeldPolls({ source, maxPolls, maxPollsPerCaller }: HeldPollsOptions): HeldPolls {
  const byCaller = new Map<string, Set<() => void>>()
  let size = 0
  let ended = false

  return {
    async hold({ key, etag, caller, waitMs, signal }) {
      if (ended || signal.aborted) return
      const mine = byCaller.get(caller) ?? new Set<() => void>()
      if (mine.size >= maxPollsPerCaller) [...mine][0]!()
      if (size >= maxPolls) throw new SignetError('OVERLOADED', `${maxPolls} polls are held here; try again shortly`)
      await new Promise<void>((resolve) => {
        const finish = (): void => {
          if (!mine.delete(finish)) return
          size -= 1
          if (mine.size === 0 && byCaller.get(caller) === mine) byCaller.delete(caller)
          clearTimeout(timer)
          forget()
          signal.removeEventListener('abort', finish)
          resolve()
        }
        byCaller.set(caller, mine.add(finish))
        size += 1
        const timer = setTimeout(finish, waitMs)
        const forget = source.onNext(key, etag, finish)
        signal.addEventListener('abort', finish, { once: true })
        // It may have come between the caller's look and ours.
        if ((source.get(key)?.etag ?? null) !== etag) finish()
      })
    },
    end() {
      ended = true
      for (const polls of byCaller.values()) for (const finish of polls) finish()
    },
    get size() {
      return size
    },
  }
}

/** Seconds that a `Prefer` header asks the answer to be held (RFC 7240, 4.3; OPA puts `;` between preferences). 0: not at all. */
export function preferredWaitSeconds(prefer: string | readonly string[] | undefined): number {
  const text = typeof prefer === 'string' ? prefer : (prefer ?? []).join(',')
  for (const preference of text.slice(0, 1_000).split(/[;,]/)) {
    const match = /^\s*wait\s*=\s*"?(\d{1,6})"?\s*$/i.exec(preference)
    if (match !== null) return Number(match[1])
  }
  return 0
}

/** RFC 9110, 13.1.2: weak comparison; our tags hold no comma. `*` matches whatever there is. */
export function matchesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  return header.split(',').some((item) => item.trim() === '*' || item.trim().replace(/^W\//, '') === etag)
}
