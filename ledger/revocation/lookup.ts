import { LRUCache } from 'lru-cache'
import { SignetError } from '#core/error/signet-error.ts'
import type { Standing, Target } from './store.ts'

export type LookupOptions = {
  /** Those of the targets that are revoked. */
  readonly find: (targets: readonly Target[]) => Promise<readonly Standing[]>
  /** Monotonic milliseconds. */
  readonly now: () => number
  /** How long an answer may take before nobody is asked any more for these calls, ms. */
  readonly answerWithinMs?: number
}

export type RevocationLookup = {
  /**
   * The first of the targets' revocations that stands; null where none does. What was asked for at most `FRESH_MS` ago counts. `fresh`: nothing
   * does that was asked for before this call, and while the database is away nobody passes.
   * @throws SignetError IDENTITY_UNAVAILABLE where nobody can tell, and nothing is known of one of the targets; LEDGER_BUSY
   */
  find(targets: readonly Target[], options?: { readonly fresh?: boolean }): Promise<Standing | null>
  /** What is known of it does not count any more: it was revoked, or let in again, by this process. */
  readonly forget: (target: Target) => void
}

type Waiting = {
  readonly targets: readonly Target[]
  readonly fresh: boolean
  readonly resolve: (found: Standing | null) => void
  readonly reject: (error: unknown) => void
}
/** `at`: when it was asked for, so that what was revoked before then is in it. */
type Word = { readonly standing: Standing | null; readonly at: number }

/** How long a revocation that another process made may take to hold in this one. */
const FRESH_MS = 1_000
/** While the database is away, what was last said of a target holds for this long. */
const STALE_MS = 15 * 60_000
/** After the database failed to answer, who is known does not wait for it again for so long. */
const PATIENCE_MS = 1_000
const ANSWER_WITHIN_MS = 1_500
const MAX_WAITING = 5_000
const MAX_KNOWN = 50_000

/** Asks once a second at most for each target, for all calls that wait at the same time in one question, one question at a time. */
export function createRevocationLookup(options: LookupOptions): RevocationLookup {
  const { find, now, answerWithinMs = ANSWER_WITHIN_MS } = options
  const known = new LRUCache<string, Word>({ max: MAX_KNOWN })
  let waiting: Waiting[] = []
  let asking = false
  let failedAt = -Infinity
  /** Times that something was forgotten: what is being answered then may be older than why. */
  let changes = 0

  async function ask(): Promise<void> {
    asking = true
    while (waiting.length > 0) {
      const group = waiting
      waiting = []
      const targets = new Map(group.flatMap((each) => each.targets).map((target) => [keyOf(target), target]))
      const [at, changesBefore] = [now(), changes]
      try {
        const found = new Map(
          (await within(answerWithinMs, find([...targets.values()]))).map((each) => [keyOf(each), each]),
        )
        failedAt = -Infinity
        const words = new Map([...targets.keys()].map((key) => [key, { standing: found.get(key) ?? null, at }]))
        if (changes === changesBefore) for (const [key, word] of words) known.set(key, word)
        for (const each of group) each.resolve(standingOf(each.targets.map((target) => words.get(keyOf(target)))))
      } catch (error) {
        failedAt = now()
        for (const each of group) settleWithout(each, error)
      }
    }
    asking = false
  }

  /** For who waited for a database that did not answer. */
  function settleWithout({ targets, fresh, resolve, reject }: Waiting, cause: unknown): void {
    const last = lastSaid(wordsOf(targets), fresh ? 0 : STALE_MS)
    if (last !== undefined) return resolve(last)
    reject(
      new SignetError('IDENTITY_UNAVAILABLE', 'nobody can say whether this caller was revoked; try again shortly', {
        cause,
      }),
    )
  }

  const wordsOf = (targets: readonly Target[]) => targets.map((target) => known.get(keyOf(target)))
  const areSince = (words: readonly (Word | undefined)[], ageMs: number): boolean =>
    words.every((word) => word !== undefined && now() - word.at < ageMs)
  /** What stood goes on standing, however old the word of it is; undefined where nothing can be said. */
  const lastSaid = (words: readonly (Word | undefined)[], ageMs: number): Standing | null | undefined =>
    standingOf(words) ?? (areSince(words, ageMs) ? null : undefined)

  function remembered(targets: readonly Target[]): Standing | null | undefined {
    const words = wordsOf(targets)
    if (now() - failedAt < PATIENCE_MS) return lastSaid(words, STALE_MS)
    return areSince(words, FRESH_MS) ? standingOf(words) : undefined
  }

  return {
    find(targets, { fresh = false } = {}) {
      const answer = fresh ? undefined : remembered(targets)
      if (answer !== undefined) return Promise.resolve(answer)
      if (waiting.length >= MAX_WAITING)
        return Promise.reject(new SignetError('LEDGER_BUSY', 'too many calls are waiting; try again shortly'))
      return new Promise((resolve, reject) => {
        waiting.push({ targets, fresh, resolve, reject })
        if (!asking) void ask()
      })
    },
    forget(target) {
      changes++
      known.delete(keyOf(target))
    },
  }
}

function standingOf(words: readonly (Word | undefined)[]): Standing | null {
  return words.find((word) => word?.standing != null)?.standing ?? null
}

function keyOf({ tenant, kind, target }: Target): string {
  return JSON.stringify([tenant, kind, target])
}

/** A connection that hangs must not hang every call. */
function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new SignetError('DATABASE_UNAVAILABLE', 'the work database does not answer in time')),
      ms,
    )
  })
  return Promise.race([work, late]).finally(() => clearTimeout(timer))
}
