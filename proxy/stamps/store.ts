import { SignetError } from '#core/error/signet-error.ts'
import { CHANNELS, type Channel } from '#core/stamp/schema.ts'

/** A stamp as served: its exact JCS bytes and what scopes it. */
export type StoredStamp = {
  readonly jcs: string
  readonly hash: string
  readonly channel: Channel
  readonly tenant: string
}

/** Where stamps are that this replica has not in memory: the ledger. Null: it does not know the stamp either. */
export type StampArchive = {
  fetchStamp(hash: string): Promise<Buffer | null>
  fetchRequestStamp(requestId: string): Promise<Buffer | null>
}

/** `u32` length of all, `u16` length of the request id, `u16` length of the tenant, `u8` channel; then hash, request id, tenant, JCS. */
const HEADER_BYTES = 9
const HASH_BYTES = 'sha256:'.length + 64
/** About what a stamp takes; only the size of the indexes depends on it. */
const USUAL_BYTES = 1_024

/**
 * The stamps that this proxy issued last; the ledger has them all. Holding the hash authorises, within tenant and channel: a stamp of
 * the internal channel is not served on the external one.
 *
 * They are written one behind the other into one block of `maxBytes`, over the oldest. Outside of the JavaScript heap, because tens
 * of thousands of objects that live for seconds cost the garbage collector more than all of stamping (`docs/performance.md`).
 */
export class StampStore {
  readonly #block: Buffer
  readonly #byHash: RecentIndex
  readonly #byRequest: RecentIndex
  /** Bytes ever written. What was written at `position` is at `position % size`, and there until `size` bytes more are written. */
  #head = 0

  constructor(maxBytes: number) {
    this.#block = Buffer.allocUnsafeSlow(maxBytes)
    const entries = Math.ceil(maxBytes / USUAL_BYTES)
    this.#byHash = new RecentIndex(entries)
    this.#byRequest = new RecentIndex(entries)
  }

  add(
    requestId: string | null,
    { jcs, hash, channel, tenant }: Omit<StoredStamp, 'jcs'> & { readonly jcs: string | Buffer },
  ): void {
    const block = this.#block
    const id = requestId ?? ''
    const tenantBytes = Buffer.byteLength(tenant)
    const length = HEADER_BYTES + HASH_BYTES + id.length + tenantBytes + Buffer.byteLength(jcs)
    // One that would push out most of the others is left to the ledger.
    if (length > block.length / 4) return
    const left = block.length - (this.#head % block.length)
    if (left < length) this.#head += left
    const position = this.#head
    let at = position % block.length
    at = block.writeUInt32LE(length, at)
    at = block.writeUInt16LE(id.length, at)
    at = block.writeUInt16LE(tenantBytes, at)
    at = block.writeUInt8(CHANNELS.indexOf(channel), at)
    at += block.write(hash, at, 'latin1')
    at += block.write(id, at, 'latin1')
    at += block.write(tenant, at, 'utf8')
    if (typeof jcs === 'string') block.write(jcs, at, 'utf8')
    else jcs.copy(block, at)
    this.#head += length
    this.#byHash.add(tailBits(hash), position)
    if (requestId !== null) this.#byRequest.add(tailBits(requestId), position)
  }

  byHash(hash: string): StoredStamp | null {
    const found = this.#byHash.find(tailBits(hash), (position) => this.#read(position)?.stored.hash === hash)
    return found === null ? null : (this.#read(found)?.stored ?? null)
  }

  byRequest(requestId: string): StoredStamp | null {
    const found = this.#byRequest.find(tailBits(requestId), (position) => this.#read(position)?.requestId === requestId)
    return found === null ? null : (this.#read(found)?.stored ?? null)
  }

  /** Null where it has been written over since. */
  #read(position: number): { stored: StoredStamp; requestId: string } | null {
    const block = this.#block
    if (position < this.#head - block.length) return null
    const start = position % block.length
    const end = start + block.readUInt32LE(start)
    const hashStart = start + HEADER_BYTES
    const idStart = hashStart + HASH_BYTES
    const tenantStart = idStart + block.readUInt16LE(start + 4)
    const jcsStart = tenantStart + block.readUInt16LE(start + 6)
    return {
      requestId: block.toString('latin1', idStart, tenantStart),
      stored: {
        jcs: block.toString('utf8', jcsStart, end),
        hash: block.toString('latin1', hashStart, idStart),
        channel: CHANNELS[block.readUInt8(start + 8)] as Channel,
        tenant: block.toString('utf8', tenantStart, jcsStart),
      },
    }
  }
}

const WAYS = 8

/**
 * Positions by 32 evenly spread bits of a key: `WAYS` places for each value of the low ones, of which the oldest gives way. Twice as
 * many places as entries, so that few are lost before their time.
 */
class RecentIndex {
  /** Position + 1; 0 is free. */
  readonly #places: Float64Array
  readonly #mask: number

  constructor(entries: number) {
    const sets = 2 ** Math.ceil(Math.log2(Math.max(1, (2 * entries) / WAYS)))
    this.#places = new Float64Array(sets * WAYS)
    this.#mask = sets - 1
  }

  add(bits: number, position: number): void {
    const first = (bits & this.#mask) * WAYS
    let oldest = first
    for (let at = first + 1; at < first + WAYS; at++) {
      if ((this.#places[at] as number) < (this.#places[oldest] as number)) oldest = at
    }
    this.#places[oldest] = position + 1
  }

  find(bits: number, matches: (position: number) => boolean): number | null {
    const first = (bits & this.#mask) * WAYS
    for (let at = first; at < first + WAYS; at++) {
      const position = (this.#places[at] as number) - 1
      if (position >= 0 && matches(position)) return position
    }
    return null
  }
}

/** The last eight hex digits: random in a SHA-256 as in a UUID version 7. */
function tailBits(key: string): number {
  return Number.parseInt(key.slice(-8), 16) >>> 0
}

export const STAMP_HASH = /^sha256:[0-9a-f]{64}$/

/** Throws NOT_FOUND, the same for unknown as for out of scope, so that nothing is learnt from the difference. */
export function stampNotFound(what: string): SignetError {
  return new SignetError('NOT_FOUND', `No stamp ${what} is known for this tenant and channel`)
}
