/** The last link hash of each trace, bounded: the traces that were not touched for longest are forgotten first. */
export class TraceHeads {
  // Raw bytes as latin1 text: half of what hex takes, and equal texts are equal keys.
  readonly #heads = new Map<string, string>()
  readonly #maxTraces: number
  #hasForgotten = false

  constructor(maxTraces: number) {
    this.#maxTraces = maxTraces
  }

  /** Whether a trace without a head here may have had one. */
  get hasForgotten(): boolean {
    return this.#hasForgotten
  }

  /** Makes `hash` the head of its trace and gives the head before; undefined when none is known. */
  advance(traceHmac: Buffer, hash: Buffer): Buffer | undefined {
    const trace = traceHmac.toString('latin1')
    const before = this.#heads.get(trace)
    if (before !== undefined) this.#heads.delete(trace)
    this.#heads.set(trace, hash.toString('latin1'))
    if (this.#heads.size > this.#maxTraces) {
      const oldest = this.#heads.keys().next()
      if (oldest.done !== true) this.#heads.delete(oldest.value)
      this.#hasForgotten = true
    }
    return before === undefined ? undefined : Buffer.from(before, 'latin1')
  }
}
