/**
 * Lines of one segment as the ledger takes them: NDJSON, one behind the other in one buffer, with their numbers and places in the
 * spool. No object for a line: thousands of lines a second would keep the garbage collector busy. Its buffer can be used again.
 */
export class LineBatch {
  readonly #bytes: Buffer
  readonly #seqs: Float64Array
  /** Behind the line feed, in `#bytes`; behind the frame, in the segment. */
  readonly #ends: Uint32Array
  readonly #offsets: Float64Array
  #count = 0
  #length = 0
  segment = 0
  /** Offset of the first frame in its segment, and the one from which the next batch starts. */
  start = 0
  end = 0
  /** Bytes that were no frame and were passed over. */
  skippedBytes = 0

  /** Takes `bytes` over. It holds up to `maxItems` lines. */
  constructor(bytes: Buffer, maxItems: number) {
    this.#bytes = bytes
    this.#seqs = new Float64Array(maxItems)
    this.#ends = new Uint32Array(maxItems)
    this.#offsets = new Float64Array(maxItems)
  }

  get count(): number {
    return this.#count
  }

  /** Line feeds included. */
  get length(): number {
    return this.#length
  }

  reset(segment: number, start: number): this {
    this.segment = segment
    this.start = start
    this.end = start
    this.skippedBytes = 0
    this.#count = 0
    this.#length = 0
    return this
  }

  /** Whether it was made for so many lines, of so many bytes together. */
  holds(items: number, bytes: number): boolean {
    return this.#seqs.length >= items && this.#bytes.length >= bytes
  }

  /** Bytes of the first `count` lines, line feeds included. */
  lengthOf(count: number): number {
    return this.#startOf(count)
  }

  hasRoom(lineLength: number): boolean {
    return this.#count < this.#seqs.length && this.#length + lineLength + 1 <= this.#bytes.length
  }

  /** Copies a line (from `from` to `to` of `source`, which may be the batch's own buffer further behind). Ask `hasRoom` before. */
  add(seq: number, source: Buffer, from: number, to: number, offset: number): void {
    source.copy(this.#bytes, this.#length, from, to)
    this.#length += to - from
    this.#bytes[this.#length] = LINE_FEED
    this.#length += 1
    this.#seqs[this.#count] = seq
    this.#ends[this.#count] = this.#length
    this.#offsets[this.#count] = offset
    this.#count += 1
    this.end = offset
  }

  seq(index: number): number {
    return this.#seqs[index] as number
  }

  /** Without its line feed; a view of the batch. */
  line(index: number): Buffer {
    return this.#bytes.subarray(this.#startOf(index), (this.#ends[index] as number) - 1)
  }

  /** Behind the frame of a line, in its segment. */
  offset(index: number): number {
    return this.#offsets[index] as number
  }

  /** The index of the line with this number, -1 where there is none. */
  indexOf(seq: number): number {
    let low = 0
    let high = this.#count - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const found = this.#seqs[middle] as number
      if (found === seq) return middle
      if (found < seq) low = middle + 1
      else high = middle - 1
    }
    return -1
  }

  /** Lines (ascending indexes) as the body of a request: a view of the batch where they follow one another. */
  bodyOf(indexes: readonly number[]): Buffer {
    const first = indexes[0] ?? 0
    const last = indexes.at(-1) ?? -1
    if (last - first + 1 === indexes.length) return this.#bytes.subarray(this.#startOf(first), this.#ends[last])
    return Buffer.concat(indexes.map((index) => this.#bytes.subarray(this.#startOf(index), this.#ends[index])))
  }

  #startOf(index: number): number {
    return index === 0 ? 0 : (this.#ends[index - 1] as number)
  }
}

const LINE_FEED = 0x0a
