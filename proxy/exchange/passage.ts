import type { Hash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Dispatcher } from 'undici'
import type { Judgement } from '#core/policy/join.ts'
import type { Inspection } from '../egress/inspect.ts'
import { openSealed, type Sealed } from '../egress/sealed.ts'
import type { Sized } from '../egress/validator.ts'

/** Who an answer passes for. */
export type PassageOwner = {
  readonly controller: Dispatcher.DispatchController | null
  readonly settled: boolean
  /** Runs a step; what it throws ends the exchange. */
  guard(step: () => void): void
  fail(error: unknown): void
  /** What was held for the answer is on its way. */
  release(): void
  /** A client that takes nothing any more is cut off after a while. */
  expectProgress(): void
}

/** What can be held up while the other side does not keep up. */
export type Flow = Pick<Dispatcher.DispatchController, 'pause' | 'resume'>

export type Passed = {
  /** Null where nothing is decided: under `off` and `shadow`, and while a sidecar's file is only digested. */
  readonly judgement: Judgement | null
  readonly inspection: Inspection
  /** The stamp follows in a trailer. */
  readonly trailer: boolean
}

/**
 * A body on its way: passed on chunk by chunk, or (for a sidecar) only digested. Under strict audit the head waits until its event is on
 * disk; what comes meanwhile is held, and the upstream paused.
 */
export class Passage {
  readonly passed: Passed
  readonly #owner: PassageOwner
  readonly #hash: Hash | null
  /** Null where the body goes nowhere. */
  readonly #response: ServerResponse | null
  #length = 0
  /** What came while the head waits to be sent; null once it has left. */
  #waiting: Buffer[] | null = null
  #paused = false
  /** What to do at the end of the answer, which came while the head waits. */
  #atEnd: (() => void) | null = null

  /** `hash`: null where nothing is stamped. */
  constructor(owner: PassageOwner, response: ServerResponse | null, hash: Hash | null, passed: Passed) {
    this.#owner = owner
    this.#response = response
    this.#hash = hash
    this.passed = passed
  }

  get length(): number {
    return this.#length
  }

  /** The head waits for its event to be on disk. */
  get isWaiting(): boolean {
    return this.#waiting !== null
  }

  get isDigested(): boolean {
    return this.#hash !== null
  }

  /** Once, at the end. */
  sized(): Sized {
    return { hex: this.#hash?.digest('hex') ?? '', length: this.#length }
  }

  open(sealed: Sealed, synced: (() => Promise<void>) | null): void {
    const response = this.#response
    if (response === null) return
    const { controller } = this.#owner
    if (synced === null || controller === null) {
      openSealed(response, sealed)
      return
    }
    this.#waiting = []
    controller.pause()
    synced().then(
      () =>
        this.#owner.guard(() => {
          const held = this.#waiting ?? []
          this.#waiting = null
          if (this.#owner.settled || response.destroyed) return
          openSealed(response, sealed)
          for (const chunk of held) this.#write(response, controller, chunk)
          this.#owner.release()
          if (this.#atEnd !== null) this.#atEnd()
          else if (!this.#paused) controller.resume()
        }),
      (error: unknown) => this.#owner.fail(error),
    )
  }

  take(flow: Flow, chunk: Buffer): void {
    this.#hash?.update(chunk)
    this.#length += chunk.length
    if (this.#response === null) return
    if (this.#waiting === null) this.#write(this.#response, flow, chunk)
    else this.#waiting.push(chunk)
  }

  /** The upstream's answer has ended: `complete`, now or when the head has left. */
  end(complete: () => void): void {
    if (this.#waiting === null) complete()
    else this.#atEnd = complete
  }

  #write(response: ServerResponse, flow: Flow, chunk: Buffer): void {
    if (response.write(chunk) || this.#paused) return
    this.#paused = true
    flow.pause()
    this.#owner.expectProgress()
    response.once('drain', () => {
      this.#paused = false
      response.socket?.setTimeout(0)
      flow.resume()
    })
  }
}
