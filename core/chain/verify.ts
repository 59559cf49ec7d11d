import type { KeyObject } from 'node:crypto'
import type { SignetError } from '../error/signet-error.ts'
import type { KeyIndex } from '../keyring/keyring.ts'
import { chainBroken, type ChainFault } from './fault.ts'
import { commitmentHex, linkHash, NO_PREDECESSOR, type Link, type PlacedLink, type RecordBytes } from './link.ts'
import { TraceHeads } from './trace-heads.ts'

/** A head known from elsewhere (an acknowledgement, a witness). `hash`: 64 hex digits, zeros for seq 0. */
export type KnownHead = { readonly seq: number; readonly hash: string }

export type ChainVerifierOptions = {
  readonly tenant: string
  readonly keyring: Pick<KeyIndex, 'chainKey'>
  /** The link after which to begin, when it was verified before; from the beginning unless given. */
  readonly start?: { readonly seq: number; readonly hash: Buffer }
  /** Heads that the chain must contain. Without one, a chain whose end was cut off verifies. */
  readonly knownHeads?: readonly KnownHead[]
  /**
   * What columns outside of the link hash must be, derived from the sealed bytes; what it throws is an `edit`. Without it, an
   * `event_id` or `received_hmac` that was changed is not noticed.
   */
  readonly derive?: (bytes: Buffer) => Partial<Pick<Link, 'event_id' | 'trace_hmac' | 'received_hmac'>>
  /** Traces whose last link is remembered (150 bytes each); the longest unused go first. 1,000,000 unless given. */
  readonly maxTraces?: number
  /** Called for a link whose trace predecessor is out of reach here, so that somebody else compares it. */
  readonly onTraceUnproven?: (link: Link) => void
}

export type ChainReport = {
  /** The head: last sequence number and hash (zeros and 0 for an empty chain). */
  readonly seq: number
  readonly hash: Buffer
  /** Links verified, and of them those without a record to check the commitment against. */
  readonly links: number
  readonly withoutRecord: number
  /** Links whose trace predecessor was out of reach (before `start`, or past `maxTraces`): under the hash, but not compared. */
  readonly traceUnproven: number
}

const DEFAULT_MAX_TRACES = 1_000_000
const HASH_BYTES = 32
/** How far from its place a link is looked for, once one does not verify. */
const SEARCH_REACH = 256

type Suspect = { readonly link: Link; readonly trueSeq: number | null; readonly computed: Buffer }

/**
 * Re-derives a tenant's chain. Feed every link in order of `seq` to `add`, then call `finish`: only what `finish` returned is
 * verified. Naming the fault of a link can take the link after it, so that `add` may throw for the one before.
 */
export class ChainVerifier {
  readonly #options: ChainVerifierOptions
  readonly #traces: TraceHeads
  readonly #knownHeads = new Map<number, string>()
  readonly #verifiedKeys = new Set<string>()
  readonly #startsAtFirst: boolean
  #seq: number
  #hash: Buffer
  readonly #ownHash = Buffer.alloc(HASH_BYTES)
  #lastKey = ''
  #links = 0
  #withoutRecord = 0
  #traceUnproven = 0
  #suspect: Suspect | null = null

  constructor(options: ChainVerifierOptions) {
    this.#options = options
    this.#traces = new TraceHeads(options.maxTraces ?? DEFAULT_MAX_TRACES)
    this.#seq = options.start?.seq ?? 0
    this.#hash = options.start?.hash ?? NO_PREDECESSOR
    this.#startsAtFirst = this.#seq === 0
    for (const head of options.knownHeads ?? []) this.#expectHead(head)
  }

  /**
   * @param record what the link commits to; null when it was purged
   * @throws SignetError CHAIN_BROKEN with `details {seq, fault, expected, found}`: the first bad place, its fault and both states
   */
  add(link: Link, record: RecordBytes | null): void {
    if (this.#suspect !== null) throw this.#name(this.#suspect, link)
    const expectedSeq = this.#seq + 1
    if (link.tenant !== this.#options.tenant) {
      throw broken(
        expectedSeq,
        'insert',
        'the link is of another tenant',
        { tenant: this.#options.tenant },
        { tenant: link.tenant },
      )
    }
    this.#checkSeq(link, expectedSeq)
    const key = this.#keyOf(link)
    if (!hasLengths(link)) throw broken(link.seq, 'edit', 'a hash of the link has not 32 bytes', { bytes: 32 }, {})
    if (record !== null) checkCommitment(link, record)

    const computed = hashOf(link, key, link.seq)
    if (!computed.equals(link.hash)) {
      this.#suspect = { link, trueSeq: findTrueSeq(link, key), computed }
      return
    }
    // With the key in doubt nothing that is derived with it says anything, so that this comes after the hash.
    if (record !== null) this.#checkDerived(link, record)
    if (!link.previous_hash.equals(this.#hash)) {
      throw broken(
        link.seq,
        'fork',
        'the link goes on from another link than the one before it',
        { previous_hash: hex(this.#hash) },
        { previous_hash: hex(link.previous_hash) },
      )
    }
    this.#checkTrace(link)
    const known = this.#knownHeads.get(link.seq)
    if (known !== undefined && known !== hex(link.hash)) {
      throw broken(
        link.seq,
        'fork',
        'another link was acknowledged at this place',
        { hash: known },
        { hash: hex(link.hash) },
      )
    }
    this.#seq = link.seq
    this.#hash = link.hash
    this.#links++
    if (record === null) this.#withoutRecord++
    this.#verifiedKeys.add(link.key_id)
  }

  /**
   * As `add`, for a link of the tenant's whose own hash and record the caller has checked, with everything that is derived from these. Says
   * false, and does nothing, where it does not go on from what came before, or where something has to be looked at more closely.
   */
  addSound(link: PlacedLink): boolean {
    const { bytes, seq } = link
    if (this.#suspect !== null || seq !== this.#seq + 1 || this.#knownHeads.has(seq)) return false
    if (!isAt(this.#hash, bytes, link.previousHash)) return false
    const traces = this.#traces
    const trace = traces.find(bytes, link.traceHmac)
    if (trace === -1) {
      const isFirst = this.#startsAtFirst && !traces.hasForgotten && isAt(NO_PREDECESSOR, bytes, link.previousTraceHash)
      if (!isFirst) return false
    } else if (!traces.isHead(trace, bytes, link.previousTraceHash)) return false
    traces.put(trace, bytes, link.traceHmac, bytes, link.hash)
    this.#seq = seq
    if (this.#hash !== this.#ownHash) this.#hash = this.#ownHash
    for (let index = 0; index < HASH_BYTES; index++) this.#ownHash[index] = bytes[link.hash + index] as number
    this.#links++
    if (link.keyId !== this.#lastKey) {
      this.#verifiedKeys.add(link.keyId)
      this.#lastKey = link.keyId
    }
    return true
  }

  /** @throws SignetError CHAIN_BROKEN as `add`, and `truncate` when a known head lies behind the end */
  finish(): ChainReport {
    if (this.#suspect !== null) throw this.#name(this.#suspect, null)
    for (const [seq, hash] of this.#knownHeads) {
      if (seq > this.#seq) {
        throw broken(
          this.#seq + 1,
          'truncate',
          `the chain ends at ${this.#seq}, but ${seq} was acknowledged`,
          { seq, hash },
          { seq: this.#seq, hash: hex(this.#hash) },
        )
      }
    }
    return {
      seq: this.#seq,
      hash: Buffer.from(this.#hash),
      links: this.#links,
      withoutRecord: this.#withoutRecord,
      traceUnproven: this.#traceUnproven,
    }
  }

  #expectHead({ seq, hash }: KnownHead): void {
    const known = seq === this.#seq ? hex(this.#hash) : this.#knownHeads.get(seq)
    if (known !== undefined && known !== hash)
      throw broken(seq, 'fork', 'two heads are known for this place', { hash: known }, { hash })
    // Heads before `start` were compared when those links were verified.
    if (seq > this.#seq) this.#knownHeads.set(seq, hash)
  }

  #checkSeq(link: Link, expectedSeq: number): void {
    const { seq } = link
    if (seq === expectedSeq) return
    if (seq > expectedSeq) throw broken(expectedSeq, 'delete', 'the link is missing', { seq: expectedSeq }, { seq })
    if (seq === this.#seq) {
      const isCopy = link.hash.equals(this.#hash)
      throw broken(
        seq,
        isCopy ? 'insert' : 'fork',
        'a second link has this sequence number',
        { hash: hex(this.#hash) },
        { hash: hex(link.hash) },
      )
    }
    throw broken(expectedSeq, 'reorder', 'a link comes after a later one', { seq: expectedSeq }, { seq })
  }

  #keyOf(link: Link): KeyObject {
    const key = this.#options.keyring.chainKey(link.key_id)
    if (key === undefined)
      throw broken(link.seq, 'wrong-key', `the keyring has no chain key «${link.key_id}»`, {}, { key_id: link.key_id })
    return key.secret
  }

  #checkDerived(link: Link, record: RecordBytes): void {
    const derived = this.#derive(link, record)
    for (const name of ['event_id', 'trace_hmac', 'received_hmac'] as const) {
      const wanted = derived[name]
      if (wanted !== undefined && !isSame(wanted, link[name])) {
        throw broken(
          link.seq,
          'edit',
          `the link's ${name} is not that of its record`,
          { [name]: hex(wanted) },
          { [name]: hex(link[name]) },
        )
      }
    }
  }

  #derive(link: Link, record: RecordBytes): ReturnType<NonNullable<ChainVerifierOptions['derive']>> {
    try {
      return this.#options.derive?.(record.bytes) ?? {}
    } catch (cause) {
      throw broken(link.seq, 'edit', 'the record is not a sealed event', {}, {}, cause)
    }
  }

  #checkTrace(link: Link): void {
    const head = this.#traces.advance(link.trace_hmac, link.hash)
    const complete = this.#startsAtFirst && !this.#traces.hasForgotten
    if (head === undefined && !complete) {
      this.#traceUnproven++
      this.#options.onTraceUnproven?.(link)
      return
    }
    const wanted = head ?? NO_PREDECESSOR
    if (!link.previous_trace_hash.equals(wanted)) {
      throw broken(
        link.seq,
        'edit',
        'the link does not go on from the last link of its trace',
        { previous_trace_hash: hex(wanted) },
        { previous_trace_hash: hex(link.previous_trace_hash) },
      )
    }
  }

  /** Names what was done at a link whose hash is wrong; `next` is the link behind it, null at the end. */
  #name({ link, trueSeq, computed }: Suspect, next: Link | null): SignetError {
    const states = [{ hash: hex(computed) }, { hash: hex(link.hash) }] as const
    if (trueSeq !== null) {
      const states = [{ seq: trueSeq }, { seq: link.seq }] as const
      if (trueSeq < link.seq) return broken(link.seq, 'insert', `here stands a copy of link ${trueSeq}`, ...states)
      const shift = trueSeq - link.seq
      const nextShift = next === null ? shift : (this.#trueSeqOf(next) ?? next.seq) - next.seq
      return nextShift === shift
        ? broken(link.seq, 'delete', `here stands link ${trueSeq}, renumbered`, ...states)
        : broken(link.seq, 'reorder', `here stands link ${trueSeq}`, ...states)
    }
    const nextTrueSeq = next === null ? null : this.#trueSeqOf(next)
    if (next !== null && nextTrueSeq === next.seq - 1) {
      return broken(
        link.seq,
        'insert',
        'the link was never made with the key, and the one after it belongs in its place',
        ...states,
      )
    }
    if (nextTrueSeq === null && !this.#verifiedKeys.has(link.key_id)) {
      return broken(
        link.seq,
        'wrong-key',
        `nothing verifies with chain key «${link.key_id}» as the keyring has it`,
        ...states,
      )
    }
    return broken(link.seq, 'edit', 'the link is not what the key made', ...states)
  }

  #trueSeqOf(link: Link): number | null {
    const key = this.#options.keyring.chainKey(link.key_id)
    if (key === undefined || !hasLengths(link) || link.tenant !== this.#options.tenant) return null
    return findTrueSeq(link, key.secret)
  }
}

function checkCommitment(link: Link, record: RecordBytes): void {
  const committed = hex(link.commitment)
  const found = record.nonce.length === 32 ? commitmentHex(record.nonce, record.bytes) : null
  if (found === committed) return
  throw broken(
    link.seq,
    'edit',
    'the record is not the one that the link commits to',
    { commitment: committed },
    { commitment: found },
  )
}

function hashOf(link: Link, key: KeyObject, seq: number): Buffer {
  return linkHash({
    key,
    previousHash: link.previous_hash,
    previousTraceHash: link.previous_trace_hash,
    commitment: link.commitment,
    seq,
    tenant: link.tenant,
  })
}

/** The sequence number near its own that the link was made for; null when there is none. */
function findTrueSeq(link: Link, key: KeyObject): number | null {
  for (let reach = 0; reach <= SEARCH_REACH; reach++) {
    for (const seq of [link.seq + reach, link.seq - reach]) {
      if (seq >= 1 && hashOf(link, key, seq).equals(link.hash)) return seq
    }
  }
  return null
}

function hasLengths(link: Link): boolean {
  return (
    link.commitment.length === 32 &&
    link.hash.length === 32 &&
    link.previous_hash.length === 32 &&
    link.previous_trace_hash.length === 32 &&
    link.trace_hmac.length === 32
  )
}

function isAt(hash: Buffer, bytes: Buffer, at: number): boolean {
  for (let index = 0; index < HASH_BYTES; index++) if (hash[index] !== bytes[at + index]) return false
  return true
}

function isSame(wanted: Buffer | string, found: Buffer | string): boolean {
  return typeof wanted === 'string' || typeof found === 'string' ? wanted === found : wanted.equals(found)
}

function hex(value: Buffer | string): string {
  return typeof value === 'string' ? value : value.toString('hex')
}

function broken(
  seq: number,
  fault: ChainFault,
  what: string,
  expected: Record<string, unknown>,
  found: Record<string, unknown>,
  cause?: unknown,
): SignetError {
  return chainBroken(seq, fault, what, { expected, found, cause })
}
