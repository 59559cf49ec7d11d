import { commitment, linkHash, NO_PREDECESSOR } from '#core/chain/link.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { projectRecord, sealRecord, type RecordProjection } from '#core/audit/record.ts'
import type { ActiveChainKey } from '#core/keyring/keyring.ts'
import type { CarriedStamp } from './entry.ts'
import type { Mark } from './keys.ts'
import type { PlannedRecord } from './plan.ts'

/** One event as it goes onto the wall: its link, its record, and its stamp if it carries one. Hashes are raw, 32 bytes. */
export type ChainRow = {
  readonly seq: number
  readonly commitment: Buffer
  readonly hash: Buffer
  readonly previousHash: Buffer
  readonly previousTraceHash: Buffer
  readonly keyId: string
  readonly traceHmac: Buffer
  readonly receivedHmac: Buffer
  readonly retentionClass: string
  readonly nonce: Buffer
  readonly bytes: Buffer
  readonly projection: RecordProjection
  readonly stamp: CarriedStamp | undefined
}

export type ChainContext = {
  readonly tenant: string
  readonly head: { readonly seq: number; readonly hash: Buffer }
  /** Last link of each trace, by the hex of its mark. */
  readonly traceHeads: ReadonlyMap<string, Buffer>
  /** `traceMark` of every trace among the records. */
  readonly traceMarks: ReadonlyMap<string, Buffer>
  readonly key: ActiveChainKey
  readonly at: Date
  readonly randomBytes: (length: number) => Buffer
}

const NONCE_BYTES = 32

export function traceMark(mark: Mark, tenant: string, traceId: string): Buffer {
  return mark('trace', tenant, traceId)
}

/** Numbers, seals and links planned records in their order, from the head on. */
export function chainRecords(records: readonly PlannedRecord[], context: ChainContext): ChainRow[] {
  const { tenant, key } = context
  const receivedAt = context.at.toISOString()
  const traceHeads = new Map(context.traceHeads)
  // One draw for all: it costs the same as one for each.
  const nonces = context.randomBytes(NONCE_BYTES * records.length)
  let { seq, hash: previousHash } = context.head
  return records.map((planned, index) => {
    const record = {
      v: 1 as const,
      event: planned.event,
      producer_id: planned.producerId,
      received_at: receivedAt,
      session: planned.session,
      spool_seq: planned.spoolSeq,
      stamp_hash: planned.stamp?.hash ?? null,
    }
    seq += 1
    const nonce = nonces.subarray(NONCE_BYTES * index, NONCE_BYTES * (index + 1))
    const bytes = sealRecord(record)
    const traceHmac = context.traceMarks.get(planned.event.trace_id)
    if (traceHmac === undefined) throw new SignetError('INTERNAL', 'a trace of the batch was not marked')
    const trace = traceHmac.toString('hex')
    const previousTraceHash = traceHeads.get(trace) ?? NO_PREDECESSOR
    const committed = commitment(nonce, bytes)
    const hash = linkHash({ key: key.secret, previousHash, previousTraceHash, commitment: committed, seq, tenant })
    const row: ChainRow = {
      seq,
      commitment: committed,
      hash,
      previousHash,
      previousTraceHash,
      keyId: key.keyId,
      traceHmac,
      receivedHmac: planned.receivedHmac,
      retentionClass: planned.retentionClass,
      nonce,
      bytes,
      projection: projectRecord(record),
      stamp: planned.stamp,
    }
    traceHeads.set(trace, hash)
    previousHash = hash
    return row
  })
}
