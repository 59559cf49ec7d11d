import { LineBatch } from './line-batch.ts'

export type RecentLimits = {
  /** Lines a batch has at most, and bytes. */
  readonly batchItems: number
  readonly batchBytes: number
  /** Batches that wait at most; 0 for none. */
  readonly batches: number
}

/**
 * The lines appended last, as they went to the disk: what the ledger keeps up with is sent from here and never read back. Bounded: the
 * oldest give way, and are read from their segment.
 */
export class RecentLines {
  readonly #limits: RecentLimits
  /** Oldest first; only the last takes lines. */
  readonly #waiting: LineBatch[] = []
  #spare: LineBatch | undefined

  constructor(limits: RecentLimits) {
    this.#limits = limits
  }

  /** A line that was written to `segment` as the frame from `start` to `end`. */
  add(segment: number, start: number, end: number, seq: number, source: Buffer, from: number, to: number): void {
    const { batches, batchBytes } = this.#limits
    if (batches === 0 || to - from + 1 > batchBytes) return
    let batch = this.#waiting.at(-1)
    if (batch === undefined || batch.segment !== segment || batch.end !== start || !batch.hasRoom(to - from)) {
      if (this.#waiting.length === batches) this.release(this.#waiting.shift() as LineBatch)
      batch = this.#fresh().reset(segment, start)
      this.#waiting.push(batch)
    }
    batch.add(seq, source, from, to, end)
  }

  /** Hands over the batch that begins at `offset` of `segment`, if it is here and within the limits. */
  take(segment: number, offset: number, maxItems: number, maxBytes: number): LineBatch | null {
    for (;;) {
      const first = this.#waiting[0]
      if (first === undefined) return null
      const isPast = first.segment < segment || (first.segment === segment && first.start < offset)
      if (!isPast) {
        const fits = first.count <= maxItems && first.length <= maxBytes
        return first.segment === segment && first.start === offset && fits ? (this.#waiting.shift() ?? null) : null
      }
      // Read from the file meanwhile.
      this.release(this.#waiting.shift() as LineBatch)
    }
  }

  /** Where in `segment`, behind `offset`, what is here begins: up to there it has to be read from the file. */
  startBehind(segment: number, offset: number): number {
    const first = this.#waiting[0]
    return first !== undefined && first.segment === segment && first.start > offset ? first.start : Infinity
  }

  /** Gives a batch back that nobody looks at any more. One that was read from a file is as large as what was read, and is of no use here. */
  release(batch: LineBatch): void {
    const { batchBytes, batchItems } = this.#limits
    if (batch.holds(batchItems, batchBytes)) this.#spare = batch
  }

  #fresh(): LineBatch {
    const spare = this.#spare
    this.#spare = undefined
    return spare ?? new LineBatch(Buffer.allocUnsafeSlow(this.#limits.batchBytes), this.#limits.batchItems)
  }
}
