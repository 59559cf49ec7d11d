import type pg from 'pg'
import type { Client } from '../postgres/transaction.ts'

/** Length of the signature and header of the format, and of each tuple's count of fields. */
const HEADER_BYTES = 19
const COUNT_BYTES = 2
const LENGTH_BYTES = 4
const FIRST_ARENA_BYTES = 256 * 1024
const FIRST_PLACES = 16 * 1024
/** Seconds from 1970 to 2000, which is where PostgreSQL's times begin. */
const EPOCH_2000_US = 946_684_800_000_000
const DAY_MS = 86_400_000

/**
 * Runs a query by COPY in binary format (PostgreSQL documentation, COPY, "Binary Format") and gives its rows: values arrive as the
 * bytes that they are, at a tenth of the cost of a row of texts, which is what lets a verifier read a whole store. `select` takes no
 * parameters: quote what goes in. Its columns have to be of the types that are read: bigint, integer, text, bytea, timestamptz, date.
 */
export function copyOut(client: Client, select: string, arena = new CopyArena()): Promise<CopyRows> {
  return new Promise((resolve, reject) => {
    const text = `COPY (${select}) TO STDOUT (FORMAT binary)`
    client.query(new CopyQuery(text, arena, resolve, reject) as pg.Submittable)
  })
}

/**
 * Memory for the rows of one COPY after the other: those of the one before are no more once the next begins. V8 answers megabytes of new
 * buffers a batch with a full collection a batch.
 */
export class CopyArena {
  bytes: Buffer = Buffer.alloc(0)
  places = new Int32Array(0)

  /** At least so many bytes, of which the first `used` are what they were. */
  bytesFor(needed: number, used: number): Buffer {
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, FIRST_ARENA_BYTES, this.bytes.length * 4))
      this.bytes.copy(larger, 0, 0, used)
      this.bytes = larger
    }
    return this.bytes
  }

  /** At least so many; those that were there are what they were. */
  morePlaces(needed: number): Int32Array<ArrayBuffer> {
    const larger = new Int32Array(Math.max(needed, FIRST_PLACES, this.places.length * 2))
    larger.set(this.places)
    this.places = larger
    return larger
  }
}

/** The rows of a COPY, read one field after the other in the order of the columns. */
export class CopyRows {
  readonly #bytes: Buffer
  #at: number
  readonly #months = new Map<number, string>()

  /** `at`: where the first row to be read begins. */
  constructor(bytes: Buffer, at = HEADER_BYTES) {
    this.#bytes = bytes
    this.#at = at
  }

  /** Where all fields of all rows are, for who compares them without reading. Each row has to have `columns` of them. */
  table(columns: number, arena = new CopyArena()): CopyTable {
    return new CopyTable(this.#bytes, columns, arena)
  }

  /** Goes to the next row; false at the end. All fields of the row before have to have been read. */
  next(): boolean {
    if (this.#at + COUNT_BYTES > this.#bytes.length || this.#bytes.readInt16BE(this.#at) < 0) return false
    this.#at += COUNT_BYTES
    return true
  }

  bigint(): number {
    return this.#nullableBigint() ?? 0
  }

  nullableBigint(): number | null {
    return this.#nullableBigint()
  }

  integer(): number {
    const at = this.#field()
    return at === null ? 0 : this.#bytes.readInt32BE(at)
  }

  text(): string {
    return this.nullableText() ?? ''
  }

  nullableText(): string | null {
    const at = this.#field()
    return at === null ? null : this.#bytes.toString('utf8', at, this.#at)
  }

  bytes(): Buffer {
    const at = this.#field()
    return at === null ? Buffer.alloc(0) : Buffer.from(this.#bytes.subarray(at, this.#at))
  }

  uuid(): string {
    return this.nullableUuid() ?? ''
  }

  nullableUuid(): string | null {
    const at = this.#field()
    if (at === null) return null
    const hex = this.#bytes.toString('hex', at, this.#at)
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }

  /** Microseconds since 1970. */
  timestamp(): number {
    return this.bigint() + EPOCH_2000_US
  }

  /** `2026-11-01`. */
  date(): string {
    return this.nullableDate() ?? ''
  }

  nullableDate(): string | null {
    const at = this.#field()
    if (at === null) return null
    const days = this.#bytes.readInt32BE(at)
    let text = this.#months.get(days)
    if (text === undefined) {
      const at = new Date(EPOCH_2000_US / 1_000 + days * DAY_MS)
      text = Number.isNaN(at.getTime()) ? String(days) : at.toISOString().slice(0, 10)
      this.#months.set(days, text)
    }
    return text
  }

  #nullableBigint(): number | null {
    const at = this.#field()
    return at === null ? null : this.#bytes.readInt32BE(at) * 2 ** 32 + this.#bytes.readUInt32BE(at + 4)
  }

  /** Where the next field's value begins (it ends at `#at`); null for NULL. */
  #field(): number | null {
    const length = this.#bytes.readInt32BE(this.#at)
    this.#at += LENGTH_BYTES
    if (length < 0) return null
    const at = this.#at
    this.#at += length
    return at
  }
}

/** The rows of a COPY as places in its bytes: nothing is made of a value before somebody asks for it. */
export class CopyTable {
  readonly bytes: Buffer
  readonly count: number
  readonly columns: number
  /** Of each field, row by row, where it begins and where it ends; -1 twice for NULL. */
  readonly places: Int32Array

  constructor(bytes: Buffer, columns: number, arena: CopyArena) {
    this.bytes = bytes
    this.columns = columns
    let { places } = arena
    let used = 0
    let count = 0
    let at = HEADER_BYTES
    while (at + COUNT_BYTES <= bytes.length) {
      const fields = bytes.readInt16BE(at)
      if (fields < 0) break
      if (fields !== columns) throw new RangeError(`a row of COPY has ${fields} fields instead of ${columns}`)
      at += COUNT_BYTES
      if (used + 2 * columns > places.length) places = arena.morePlaces(used + 2 * columns)
      for (let field = 0; field < columns; field++) {
        const length = bytes.readInt32BE(at)
        at += LENGTH_BYTES
        places[used++] = length < 0 ? -1 : at
        places[used++] = length < 0 ? -1 : (at += length)
      }
      count += 1
    }
    this.places = places
    this.count = count
  }

  /** A bigint that is not NULL. */
  bigint(row: number, column: number): number {
    const at = this.places[(row * this.columns + column) * 2] as number
    return this.bytes.readInt32BE(at) * 2 ** 32 + this.bytes.readUInt32BE(at + 4)
  }

  /** A text; '' for NULL. */
  text(row: number, column: number): string {
    const [from, to] = this.place(row, column)
    return from === -1 ? '' : this.bytes.toString('utf8', from, to)
  }

  /** Where a field begins and ends. */
  place(row: number, column: number): readonly [from: number, to: number] {
    const at = (row * this.columns + column) * 2
    return [this.places[at] as number, this.places[at + 1] as number]
  }

  /** A reader that stands before a row: `next()` goes to it. Its first field must not be NULL. */
  at(row: number): CopyRows {
    return new CopyRows(this.bytes, (this.places[row * this.columns * 2] as number) - LENGTH_BYTES - COUNT_BYTES)
  }
}

/** What pg calls for a query of its own kind (as pg-copy-streams does). */
class CopyQuery {
  readonly #text: string
  readonly #arena: CopyArena
  #used = 0
  #failed: Error | undefined
  /** pg wraps it, to clear the timer that watches the query. */
  callback: (error: Error | undefined) => void

  constructor(text: string, arena: CopyArena, resolve: (rows: CopyRows) => void, reject: (error: Error) => void) {
    this.#text = text
    this.#arena = arena
    this.callback = (error) => {
      if (error === undefined) resolve(new CopyRows(this.#arena.bytes.subarray(0, this.#used)))
      else reject(error)
    }
  }

  submit(connection: pg.Connection): void {
    connection.query(this.#text)
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    const needed = this.#used + chunk.length
    // The chunk is part of a buffer that the parser uses again.
    chunk.copy(this.#arena.bytesFor(needed, this.#used), this.#used)
    this.#used = needed
  }

  handleError(error: Error): void {
    this.#failed = error
    this.callback(error)
  }

  handleReadyForQuery(): void {
    if (this.#failed === undefined) this.callback(undefined)
  }

  handleCommandComplete(): void {
    // `handleReadyForQuery` comes right after.
  }

  handleRowDescription(): void {
    // COPY has none.
  }

  handleDataRow(): void {
    // COPY has none.
  }

  handlePortalSuspended(): void {
    // COPY has none.
  }

  handleEmptyQuery(): void {
    // COPY is none.
  }
}
