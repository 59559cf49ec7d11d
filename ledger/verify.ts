import { openRecord, projectRecord, type RecordProjection, type SealedRecord } from '#core/audit/record.ts'
import { commitment, linkHash, NO_PREDECESSOR } from '#core/chain/link.ts'
import { ChainVerifier, type ChainFault } from '#core/chain/verify.ts'
import { digestText } from '#core/crypto/digest.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { traceMark } from './chain.ts'
import type { LedgerKeys } from './keys.ts'
import type { VerifyScope } from './query.ts'
import {
  endOfBatch,
  highestRecord,
  readLinks,
  readRecords,
  readStamps,
  type StoredLink,
  type StoredRecord,
} from './store/fsck.ts'
import { readHead } from './store/wall.ts'

export type Verdict = {
  readonly ok: boolean
  /** Links that verified, from the first on. */
  readonly checked: number
  /** The chain's head when verification began, as stored. */
  readonly head: { readonly seq: number; readonly hash: string }
  readonly first_bad?: { readonly seq: number; readonly fault: ChainFault; readonly detail: string }
}

export type VerifyDeps = { readonly wall: Pool; readonly keys: LedgerKeys }

const BATCH_LINKS = 500
/** With records of up to 1 MiB each: what a batch of a trace may hold, whose records cannot be bounded by a range. */
const BATCH_TRACE_LINKS = 25
/** Below every number that a column can hold safely: a row that somebody put before the first is read too. */
const BEFORE_ALL = Number.MIN_SAFE_INTEGER

/**
 * Verifies a tenant's chain from the bytes: every commitment, link hash, trace link, projection and stamp is derived anew and compared
 * with what is stored. Reads in bounded batches; events that arrive meanwhile are left to the next time. Ends at the first fault.
 * @throws SignetError DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyTenant(
  deps: VerifyDeps,
  tenant: string,
  scope: VerifyScope,
  signal: AbortSignal,
): Promise<Verdict> {
  const inTenant = <T>(work: (client: Client) => Promise<T>): Promise<T> =>
    withTenant(deps.wall, tenant, work, { readOnly: true })
  const head = await inTenant((client) => readHead(client, tenant))
  const answer = { head: { seq: head.seq, hash: head.hash.toString('hex') } }
  const progress = { checked: 0 }
  try {
    const to = Math.min(scope.toSeq ?? head.seq, head.seq)
    const context: Context = { deps, tenant, to, inTenant, signal, progress }
    if (scope.traceId === null) await verifyRange(context, scope)
    else await verifyTrace(context, scope.traceId)
    return { ok: true, checked: progress.checked, ...answer }
  } catch (error) {
    const bad = faultOf(error)
    if (bad === null) throw error
    return {
      ok: false,
      checked: Math.min(progress.checked, Math.max(0, bad.seq - scope.fromSeq)),
      ...answer,
      first_bad: bad,
    }
  }
}

type Context = {
  readonly deps: VerifyDeps
  readonly tenant: string
  readonly to: number
  readonly inTenant: <T>(work: (client: Client) => Promise<T>) => Promise<T>
  readonly signal: AbortSignal
  readonly progress: { checked: number }
}

type Pair = {
  readonly link: StoredLink
  readonly records: readonly StoredRecord[]
  readonly stamps: ReadonlyMap<string, Buffer>
}

async function verifyRange(context: Context, scope: VerifyScope): Promise<void> {
  const { deps, tenant, to, progress, signal } = context
  const opened = new WeakMap<Buffer, SealedRecord>()
  const start = await startOf(context, scope.fromSeq)
  const verifier = new ChainVerifier({
    tenant,
    keyring: deps.keys,
    ...(start === null ? {} : { start }),
    knownHeads: scope.checkpoint === null ? [] : [scope.checkpoint],
    maxTraces: 100_000,
    derive: (bytes) => {
      const record = openRecord(bytes)
      opened.set(bytes, record)
      return { event_id: record.event.event_id, trace_hmac: traceMark(deps.keys.mark, tenant, record.event.trace_id) }
    },
  })
  // The chain verifier may need the next link to name what is wrong with one; what else is to check of a link waits for that.
  let previous: Pair | null = null
  for (let after = start?.seq ?? BEFORE_ALL; after < to;) {
    signal.throwIfAborted()
    const batch = await readBatch(context, after)
    for (const pair of batch.pairs) {
      const fault = attempt(() => verifier.add(pair.link, pair.records[0] ?? null))
      if (previous !== null && (fault === null || fault.seq > previous.link.seq)) checkStored(previous, opened)
      if (fault !== null) throw fault.error
      previous = pair
      progress.checked += 1
    }
    after = batch.last
  }
  const fault = attempt(() => {
    const { seq } = verifier.finish()
    if (seq < to) throw broken(seq + 1, 'delete', 'the link is missing')
  })
  if (previous !== null && (fault === null || fault.seq > previous.link.seq)) checkStored(previous, opened)
  if (fault !== null) throw fault.error
  if (scope.toSeq === null) await checkTail(context)
}

/** The link before the range, which has to be one that a key of ours made; null at the beginning. */
async function startOf(
  { deps, tenant, inTenant }: Context,
  fromSeq: number,
): Promise<{ seq: number; hash: Buffer } | null> {
  if (fromSeq <= 1) return null
  const seq = fromSeq - 1
  const [link] = await inTenant((client) =>
    readLinks(client, tenant, { after: seq - 1, to: seq, limit: 1, traceHmac: null }),
  )
  if (link === undefined) throw broken(seq, 'delete', 'the link before the range is missing')
  checkHash(deps, link)
  return { seq, hash: link.hash }
}

/** Links after a number with their records, as many as fit; records without a link count too. */
async function readBatch({ tenant, to, inTenant }: Context, after: number): Promise<{ pairs: Pair[]; last: number }> {
  return inTenant(async (client) => {
    let links = await readLinks(client, tenant, { after, to, limit: BATCH_LINKS, traceHmac: null })
    const lastLink = links.length < BATCH_LINKS ? to : (links.at(-1)?.seq ?? to)
    const last = await endOfBatch(client, tenant, after, lastLink)
    links = links.filter((link) => link.seq <= last)
    const records = await readRecords(client, tenant, { after, to: last, of: null })
    return { pairs: await pairUp(client, tenant, links, records), last }
  })
}

async function pairUp(
  client: Client,
  tenant: string,
  links: readonly StoredLink[],
  records: readonly StoredRecord[],
): Promise<Pair[]> {
  const hashes = records.flatMap(({ projection }) => (projection.stamp_hash === null ? [] : [projection.stamp_hash]))
  const stamps = await readStamps(client, tenant, hashes)
  const bySeq = Map.groupBy(records, (record) => record.seq)
  // A record whose link is gone shows by the link that is missing; only before the first link none is missed.
  const [first] = records
  if (first !== undefined && first.seq < 1) throw broken(first.seq, 'insert', 'a record stands before the first link')
  return links.map((link) => ({ link, records: bySeq.get(link.seq) ?? [], stamps }))
}

async function verifyTrace(context: Context, traceId: string): Promise<void> {
  const { deps, tenant, to, inTenant, signal, progress } = context
  const traceHmac = traceMark(deps.keys.mark, tenant, traceId)
  let head = NO_PREDECESSOR
  for (let after = BEFORE_ALL; ;) {
    signal.throwIfAborted()
    const pairs = await inTenant(async (client) => {
      const links = await readLinks(client, tenant, { after, to, limit: BATCH_TRACE_LINKS, traceHmac })
      const of = links.map((link) => link.seq)
      return pairUp(client, tenant, links, await readRecords(client, tenant, { after, to, of }))
    })
    const last = pairs.at(-1)
    if (last === undefined) return
    for (const pair of pairs) {
      const { link } = pair
      if (!link.previous_trace_hash.equals(head))
        throw broken(link.seq, 'delete', 'the link does not go on from the one before it in its trace')
      checkHash(deps, link)
      const { nonce, bytes } = recordOf(pair)
      if (nonce.length !== 32 || !commitment(nonce, bytes).equals(link.commitment)) {
        throw broken(link.seq, 'edit', 'the record is not the one that the link commits to')
      }
      checkStored(pair, new WeakMap())
      head = link.hash
      progress.checked += 1
    }
    after = last.link.seq
  }
}

function checkHash(deps: VerifyDeps, link: StoredLink): void {
  const key = deps.keys.chainKey(link.key_id)
  if (key === undefined) throw broken(link.seq, 'wrong-key', `the keyring has no chain key «${link.key_id}»`)
  const { previous_hash: previousHash, previous_trace_hash: previousTraceHash, seq, tenant, hash } = link
  const sized = [previousHash, previousTraceHash, link.commitment].every((bytes) => bytes.length === 32)
  if (
    !sized ||
    seq < 1 ||
    !linkHash({ key: key.secret, previousHash, previousTraceHash, commitment: link.commitment, seq, tenant }).equals(
      hash,
    )
  ) {
    throw broken(seq, 'edit', 'the link is not what the key made')
  }
}

function recordOf({ link, records }: Pair): StoredRecord {
  const [record, second] = records
  if (record === undefined)
    throw broken(link.seq, 'delete', 'the record is missing, and nothing in the chain says that it was purged')
  if (second !== undefined) throw broken(link.seq, 'insert', 'there are two records for one link')
  return record
}

/** What the link hash does not cover: that the columns beside the bytes say what the bytes say, and that the stamp is there. */
function checkStored(pair: Pair, opened: WeakMap<Buffer, SealedRecord>): void {
  const { link, stamps } = pair
  const stored = recordOf(pair)
  const record = opened.get(stored.bytes) ?? openRecord(stored.bytes)
  const derived = projectRecord(record)
  const differs = (Object.keys(derived) as (keyof RecordProjection)[]).find(
    (name) => derived[name] !== stored.projection[name],
  )
  if (differs !== undefined)
    throw broken(link.seq, 'edit', `the column ${differs} of the record is not what its bytes say`)
  if (
    link.month !== derived.month ||
    link.retentionClass !== stored.retentionClass ||
    link.appendedAt !== derived.received_at
  ) {
    throw broken(link.seq, 'edit', 'month, retention_class or appended_at of the link is not that of its record')
  }
  if (link.event_id !== derived.event_id)
    throw broken(link.seq, 'edit', 'the event_id of the link is not that of its record')
  if (!link.previous_trace_hash.equals(link.traceHead ?? NO_PREDECESSOR)) {
    throw broken(link.seq, 'edit', 'the link does not go on from the last link of its trace')
  }
  if (record.stamp_hash === null) return
  const stamp = stamps.get(record.stamp_hash)
  if (stamp === undefined) throw broken(link.seq, 'delete', 'the stamp that came with the event is missing')
  if (digestText(stamp) !== record.stamp_hash)
    throw broken(link.seq, 'edit', 'the stamp is not the one that came with the event')
}

/** Records behind the last link: their links were cut off. */
async function checkTail({ tenant, to, inTenant }: Context): Promise<void> {
  await inTenant(async (client) => {
    const highest = await highestRecord(client, tenant)
    if (highest <= to) return
    // Unless they came since verification began.
    const head = await readHead(client, tenant)
    if (highest > head.seq)
      throw broken(head.seq + 1, 'truncate', `the links end at ${head.seq}, records go on to ${highest}`)
  })
}

function broken(seq: number, fault: ChainFault, what: string): SignetError {
  return new SignetError('CHAIN_BROKEN', `the chain is broken at link ${seq} (${fault}): ${what}`, {
    details: { seq, fault },
  })
}

function attempt(work: () => unknown): { seq: number; error: unknown } | null {
  try {
    work()
    return null
  } catch (error) {
    const bad = faultOf(error)
    if (bad === null) throw error
    return { seq: bad.seq, error }
  }
}

function faultOf(error: unknown): { seq: number; fault: ChainFault; detail: string } | null {
  if (!(error instanceof SignetError) || error.code !== 'CHAIN_BROKEN') return null
  const { seq, fault } = error.details as { seq: number; fault: ChainFault }
  return { seq, fault, detail: error.message }
}
