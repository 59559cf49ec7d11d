import { chainBroken } from '#core/chain/fault.ts'
import type { StoredLink, StoredRecord, StoredStamp } from '#core/chain/stored.ts'
import type { Client } from '../postgres/transaction.ts'
import { linkAt, readStamps, recordAt } from './chain.ts'
import { LINK, RECORD } from './columns.ts'
import type { CopyTable } from './copy.ts'

export type Pair = { readonly link: StoredLink; readonly records: readonly StoredRecord[] }

/** Links in order with the records that have their numbers, and the stamps of these, as they came from the wall. */
export class Batch {
  readonly links: CopyTable
  readonly records: CopyTable
  readonly stamps: ReadonlyMap<string, StoredStamp>
  readonly last: number
  /** How many of the links belong to it: those up to `last`. */
  readonly count: number
  readonly #tenant: string
  /** For each link, where its records begin; they end where those begin that have a higher number. */
  readonly #from: Int32Array
  readonly #to: Int32Array

  /** `last`: the highest number that was read; links beyond it are left out. */
  constructor(
    tenant: string,
    rows: { links: CopyTable; records: CopyTable; stamps: ReadonlyMap<string, StoredStamp>; last: number },
  ) {
    this.#tenant = tenant
    this.links = rows.links
    this.records = rows.records
    this.stamps = rows.stamps
    this.last = rows.last
    const { links, records } = rows
    // A record whose link is gone shows by the link that is missing; only before the first link none is missed.
    if (records.count > 0 && records.bigint(0, RECORD.seq) < 1)
      throw chainBroken(records.bigint(0, RECORD.seq), 'insert', 'a record stands before the first link')
    this.#from = new Int32Array(links.count)
    this.#to = new Int32Array(links.count)
    let count = 0
    let at = 0
    for (; count < links.count; count++) {
      const seq = links.bigint(count, LINK.seq)
      if (seq > rows.last) break
      while (at < records.count && records.bigint(at, RECORD.seq) < seq) at++
      this.#from[count] = at
      while (at < records.count && records.bigint(at, RECORD.seq) === seq) at++
      this.#to[count] = at
    }
    this.count = count
  }

  /** The row of a link's record; -1 where it has none, or a second one. */
  onlyRecordOf(row: number): number {
    const from = this.#from[row] as number
    return this.#to[row] === from + 1 ? from : -1
  }

  pair(row: number): Pair {
    const from = this.#from[row] as number
    const length = (this.#to[row] as number) - from
    return {
      link: linkAt(this.links, row, this.#tenant),
      records: Array.from({ length }, (_, index) => recordAt(this.records, from + index)),
    }
  }

  pairs(): Pair[] {
    return Array.from({ length: this.count }, (_, row) => this.pair(row))
  }

  /** The links that have no record. */
  withoutRecord(): StoredLink[] {
    const found: StoredLink[] = []
    for (let row = 0; row < this.count; row++)
      if (this.#to[row] === this.#from[row]) found.push(linkAt(this.links, row, this.#tenant))
    return found
  }
}

/** A batch of what was read, with its stamps. @throws SignetError CHAIN_BROKEN for a record before the first link */
export async function batchOf(
  client: Client,
  tenant: string,
  { links, records, last }: { links: CopyTable; records: CopyTable; last: number },
): Promise<Batch> {
  const hashes: string[] = []
  for (let row = 0; row < records.count; row++) {
    const hash = records.text(row, RECORD.stamp_hash)
    if (hash !== '') hashes.push(hash)
  }
  return new Batch(tenant, { links, records, stamps: await readStamps(client, tenant, hashes), last })
}
