import { SignetError } from '#core/error/signet-error.ts'

/** Lets so many through at once, and so many wait. */
export type Turnstile = { run<T>(work: () => Promise<T>): Promise<T> }

/** `run` throws OVERLOADED at once where too many wait already. */
export function createTurnstile(limits: { readonly maxRunning: number; readonly maxWaiting: number }): Turnstile {
  let running = 0
  const waiting: (() => void)[] = []
  return {
    async run(work) {
      if (running >= limits.maxRunning) {
        if (waiting.length >= limits.maxWaiting)
          throw new SignetError('OVERLOADED', 'too many rules are being checked; try again in a few seconds')
        await new Promise<void>((resolve) => waiting.push(resolve))
      } else running++
      try {
        return await work()
      } finally {
        const next = waiting.shift()
        // The place goes from hand to hand.
        if (next === undefined) running--
        else next()
      }
    },
  }
}
