import { SignetError } from '#core/error/signet-error.ts'

/** Lets so many through at once, and so many wait for so long. */
export type Turnstile = { run<T>(work: () => Promise<T>): Promise<T> }

/** `run` throws OVERLOADED at once where too many wait already, and after `maxWaitMs`: by then nobody waits for the answer any more. */
export function createTurnstile(limits: {
  readonly maxRunning: number
  readonly maxWaiting: number
  readonly maxWaitMs: number
}): Turnstile {
  let running = 0
  const waiting = new Set<() => void>()

  const turn = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const enter = (): void => {
        clearTimeout(timer)
        resolve()
      }
      const timer = setTimeout(() => {
        waiting.delete(enter)
        reject(overloaded())
      }, limits.maxWaitMs)
      waiting.add(enter)
    })

  return {
    async run(work) {
      if (running >= limits.maxRunning) {
        if (waiting.size >= limits.maxWaiting) throw overloaded()
        await turn()
      } else running++
      try {
        return await work()
      } finally {
        const [next] = waiting
        // The place goes from hand to hand.
        if (next === undefined) running--
        else {
          waiting.delete(next)
          next()
        }
      }
    },
  }
}

function overloaded(): SignetError {
  return new SignetError('OVERLOADED', 'too many rules are being checked; try again in a few seconds')
}
