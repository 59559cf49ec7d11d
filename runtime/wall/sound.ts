import { isCommitmentOf, LinkHashCheck, type PlacedLink } from '#core/chain/link.ts'
import { LINK, RECORD } from './columns.ts'
import type { CopyTable } from './copy.ts'
import { SealedFormCheck, type SealedForm } from './sealed-form.ts'
import type { ChainKeys } from './verify-chain.ts'

const DIGEST_BYTES = 32
const TRACE_ID = /^(?!0{32})[0-9a-f]{32}$/
/** Marks of traces that are kept: an event's trace is often that of one shortly before. */
const MAX_MARKS = 10_000

/**
 * Checks links with their records where they lie, in the bytes of two COPYs: commitment, link hash, the mark of the trace, every column beside
 * the record. Says which are sound, and nothing of the others: `ChainVerifier` and `checkStored` find out what is wrong with those, if
 * anything is. It has nothing of its own to say what a sound link is; it is what these two ask for, without making an object of anything.
 */
export class SoundLinks {
  readonly #keys: ChainKeys
  readonly #tenant: string
  readonly #form: SealedFormCheck
  readonly #hashChecks = new Map<string, LinkHashCheck | null>()
  readonly #marks = new Map<string, Buffer | null>()
  #keyBytes: Uint8Array = new Uint8Array(0)
  #hashCheck: LinkHashCheck | null = null
  /** The link that was checked last. */
  readonly link: PlacedLink = {
    bytes: Buffer.alloc(0),
    seq: 0,
    keyId: '',
    commitment: 0,
    hash: 0,
    previousHash: 0,
    previousTraceHash: 0,
    traceHmac: 0,
  }

  constructor(keys: ChainKeys, tenant: string) {
    this.#keys = keys
    this.#tenant = tenant
    this.#form = new SealedFormCheck(tenant)
  }

  /** What else was found of the record whose link is sound. */
  get form(): SealedForm {
    return this.#form.found
  }

  /** Whether a link and its record are sound by themselves. Then `link` is it; what comes before it, and a stamp, are not compared. */
  isSound(links: CopyTable, linkRow: number, records: CopyTable, recordRow: number): boolean {
    return this.#place(links, linkRow) && this.#isRecordSound(links, linkRow, records, recordRow)
  }

  #place(links: CopyTable, row: number): boolean {
    const { bytes, places } = links
    const { link } = this
    const base = row * links.columns * 2
    if (
      !isDigest(places, base, LINK.commitment) ||
      !isDigest(places, base, LINK.hash) ||
      !isDigest(places, base, LINK.previous_hash) ||
      !isDigest(places, base, LINK.previous_trace_hash) ||
      !isDigest(places, base, LINK.trace_hmac)
    )
      return false
    link.bytes = bytes
    link.seq = links.bigint(row, LINK.seq)
    link.commitment = places[base + LINK.commitment * 2] as number
    link.hash = places[base + LINK.hash * 2] as number
    link.previousHash = places[base + LINK.previous_hash * 2] as number
    link.previousTraceHash = places[base + LINK.previous_trace_hash * 2] as number
    link.traceHmac = places[base + LINK.trace_hmac * 2] as number
    if (!Number.isSafeInteger(link.seq) || link.seq < 1) return false
    this.#useKey(bytes, places[base + LINK.key_id * 2] as number, places[base + LINK.key_id * 2 + 1] as number)
    return this.#hashCheck?.isSound(link) ?? false
  }

  #isRecordSound(links: CopyTable, linkRow: number, records: CopyTable, recordRow: number): boolean {
    const { bytes, places } = records
    const base = recordRow * records.columns * 2
    const from = places[base + RECORD.nonce_and_bytes * 2] as number
    const to = places[base + RECORD.nonce_and_bytes * 2 + 1] as number
    const nonceLength = places[base + RECORD.nonce_length * 2] as number
    if (from === -1 || to - from <= DIGEST_BYTES || nonceLength === -1) return false
    if (bytes.readInt32BE(nonceLength) !== DIGEST_BYTES) return false
    const { link } = this
    if (!isCommitmentOf(bytes, from, to, link.bytes, link.commitment)) return false
    if (!this.#form.vouches(records, recordRow, from + DIGEST_BYTES, to)) return false
    return (
      this.#isMarkSound(bytes, places[base + RECORD.trace_id * 2] as number) &&
      areColumnsSound(this.#form.found, links, linkRow, records, recordRow)
    )
  }

  /** Links of a chain have the same key, month after month. */
  #useKey(bytes: Buffer, from: number, to: number): void {
    if (from !== -1 && isSame(this.#keyBytes, 0, this.#keyBytes.length, bytes, from, to)) return
    const keyId = from === -1 ? '' : bytes.toString('utf8', from, to)
    let check = this.#hashChecks.get(keyId)
    if (check === undefined) {
      const key = this.#keys.chainKey(keyId)
      check = key === undefined ? null : new LinkHashCheck(key.secret, this.#tenant)
      this.#hashChecks.set(keyId, check)
    }
    this.#keyBytes = Buffer.from(keyId)
    this.#hashCheck = check
    this.link.keyId = keyId
  }

  /** Whether the link's mark is that of the trace whose id begins at `at` and has 32 bytes. */
  #isMarkSound(bytes: Buffer, at: number): boolean {
    const traceId = bytes.toString('latin1', at, at + 32)
    let mark = this.#marks.get(traceId)
    if (mark === undefined) {
      if (this.#marks.size >= MAX_MARKS) this.#marks.clear()
      mark = TRACE_ID.test(traceId) ? this.#keys.traceMark(this.#tenant, traceId) : null
      this.#marks.set(traceId, mark)
    }
    const { link } = this
    return mark !== null && isSame(mark, 0, DIGEST_BYTES, link.bytes, link.traceHmac, link.traceHmac + DIGEST_BYTES)
  }
}

/** The columns of the link that have to be those of its record. */
function areColumnsSound(
  form: SealedForm,
  links: CopyTable,
  linkRow: number,
  records: CopyTable,
  recordRow: number,
): boolean {
  const [link, record] = [linkRow * links.columns * 2, recordRow * records.columns * 2]
  const same = (linkColumn: number, recordColumn: number): boolean => {
    const [a, b] = [link + linkColumn * 2, record + recordColumn * 2]
    const [from, to] = [links.places[a] as number, links.places[a + 1] as number]
    const [otherFrom, otherTo] = [records.places[b] as number, records.places[b + 1] as number]
    return from !== -1 && otherFrom !== -1 && isSame(links.bytes, from, to, records.bytes, otherFrom, otherTo)
  }
  return (
    same(LINK.event_id, RECORD.event_id) &&
    same(LINK.retention_class, RECORD.retention_class) &&
    // Of the record they have been compared with what its bytes say.
    same(LINK.month, RECORD.month) &&
    same(LINK.appended_at, RECORD.received_at)
  )
}

function isDigest(places: Int32Array, base: number, column: number): boolean {
  const from = places[base + column * 2] as number
  return from !== -1 && (places[base + column * 2 + 1] as number) - from === DIGEST_BYTES
}

function isSame(a: Uint8Array, aFrom: number, aTo: number, b: Uint8Array, bFrom: number, bTo: number): boolean {
  if (aTo - aFrom !== bTo - bFrom) return false
  for (let index = 0; index < aTo - aFrom; index++) if (a[aFrom + index] !== b[bFrom + index]) return false
  return true
}
