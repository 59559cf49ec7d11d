import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'

type RawHeaders = Exclude<Dispatcher.DispatchController['rawHeaders'], undefined>

/**
 * What the application controls an answer with while it is held, and after. Pausing does nothing: nothing reaches the application before
 * all is there. Aborting ends the exchange while it is under way, and the verification after it.
 */
export class HeldController implements Dispatcher.DispatchController {
  readonly #onAbort: (reason: Error) => void
  #under: Dispatcher.DispatchController | null = null
  #reason: Error | null = null
  #paused = false
  rawHeaders: RawHeaders = null
  rawTrailers: RawHeaders = null

  constructor(onAbort: (reason: Error) => void) {
    this.#onAbort = onAbort
  }

  attach(controller: Dispatcher.DispatchController): void {
    this.#under = controller
  }

  /** The answer has ended: the connection may serve another one, which is none of ours. */
  detach(controller: Dispatcher.DispatchController): void {
    this.#under = null
    this.rawHeaders = controller.rawHeaders ?? null
    this.rawTrailers = controller.rawTrailers ?? null
  }

  /** Takes fields out of `rawHeaders`; names in lower case. */
  hide(names: readonly string[]): void {
    this.rawHeaders = without(this.rawHeaders, names)
  }

  get aborted(): boolean {
    return this.#reason !== null
  }

  get paused(): boolean {
    return this.#paused
  }

  get reason(): Error | null {
    return this.#reason
  }

  pause(): void {
    this.#paused = true
  }

  resume(): void {
    this.#paused = false
  }

  abort(reason: Error): void {
    if (this.#reason !== null) return
    this.#reason = reason
    this.#onAbort(reason)
    this.#under?.abort(reason)
  }
}

function without(raw: RawHeaders, names: readonly string[]): RawHeaders {
  if (raw === null) return null
  if (!Array.isArray(raw)) {
    const kept = Object.entries(raw).filter(([name]) => !names.includes(name.toLowerCase()))
    return Object.fromEntries(kept) as IncomingHttpHeaders
  }
  const kept: (Buffer | string)[] = []
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] as Buffer | string
    if (!names.includes(name.toString().toLowerCase())) kept.push(name, raw[at + 1] as Buffer | string)
  }
  return kept as Buffer[] | string[]
}
