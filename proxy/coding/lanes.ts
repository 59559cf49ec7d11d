/**
 * Runs so many tasks at a time, the others in the order they came: a decoder may hold a window of 16 MiB, so that their number
 * bounds memory; and the thread pool, which also syncs the audit spool, does no more at a time anyway.
 */
export class Lanes {
  #free: number
  readonly #waiting: (() => void)[] = []

  constructor(count: number) {
    this.#free = count
  }

  async run<Result>(task: () => Promise<Result>): Promise<Result> {
    if (this.#free > 0) this.#free -= 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await task()
    } finally {
      const next = this.#waiting.shift()
      // The lane passes on as it is.
      if (next === undefined) this.#free += 1
      else next()
    }
  }
}
