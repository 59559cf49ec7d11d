/** What all exchanges together may hold: a bound on memory, whatever the number and size of the answers. */
export class Budget {
  #inFlight = 0
  #bufferedBytes = 0
  readonly #maxInFlight: number
  readonly #maxBufferedBytes: number

  constructor(limits: { maxInFlight: number; maxBufferedBytes: number }) {
    this.#maxInFlight = limits.maxInFlight
    this.#maxBufferedBytes = limits.maxBufferedBytes
  }

  get inFlight(): number {
    return this.#inFlight
  }

  get bufferedBytes(): number {
    return this.#bufferedBytes
  }

  enter(): boolean {
    if (this.#inFlight >= this.#maxInFlight) return false
    this.#inFlight += 1
    return true
  }

  leave(): void {
    this.#inFlight -= 1
  }

  take(bytes: number): boolean {
    if (this.#bufferedBytes + bytes > this.#maxBufferedBytes) return false
    this.#bufferedBytes += bytes
    return true
  }

  give(bytes: number): void {
    this.#bufferedBytes -= bytes
  }
}
