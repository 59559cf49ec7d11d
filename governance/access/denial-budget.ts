import { SignetError } from '#core/error/signet-error.ts'
import type { Principal } from './principal.ts'

const WINDOW_MS = 60_000
/** Far above what a person or a program that works sees; each is a row and an event. */
export const MAX_DENIALS = 120
const MAX_PRINCIPALS = 10_000

type Window = { readonly sinceMs: number; denials: number }

/** Every denial is recorded: so whoever is denied all the time has to wait, or they could fill the ledger. Counted in each process by itself. */
export class DenialBudget {
  readonly #nowMs: () => number
  readonly #windows = new Map<string, Window>()

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  count(principal: Principal): void {
    const window = this.#current(principal)
    if (window !== undefined) {
      window.denials += 1
      return
    }
    const key = keyOf(principal)
    this.#windows.delete(key)
    const [oldest] = this.#windows.keys()
    if (this.#windows.size >= MAX_PRINCIPALS && oldest !== undefined) this.#windows.delete(oldest)
    this.#windows.set(key, { sinceMs: this.#nowMs(), denials: 1 })
  }

  /** @throws SignetError TOO_MANY_REQUESTS for somebody who was denied too often within a minute */
  require(principal: Principal): void {
    if ((this.#current(principal)?.denials ?? 0) < MAX_DENIALS) return
    throw new SignetError(
      'TOO_MANY_REQUESTS',
      `${principal.name} was denied ${MAX_DENIALS} times within a minute; try again in a minute`,
    )
  }

  #current(principal: Principal): Window | undefined {
    const window = this.#windows.get(keyOf(principal))
    return window !== undefined && this.#nowMs() - window.sinceMs < WINDOW_MS ? window : undefined
  }
}

/** Not the token: whoever may make tokens would begin anew with each. */
function keyOf({ tenant, kind, id }: Principal): string {
  return `${tenant} ${kind} ${id}`
}
