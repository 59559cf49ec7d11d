import { SignetError } from '#core/error/signet-error.ts'

/** Lets work through, so much at once, and fairly between those that it is for. */
export type Turnstile = {
  /** `who`: one at a time. Throws OVERLOADED where too many wait already, and after `maxWaitMs`: by then nobody waits for the answer any more. */
  run<T>(who: string, work: () => Promise<T>): Promise<T>
}

export type TurnstileLimits = {
  /** Places for all. Who is `first` has one more, goes before all others, and may have several. */
  readonly maxRunning: number
  /** That wait, and that wait for one. */
  readonly maxWaiting: number
  readonly maxWaitingEach: number
  readonly maxWaitMs: number
  readonly first: string
  readonly monotonicMs: () => number
}

/** Work that takes longer is slow; an ordinary rule takes a tenth of it. */
const SLOW_MS = 1_000
/** For so long the last place is kept from those whose work was slow. */
const REMEMBERED_MS = 30_000

type Waiting = { readonly who: string; readonly enter: () => void }

/**
 * Places go to those who have none, in the order of asking; one is kept from those whose work was slow lately, so that it is there for whoever comes
 * with something quick: authors who apply slow rules in a loop wait for each other.
 */
export function createTurnstile(limits: TurnstileLimits): Turnstile {
  const { first, maxRunning, monotonicMs } = limits
  const running = new Map<string, number>()
  const waiting = new Set<Waiting>()
  /** By who was slow: until when that counts. */
  const slowUntilMs = new Map<string, number>()
  let places = 0
  let slowPlaces = 0

  const isSlow = (who: string): boolean => who !== first && (slowUntilMs.get(who) ?? -Infinity) > monotonicMs()
  const count = (who: string): number => running.get(who) ?? 0
  const mayEnter = (who: string): boolean => {
    if (who === first) return places < maxRunning + 1
    if (count(who) > 0 || places - count(first) >= maxRunning || places >= maxRunning + 1) return false
    return !isSlow(who) || slowPlaces < Math.max(1, maxRunning - 1)
  }
  const remember = (who: string, tookMs: number): void => {
    if (tookMs <= SLOW_MS) return
    const nowMs = monotonicMs()
    for (const [each, untilMs] of slowUntilMs) if (untilMs <= nowMs) slowUntilMs.delete(each)
    slowUntilMs.set(who, nowMs + REMEMBERED_MS)
  }
  const admit = (): void => {
    const asking = [...waiting]
    for (const next of [...asking.filter(({ who }) => who === first), ...asking.filter(({ who }) => who !== first)]) {
      if (mayEnter(next.who)) next.enter()
    }
  }

  /** Resolves in the place, to whether it is one of those for the slow. */
  const turn = (who: string): Promise<boolean> =>
    new Promise((resolve, reject) => {
      const each: Waiting = {
        who,
        enter() {
          clearTimeout(timer)
          waiting.delete(each)
          const slow = isSlow(who)
          places += 1
          if (slow) slowPlaces += 1
          running.set(who, count(who) + 1)
          resolve(slow)
        },
      }
      const timer = setTimeout(() => {
        waiting.delete(each)
        reject(overloaded())
      }, limits.maxWaitMs)
      waiting.add(each)
      admit()
    })

  return {
    async run(who, work) {
      const own = [...waiting].filter((each) => each.who === who).length
      if (!mayEnter(who) && (own >= limits.maxWaitingEach || waiting.size >= limits.maxWaiting)) throw overloaded()
      const slow = await turn(who)
      const startedMs = monotonicMs()
      try {
        return await work()
      } finally {
        remember(who, monotonicMs() - startedMs)
        places -= 1
        if (slow) slowPlaces -= 1
        if (count(who) === 1) running.delete(who)
        else running.set(who, count(who) - 1)
        admit()
      }
    },
  }
}

function overloaded(): SignetError {
  return new SignetError('OVERLOADED', 'too many rules are being checked; try again in a few seconds')
}
