const MARK_BYTES = 32
const HASH_BYTES = 32
const ENTRY_BYTES = MARK_BYTES + HASH_BYTES
const NONE = -1
const FIRST_CAPACITY = 1_024

/**
 * The last link hash of each trace, bounded: the traces that were not touched for longest are forgotten first. All in a few blocks of
 * memory (80 bytes a trace): a verifier asks for one with every link, and as texts in a `Map` they cost more than the link's own hash.
 */
export class TraceHeads {
  readonly #maxTraces: number
  #hasForgotten = false
  #count = 0
  /** Mark and head of each entry. */
  #entries = Buffer.alloc(FIRST_CAPACITY * ENTRY_BYTES)
  /** The first entry of each bucket, and the next one in its bucket of each entry. */
  #buckets = new Int32Array(FIRST_CAPACITY).fill(NONE)
  #inBucket = new Int32Array(FIRST_CAPACITY)
  /** The entries that were touched before and after each one. */
  #older = new Int32Array(FIRST_CAPACITY)
  #newer = new Int32Array(FIRST_CAPACITY)
  #oldest = NONE
  #newest = NONE

  constructor(maxTraces: number) {
    this.#maxTraces = Math.max(1, maxTraces)
  }

  /** Whether a trace without a head here may have had one. */
  get hasForgotten(): boolean {
    return this.#hasForgotten
  }

  /** Makes `hash` the head of its trace and gives the head before; undefined when none is known. Both have 32 bytes. */
  advance(traceHmac: Buffer, hash: Buffer): Buffer | undefined {
    const entry = this.find(traceHmac, 0)
    const at = entry * ENTRY_BYTES + MARK_BYTES
    const before = entry === NONE ? undefined : Buffer.from(this.#entries.subarray(at, at + HASH_BYTES))
    this.put(entry, traceHmac, 0, hash, 0)
    return before
  }

  /** The entry of the trace whose mark is at `at`; -1 where there is none. */
  find(bytes: Uint8Array, at: number): number {
    const entries = this.#entries
    let entry = this.#buckets[this.#bucketOf(bytes, at)] ?? NONE
    while (entry !== NONE && !areSame(entries, entry * ENTRY_BYTES, bytes, at)) entry = this.#inBucket[entry] as number
    return entry
  }

  /** Whether the head of an entry is the hash at `at`. */
  isHead(entry: number, bytes: Uint8Array, at: number): boolean {
    return areSame(this.#entries, entry * ENTRY_BYTES + MARK_BYTES, bytes, at)
  }

  /** Makes the hash at `hashAt` the head of an entry that was just found; of a new one for the mark at `markAt` where none was. */
  put(found: number, marks: Uint8Array, markAt: number, hashes: Uint8Array, hashAt: number): void {
    let entry = found
    if (entry === NONE) {
      entry = this.#add(marks, markAt)
      this.#push(entry)
    } else if (entry !== this.#newest) {
      this.#unlink(entry)
      this.#push(entry)
    }
    copy(hashes, hashAt, this.#entries, entry * ENTRY_BYTES + MARK_BYTES)
  }

  #add(marks: Uint8Array, markAt: number): number {
    let entry = this.#count
    if (entry === this.#maxTraces) {
      entry = this.#oldest
      this.#unlink(entry)
      this.#leaveBucket(entry)
      this.#hasForgotten = true
    } else {
      if (entry === this.#inBucket.length) this.#grow()
      this.#count += 1
    }
    copy(marks, markAt, this.#entries, entry * ENTRY_BYTES)
    this.#enterBucket(entry)
    return entry
  }

  /** A mark is a MAC: its first bytes are as good as random. */
  #bucketOf(bytes: Uint8Array, at: number): number {
    const hash =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    return hash & (this.#buckets.length - 1)
  }

  #enterBucket(entry: number): void {
    const bucket = this.#bucketOf(this.#entries, entry * ENTRY_BYTES)
    this.#inBucket[entry] = this.#buckets[bucket] as number
    this.#buckets[bucket] = entry
  }

  #leaveBucket(entry: number): void {
    const bucket = this.#bucketOf(this.#entries, entry * ENTRY_BYTES)
    const next = this.#inBucket[entry] as number
    let at = this.#buckets[bucket] as number
    if (at === entry) {
      this.#buckets[bucket] = next
      return
    }
    while (this.#inBucket[at] !== entry) at = this.#inBucket[at] as number
    this.#inBucket[at] = next
  }

  #push(entry: number): void {
    this.#older[entry] = this.#newest
    this.#newer[entry] = NONE
    if (this.#newest === NONE) this.#oldest = entry
    else this.#newer[this.#newest] = entry
    this.#newest = entry
  }

  #unlink(entry: number): void {
    const older = this.#older[entry] as number
    const newer = this.#newer[entry] as number
    if (older === NONE) this.#oldest = newer
    else this.#newer[older] = newer
    if (newer === NONE) this.#newest = older
    else this.#older[newer] = older
  }

  #grow(): void {
    const capacity = this.#inBucket.length * 2
    const entries = Buffer.alloc(capacity * ENTRY_BYTES)
    this.#entries.copy(entries)
    this.#entries = entries
    this.#older = resized(this.#older, capacity)
    this.#newer = resized(this.#newer, capacity)
    this.#inBucket = new Int32Array(capacity)
    this.#buckets = new Int32Array(capacity).fill(NONE)
    for (let entry = 0; entry < this.#count; entry++) this.#enterBucket(entry)
  }
}

function resized(values: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(length)
  larger.set(values)
  return larger
}

function areSame(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): boolean {
  for (let index = 0; index < 32; index++) if (a[aAt + index] !== b[bAt + index]) return false
  return true
}

function copy(from: Uint8Array, fromAt: number, to: Uint8Array, toAt: number): void {
  for (let index = 0; index < 32; index++) to[toAt + index] = from[fromAt + index] as number
}
