import { sealRecord, type SealedRecord } from '#core/audit/record.ts'
import { commitment, linkHash } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'

/** An item of `GET /api/audit/logs`. */
export type LogItem = Omit<SealedRecord, 'v' | 'event'> & {
  readonly seq: number
  readonly event: SealedRecord['event'] | null
  readonly fault?: string
  readonly commitment: string | null
  readonly hash: string | null
  readonly previous_hash: string | null
  readonly previous_trace_hash: string | null
  readonly key_id: string | null
  readonly nonce: string
}

export type Broken = { readonly seq: number; readonly detail: string }

/**
 * Checks a chain from its head back, one event at a time, from nothing but what the ledger shows of it: that each record is the one
 * committed to, that links hang together without a gap, that all are of one tenant (the one expected, where one is), and, with the
 * chain key, that each link was made with it.
 */
export class ChainRecheck {
  readonly #keys: Pick<KeyIndex, 'chainKey'>
  #expectedSeq: number
  #expectedHash: string
  #checked = 0
  #withoutKey = 0
  #tenant: string | null

  constructor(head: { seq: number; hash: string }, keys: Pick<KeyIndex, 'chainKey'>, tenant: string | null) {
    this.#expectedSeq = head.seq
    this.#expectedHash = head.hash
    this.#keys = keys
    this.#tenant = tenant
  }

  get checked(): number {
    return this.#checked
  }

  /** The tenant expected, else that of the events; null before the first one. */
  get tenant(): string | null {
    return this.#tenant
  }

  /** Links whose hash could not be computed for want of their key. */
  get withoutKey(): number {
    return this.#withoutKey
  }

  /** The item next to be looked at, counted down from the head. Gives what is wrong with it, or null. */
  add(item: LogItem): Broken | null {
    const { seq } = item
    const bad = (detail: string): Broken => ({ seq, detail })
    if (seq !== this.#expectedSeq) return { seq: this.#expectedSeq, detail: 'the ledger shows no event at this place' }
    if (typeof item.event !== 'object' || item.event === null || typeof item.event.tenant !== 'string')
      return bad(`the ledger itself says that the record is not sound (${item.fault ?? 'no reason given'})`)
    if (item.hash !== this.#expectedHash) return bad('its hash is not the one that the link after it goes on from')
    const hashes = [item.commitment, item.hash, item.previous_hash, item.previous_trace_hash].map(bytesOfHash)
    const [committed, hash, previousHash, previousTraceHash] = hashes
    const nonce = bytesOfHash(item.nonce)
    if (!committed || !hash || !previousHash || !previousTraceHash || !nonce)
      return bad('a hash of its link is missing, or has not 32 bytes')
    const sealed = sealedBytes(item, item.event)
    if (sealed === null || !commitment(nonce, sealed).equals(committed))
      return bad('the event is not the one that its link commits to')
    const { tenant } = item.event
    this.#tenant ??= tenant
    if (tenant !== this.#tenant) return bad(`it is an event of the tenant ${tenant}, not of ${this.#tenant}`)
    const key = item.key_id === null ? undefined : this.#keys.chainKey(item.key_id)
    if (key === undefined) this.#withoutKey += 1
    else {
      const made = linkHash({ key: key.secret, previousHash, previousTraceHash, commitment: committed, seq, tenant })
      if (!made.equals(hash)) return bad('its link was not made with the chain key')
    }
    this.#checked += 1
    this.#expectedSeq = seq - 1
    this.#expectedHash = previousHash.toString('hex')
    return null
  }

  /** What is missing once the ledger has no more to show, or null. */
  finish(): Broken | null {
    if (this.#expectedSeq > 0) return { seq: this.#expectedSeq, detail: 'the ledger shows no event at this place' }
    return /^0*$/.test(this.#expectedHash)
      ? null
      : { seq: 1, detail: 'the first link goes on from one that is not there' }
  }
}

/**
 * The bytes that were committed to; null where there are none. Members are named one by one: what an item has besides is no part of
 * them.
 */
export function sealedBytes(item: LogItem, event: SealedRecord['event']): Buffer | null {
  const { producer_id, received_at, session, spool_seq, stamp_hash } = item
  try {
    return sealRecord({ v: 1, event, producer_id, received_at, session, spool_seq, stamp_hash })
  } catch (error) {
    if (error instanceof SignetError) return null
    throw error
  }
}

function bytesOfHash(hex: string | null): Buffer | null {
  return typeof hex === 'string' && /^[0-9a-f]{64}$/.test(hex) ? Buffer.from(hex, 'hex') : null
}
