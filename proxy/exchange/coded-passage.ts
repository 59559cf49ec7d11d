import { createHash } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import type { Coding } from '../coding/coding.ts'
import { Decoder, type GrowthLimits } from '../coding/decoder.ts'
import type { Sealed } from '../egress/sealed.ts'
import type { Sized } from '../egress/validator.ts'
import { Passage, type Flow, type Passed, type PassageOwner } from './passage.ts'

/**
 * The way of a coded body to the client: digested without its codings, since that is what a stamp covers, and passed as it came, or
 * decoded where the client does not take it so. Each chunk is decoded before it passes: what turns out to be a bomb, or damaged, does
 * not; and the service is held up meanwhile.
 */
export class CodedPassage {
  readonly #owner: PassageOwner
  readonly #way: Passage
  readonly #decoder: Decoder
  readonly #asItCame: boolean
  readonly #hash = createHash('sha256')
  /** The client's end: decoded content is not made faster than it is taken. */
  readonly #gate: Flow
  readonly #queue: Buffer[] = []
  #contentLength = 0
  #head: Sealed | null = null
  #synced: Promise<void> | null = null
  #flow: Flow | null = null
  #running = false
  #clientFull = false
  #atEnd: (() => void) | null = null

  constructor(
    owner: PassageOwner,
    response: ServerResponse | null,
    passed: Passed,
    coded: { readonly codings: readonly Coding[]; readonly limits: GrowthLimits; readonly asItCame: boolean },
  ) {
    this.#owner = owner
    this.#asItCame = coded.asItCame
    this.#way = new Passage(owner, response, null, passed)
    this.#decoder = new Decoder(coded.codings, coded.limits, (piece) => this.#takeContent(piece))
    this.#gate = {
      pause: () => {
        this.#clientFull = true
        this.#decoder.pause()
      },
      resume: () => {
        this.#clientFull = false
        this.#decoder.resume()
        if (!this.#running) this.#flow?.resume()
      },
    }
  }

  get passed(): Passed {
    return this.#way.passed
  }

  /** Bytes that have passed. */
  get length(): number {
    return this.#way.length
  }

  /** Something is held that has not passed yet. */
  get isWaiting(): boolean {
    return this.#queue.length > 0 || this.#running
  }

  get isDigested(): boolean {
    return true
  }

  sized(): Sized {
    return { hex: this.#hash.digest('hex'), length: this.#contentLength }
  }

  /** Where something was taken before, the head leaves once the first of it is decoded: what is a bomb from the beginning is refused. */
  open(sealed: Sealed, synced: (() => Promise<void>) | null): void {
    this.#head = sealed
    const open = (): void => {
      if (!this.isWaiting) this.#openHead()
    }
    if (synced === null) open()
    else this.#synced = synced().then(open, (error: unknown) => this.#owner.fail(error))
  }

  take(flow: Flow, chunk: Buffer): void {
    this.#flow = flow
    this.#queue.push(chunk)
    flow.pause()
    this.#start()
  }

  end(complete: () => void): void {
    this.#atEnd = complete
    this.#start()
  }

  close(): void {
    this.#queue.length = 0
    this.#decoder.destroy()
  }

  #start(): void {
    if (!this.#running) void this.#runAll()
  }

  /** Until there is nothing to do: what comes while it runs is waited for. */
  async #runAll(): Promise<void> {
    this.#running = true
    try {
      while (this.#queue.length > 0 || this.#atEnd !== null) await this.#run()
    } catch (error) {
      this.#owner.fail(error)
      this.close()
      return
    }
    this.#running = false
    this.#owner.release()
    if (!this.#clientFull) this.#flow?.resume()
  }

  async #run(): Promise<void> {
    await this.#synced
    for (let chunk = this.#queue.shift(); chunk !== undefined; chunk = this.#queue.shift()) {
      await this.#decoder.write(chunk)
      this.#openHead()
      if (this.#asItCame && !this.#owner.settled) this.#way.take(this.#gate, chunk)
    }
    const complete = this.#atEnd
    if (complete === null) return
    this.#atEnd = null
    await this.#decoder.end()
    this.#openHead()
    if (!this.#owner.settled) this.#owner.guard(() => this.#way.end(complete))
  }

  #openHead(): void {
    const head = this.#head
    this.#head = null
    if (head !== null) this.#owner.guard(() => void (this.#owner.settled || this.#way.open(head, null)))
  }

  #takeContent(piece: Buffer): void {
    this.#hash.update(piece)
    this.#contentLength += piece.length
    if (this.#asItCame || this.#owner.settled) return
    this.#openHead()
    this.#way.take(this.#gate, piece)
  }
}
