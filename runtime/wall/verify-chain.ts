import { setImmediate as nextTurn } from 'node:timers/promises'
import { openCommitted, type SealedRecord } from '#core/audit/record.ts'
import { chainBroken, faultOf } from '#core/chain/fault.ts'
import { commitment, linkHash, NO_PREDECESSOR, type Link } from '#core/chain/link.ts'
import { checkStamp, checkStored, checkTraceHead, onlyRecord, type StoredLink } from '#core/chain/stored.ts'
import { ChainVerifier, type KnownHead } from '#core/chain/verify.ts'
import { DEFAULT_RETENTION_CLASS } from '#core/retention/period.ts'
import type { KeyIndex } from '#core/keyring/keyring.ts'
import { batchOf, type Batch, type Pair } from './batch.ts'
import {
  endOfBatch,
  findStrayStamp,
  highestRecord,
  readHead,
  readLinks,
  readLinkTable,
  readRecordTable,
  readTraceHeads,
  stampKey,
} from './chain.ts'
import { LINK, RECORD } from './columns.ts'
import { CopyArena } from './copy.ts'
import { createPurgeProofs } from './purges.ts'
import type { WallReader } from './reader.ts'
import { SoundLinks } from './sound.ts'

/** What a chain is verified with: its keys, and the mark that links keep of a trace. */
export type ChainKeys = Pick<KeyIndex, 'chainKey'> & {
  readonly traceMark: (tenant: string, traceId: string) => Buffer
}

export type ChainTask = {
  readonly tenant: string
  /** The link to begin with; what is before it is taken as it is, but for its hash. */
  readonly fromSeq: number
  readonly toSeq: number
  /** Whether the chain ends at `toSeq`: then nothing may stand behind it, and every stamp must be carried. */
  readonly toEnd: boolean
  readonly knownHeads: readonly KnownHead[]
  readonly maxTraces: number
  readonly signal: AbortSignal
  /** Called after each batch with the links verified so far. */
  readonly onProgress: (checked: number) => void | Promise<void>
}

const BATCH_LINKS = 2_000
/** Links that are verified before others have their turn: 15 ms. */
const TURN_LINKS = 500
/** With records of up to 1 MiB each: what a batch of a trace may hold, whose records cannot be bounded by a range. */
const BATCH_TRACE_LINKS = 25
/** Marks of traces that are kept: an event's trace is often that of the one before. */
const MAX_MARKS = 10_000
/** Below every number that a column can hold safely: a row that somebody put before the first is read too. */
const BEFORE_ALL = Number.MIN_SAFE_INTEGER

/**
 * Verifies links `fromSeq` to `toSeq` of a tenant from the bytes: every commitment, link hash, trace link, projection and stamp is
 * derived anew and compared with what is stored; a link whose record was purged by what the chain says is sound without. Ends at the first
 * fault. Gives the last link, and how many records were purged.
 * @throws SignetError CHAIN_BROKEN, DATABASE_UNAVAILABLE; `signal.reason` when it aborts
 */
export async function verifyChain(
  reader: WallReader,
  keys: ChainKeys,
  task: ChainTask,
): Promise<{ seq: number; hash: Buffer; purged: number }> {
  const { tenant, toSeq: to, signal } = task
  const purges = createPurgeProofs(reader, keys, tenant)
  const start = await startOf(reader, keys, task)
  let opened: SealedRecord | undefined
  const unproven: Link[] = []
  const marks = createMarks(keys, tenant)
  const sound = new SoundLinks(keys, tenant)
  const verifier = new ChainVerifier({
    tenant,
    keyring: keys,
    ...(start === null ? {} : { start }),
    knownHeads: task.knownHeads,
    maxTraces: task.maxTraces,
    onTraceUnproven: (link) => unproven.push(link),
    derive: (bytes) => {
      opened = openCommitted(bytes)
      return { event_id: opened.event.event_id, trace_hmac: marks(opened.event.trace_id) }
    },
  })
  let checked = 0
  // The chain verifier may need the next link to name what is wrong with one; what else is to check of a link waits for that.
  let waiting: { pair: Pair; stamps: Batch['stamps']; opened: SealedRecord | undefined } | null = null
  let proven: ReadonlySet<number> = new Set()
  let purged = 0
  const settle = (fault: { seq: number; error: unknown } | null): void => {
    if (waiting !== null && (fault === null || fault.seq > waiting.pair.link.seq)) {
      const { pair, stamps, opened } = waiting
      if (pair.records.length === 0 && proven.has(pair.link.seq)) purged += 1
      else checkStored(pair.link, pair.records, (hash) => stamps.get(stampKey(hash, pair.link)), opened)
    }
    if (fault !== null) throw fault.error
  }
  for await (const batch of readAhead(reader, task, start?.seq ?? BEFORE_ALL)) {
    signal.throwIfAborted()
    // The last link of the batch before is still to be settled.
    const former = proven
    proven = await purges.provenOf(batch.withoutRecord())
    if (waiting !== null && former.has(waiting.pair.link.seq)) proven = new Set(proven).add(waiting.pair.link.seq)
    for (let row = 0; row < batch.count; row++) {
      if (isSound(batch, row, sound, verifier)) {
        settle(null)
        waiting = null
      } else {
        const pair = batch.pair(row)
        opened = undefined
        settle(attempt(() => verifier.add(pair.link, pair.records[0] ?? null)))
        waiting = { pair, stamps: batch.stamps, opened }
      }
      checked += 1
      if (checked % TURN_LINKS === 0) {
        await task.onProgress(checked)
        await nextTurn()
        signal.throwIfAborted()
      }
    }
    await checkUnproven(reader, tenant, unproven.splice(0))
    await task.onProgress(checked)
  }
  let end = { seq: 0, hash: NO_PREDECESSOR }
  settle(
    attempt(() => {
      end = verifier.finish()
      if (end.seq < to) throw chainBroken(end.seq + 1, 'delete', 'the link is missing')
    }),
  )
  if (task.toEnd) await checkEnd(reader, tenant, to)
  return { seq: end.seq, hash: end.hash, purged }
}

/**
 * Whether a link goes on from the one before it and is sound with all that belongs to it, found without making objects of them. Whatever
 * else there is to say of it takes `ChainVerifier.add` and `checkStored`.
 */
function isSound(batch: Batch, row: number, sound: SoundLinks, verifier: ChainVerifier): boolean {
  const record = batch.onlyRecordOf(row)
  if (record === -1 || !sound.isSound(batch.links, row, batch.records, record)) return false
  return (!sound.form.hasStamp || hasSoundStamp(batch, row, record, sound.link.seq)) && verifier.addSound(sound.link)
}

/** Of an event of the class `default`; of others it is not judged here. */
function hasSoundStamp({ links, records, stamps }: Batch, row: number, record: number, seq: number): boolean {
  const retentionClass = links.text(row, LINK.retention_class)
  if (retentionClass !== DEFAULT_RETENTION_CLASS) return false
  const hash = records.text(record, RECORD.stamp_hash)
  const [traceId, requestId] = [records.text(record, RECORD.trace_id), records.text(record, RECORD.request_id)]
  return attempt(() => checkStamp({ seq, retentionClass, traceId, requestId }, hash, stamps.get(hash))) === null
}

/** Batches one after the other; the next one is on its way while one is being verified. */
async function* readAhead(reader: WallReader, task: ChainTask, after: number): AsyncGenerator<Batch> {
  // Two batches at a time are in use: the one that is verified, and the one that comes.
  const arenas = [newArenas(), newArenas()]
  const read = (from: number): Promise<Batch> => {
    arenas.reverse()
    return readBatch(reader, task, from, arenas[0]!)
  }
  let coming: Promise<Batch> | null = after < task.toSeq ? read(after) : null
  while (coming !== null) {
    const batch: Batch = await coming
    coming = batch.last < task.toSeq ? read(batch.last) : null
    // It is awaited later, if at all: a verification that ends before is not interested in how it fails.
    coming?.catch(() => undefined)
    try {
      yield batch
    } catch (error) {
      await coming?.catch(() => undefined)
      throw error
    }
  }
}

type Arenas = { readonly links: CopyArena; readonly records: CopyArena }

function newArenas(): Arenas {
  return { links: new CopyArena(), records: new CopyArena() }
}

/** Links after a number with their records, as many as fit; records without a link count too. */
async function readBatch(
  reader: WallReader,
  { tenant, toSeq: to }: ChainTask,
  after: number,
  arenas: Arenas,
): Promise<Batch> {
  return reader.inTenant(tenant, async (client) => {
    const links = await readLinkTable(client, tenant, { after, to, limit: BATCH_LINKS, traceHmac: null }, arenas.links)
    const lastLink = links.count < BATCH_LINKS ? to : links.bigint(links.count - 1, LINK.seq)
    const last = await endOfBatch(client, tenant, after, lastLink)
    const records = await readRecordTable(client, tenant, { after, to: last, of: null }, arenas.records)
    return batchOf(client, tenant, { links, records, last })
  })
}

/** The link before the range, which has to be one that a key of ours made; null at the beginning. */
async function startOf(
  reader: WallReader,
  keys: ChainKeys,
  { tenant, fromSeq }: ChainTask,
): Promise<{ seq: number; hash: Buffer } | null> {
  if (fromSeq <= 1) return null
  const seq = fromSeq - 1
  const [link] = await reader.inTenant(tenant, (client) =>
    readLinks(client, tenant, { after: seq - 1, to: seq, limit: 1, traceHmac: null }),
  )
  if (link === undefined) throw chainBroken(seq, 'delete', 'the link before the range is missing')
  checkHash(keys, link)
  return { seq, hash: link.hash }
}

async function checkUnproven(reader: WallReader, tenant: string, links: readonly Link[]): Promise<void> {
  if (links.length === 0) return
  const heads = await reader.inTenant(tenant, (client) => readTraceHeads(client, tenant, links))
  for (const [index, link] of links.entries()) checkTraceHead(link, heads[index] ?? null)
}

/** Records behind the last link: their links were cut off. Stamps that no event carries: somebody put them in. */
async function checkEnd(reader: WallReader, tenant: string, to: number): Promise<void> {
  await reader.inTenant(tenant, async (client) => {
    const highest = await highestRecord(client, tenant)
    if (highest > to) {
      // Unless they came since verification began.
      const head = await readHead(client, tenant)
      if (highest > head.seq)
        throw chainBroken(head.seq + 1, 'truncate', `the links end at ${head.seq}, records go on to ${highest}`)
    }
    const stray = await findStrayStamp(client, tenant, to)
    if (stray !== null) throw chainBroken(stray, 'insert', 'a stamp names this event, which does not carry it')
  })
}

/** The links of one trace with their records, each with its hash, from the first on. Gives how many they are. @throws as `verifyChain` */
export async function verifyTrace(
  reader: WallReader,
  keys: ChainKeys,
  task: Pick<ChainTask, 'tenant' | 'toSeq' | 'signal' | 'onProgress'> & { readonly traceId: string },
): Promise<void> {
  const { tenant, toSeq: to } = task
  const traceHmac = keys.traceMark(tenant, task.traceId)
  const purges = createPurgeProofs(reader, keys, tenant)
  let head = NO_PREDECESSOR
  let checked = 0
  for (let after = BEFORE_ALL; ;) {
    task.signal.throwIfAborted()
    const batch = await reader.inTenant(tenant, async (client) => {
      const links = await readLinkTable(client, tenant, { after, to, limit: BATCH_TRACE_LINKS, traceHmac })
      const of = Array.from({ length: links.count }, (_, row) => links.bigint(row, LINK.seq))
      return batchOf(client, tenant, {
        links,
        records: await readRecordTable(client, tenant, { after, to, of }),
        last: to,
      })
    })
    if (batch.count === 0) return
    const { stamps } = batch
    const pairs = batch.pairs()
    const proven = await purges.provenOf(batch.withoutRecord())
    for (const { link, records } of pairs) {
      if (!link.previous_trace_hash.equals(head))
        throw chainBroken(link.seq, 'delete', 'the link does not go on from the one before it in its trace')
      checkHash(keys, link)
      if (records.length > 0 || !proven.has(link.seq)) {
        const { nonce, bytes } = onlyRecord(link, records)
        if (nonce.length !== 32 || !commitment(nonce, bytes).equals(link.commitment))
          throw chainBroken(link.seq, 'edit', 'the record is not the one that the link commits to')
        checkStored(link, records, (hash) => stamps.get(stampKey(hash, link)))
      }
      head = link.hash
      checked += 1
      await task.onProgress(checked)
    }
    after = pairs.at(-1)?.link.seq ?? to
  }
}

function checkHash(keys: ChainKeys, link: StoredLink): void {
  const key = keys.chainKey(link.key_id)
  if (key === undefined) throw chainBroken(link.seq, 'wrong-key', `the keyring has no chain key «${link.key_id}»`)
  const { previous_hash: previousHash, previous_trace_hash: previousTraceHash, seq, tenant, hash } = link
  const sized = [previousHash, previousTraceHash, link.commitment].every((bytes) => bytes.length === 32)
  if (
    !sized ||
    seq < 1 ||
    !linkHash({ key: key.secret, previousHash, previousTraceHash, commitment: link.commitment, seq, tenant }).equals(
      hash,
    )
  ) {
    throw chainBroken(seq, 'edit', 'the link is not what the key made')
  }
}

function createMarks(keys: ChainKeys, tenant: string): (traceId: string) => Buffer {
  const marks = new Map<string, Buffer>()
  return (traceId) => {
    let found = marks.get(traceId)
    if (found === undefined) {
      if (marks.size >= MAX_MARKS) marks.clear()
      found = keys.traceMark(tenant, traceId)
      marks.set(traceId, found)
    }
    return found
  }
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
