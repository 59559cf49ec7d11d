import type { Checkpoint } from '#core/audit/wire.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { RecordTraits } from '#core/retention/period.ts'
import { retryConflicts, unavailable, withTenant, type Client, type Pool } from '#runtime/postgres/transaction.ts'
import { chainRecords, traceMark, type ChainRow } from './chain.ts'
import type { Batch, BatchOutcome } from './entry.ts'
import type { LedgerKeys } from './keys.ts'
import type { RetentionClasses } from './retention/classes.ts'
import { planAppend, traitsOf, type KnownEvent, type Plan, type PlannedBatch, type PlannedRecord } from './plan.ts'
import { firstLookup, secondLookup } from './suspicion.ts'
import {
  awaitDurability,
  findEvents,
  findPositions,
  findTraceHeads,
  HOLD_CHAIN,
  insertRows,
  readChainState,
  type ChainState,
  type Head,
} from './store/wall.ts'

export type Sequencer = {
  /**
   * Records a batch: one transaction, together with batches of the same tenant that wait at the same time. When it resolves, all of it
   * is durable; sending the same batch again changes nothing.
   * @throws SignetError LEDGER_BUSY (too much is waiting), DATABASE_UNAVAILABLE; nothing is known to be recorded then
   */
  append(batch: Batch): Promise<BatchOutcome>
  /** Resolves when nothing is under way any more. */
  idle(): Promise<void>
}

export type SequencerDeps = {
  readonly wall: Pool
  readonly keys: LedgerKeys
  readonly clock: () => Date
  readonly randomBytes: (length: number) => Buffer
  /** Says for how long records are kept; all for ever where it is left out. */
  readonly retention?: RetentionClasses
  readonly onAppended?: (records: number, durationMs: number) => void
}

/** Entries of all tenants that may wait: at some 4 KiB each, 100 MiB. */
const MAX_WAITING_ENTRIES = 25_000
/** Entries that go into one transaction, unless a single batch has more. */
const MAX_GROUP_ENTRIES = 2_000

/** The chain that a group goes on from. `traceMarks`: of the traces that were looked up, by id. */
type KnownChain = Pick<ChainState, 'head' | 'traceHeads'> & { readonly traceMarks: ReadonlyMap<string, Buffer> }
type Waiting = { batch: Batch; resolve: (outcome: BatchOutcome) => void; reject: (error: unknown) => void }

export function createSequencer(deps: SequencerDeps): Sequencer {
  const queues = new Map<string, Waiting[]>()
  const running = new Map<string, Promise<void>>()
  let waitingEntries = 0

  /** Works one tenant's queue off, a group at a time; other tenants go on beside it. */
  async function drain(tenant: string, queue: Waiting[]): Promise<void> {
    while (queue.length > 0) {
      const group = takeGroup(queue)
      await settle(tenant, group)
      for (const { batch } of group) waitingEntries -= weight(batch)
    }
    queues.delete(tenant)
    running.delete(tenant)
  }

  async function settle(tenant: string, group: Waiting[]): Promise<void> {
    try {
      const outcomes = await appendGroup(
        deps,
        tenant,
        group.map(({ batch }) => batch),
      )
      group.forEach(({ resolve }, index) => {
        const outcome = outcomes[index]
        if (outcome !== undefined) resolve(outcome)
      })
    } catch (error) {
      // What one batch did to the transaction must not take the others with it; a database that is away does it to all alike.
      if (group.length > 1 && unavailable(error) === null) for (const one of group) await settle(tenant, [one])
      else for (const { reject } of group) reject(error)
    }
  }

  return {
    append(batch) {
      if (waitingEntries > 0 && waitingEntries + weight(batch) > MAX_WAITING_ENTRIES) {
        return Promise.reject(
          new SignetError('LEDGER_BUSY', 'too many events are waiting to be recorded; try again shortly'),
        )
      }
      waitingEntries += weight(batch)
      const { tenant } = batch.producer
      return new Promise((resolve, reject) => {
        const queue = queues.get(tenant) ?? []
        queue.push({ batch, resolve, reject })
        if (running.has(tenant)) return
        queues.set(tenant, queue)
        running.set(tenant, drain(tenant, queue))
      })
    },
    async idle() {
      while (running.size > 0) await Promise.all(running.values())
    },
  }
}

function takeGroup(queue: Waiting[]): Waiting[] {
  const group: Waiting[] = []
  for (let entries = 0; queue[0] !== undefined;) {
    entries += weight(queue[0].batch)
    if (group.length > 0 && entries > MAX_GROUP_ENTRIES) break
    group.push(queue[0])
    queue.shift()
  }
  return group
}

function weight(batch: Batch): number {
  return Math.max(1, batch.entries.length)
}

async function appendGroup(deps: SequencerDeps, tenant: string, batches: Batch[]): Promise<BatchOutcome[]> {
  const startedAt = performance.now()
  await deps.retention?.prepare(traitsOfAll(batches))
  // The whole transaction is derived anew from the wall each time: an attempt that was rolled back leaves nothing behind.
  const outcomes = await retryConflicts(3, () =>
    withTenant(
      deps.wall,
      tenant,
      async (client) => {
        const at = deps.clock()
        const { known, plan } = await gatherAndPlan(deps, client, tenant, batches, at)
        const rows = await append(deps, client, tenant, plan.records, known, at)
        return { rows: rows.length, outcomes: conclude(tenant, plan, rows, known.head, at) }
      },
      { also: HOLD_CHAIN },
    ),
  )
  deps.onAppended?.(outcomes.rows, performance.now() - startedAt)
  return outcomes.outcomes
}

async function gatherAndPlan(
  deps: SequencerDeps,
  client: Client,
  tenant: string,
  batches: Batch[],
  at: Date,
): Promise<{ known: KnownChain; plan: Plan }> {
  const { mark } = deps.keys
  const first = firstLookup(batches, at, mark)
  const traceMarks = marksOf(deps, tenant, tracesOf(batches))
  const chain = await readChainState(client, tenant, { ...first, traceHmacs: traceMarks.values() })
  const { known, sessions } = chain
  const second = secondLookup(batches, { known, sessions }, at, mark)
  const taken = second.positions.size > 0 ? await findPositions(client, tenant, second.positions) : new Set<string>()
  const refusals = second.eventIds.size > 0 ? await findEvents(client, tenant, second.eventIds) : []
  const state = { known: new Map([...known, ...refusals]), sessions, taken }
  const plan = planAppend(batches, state, at, mark, deps.retention?.retentionClassOf)
  return { known: { head: chain.head, traceHeads: chain.traceHeads, traceMarks }, plan }
}

function marksOf({ keys }: SequencerDeps, tenant: string, traces: ReadonlySet<string>): Map<string, Buffer> {
  return new Map([...traces].map((trace) => [trace, traceMark(keys.mark, tenant, trace)]))
}

function tracesOf(batches: readonly Batch[]): Set<string> {
  const traces = new Set<string>()
  for (const { entries } of batches)
    for (const entry of entries) if (entry.kind === 'event' || entry.kind === 'log') traces.add(entry.event.trace_id)
  return traces
}

function* traitsOfAll(batches: readonly Batch[]): Generator<RecordTraits> {
  for (const { entries } of batches)
    for (const entry of entries) if (entry.kind === 'event' || entry.kind === 'log') yield traitsOf(entry)
}

async function append(
  deps: SequencerDeps,
  client: Client,
  tenant: string,
  records: readonly PlannedRecord[],
  known: KnownChain,
  at: Date,
): Promise<ChainRow[]> {
  if (records.length === 0) {
    // What is acknowledged once more may be of a transaction that nobody saw the end of.
    await awaitDurability(client)
    return []
  }
  const key = deps.keys.activeChainKey(at)
  const { head } = known
  let { traceMarks, traceHeads } = known
  // The ledger's own events are in the plan only.
  const others = new Set(records.map(({ event }) => event.trace_id).filter((trace) => !traceMarks.has(trace)))
  if (others.size > 0) {
    const marks = marksOf(deps, tenant, others)
    traceHeads = new Map([...traceHeads, ...(await findTraceHeads(client, tenant, marks.values()))])
    traceMarks = new Map([...traceMarks, ...marks])
  }
  const rows = chainRecords(records, { tenant, head, traceHeads, traceMarks, key, at, randomBytes: deps.randomBytes })
  await insertRows(client, tenant, rows)
  return rows
}

/** Fills in where in the chain everything went. */
function conclude(tenant: string, plan: Plan, rows: readonly ChainRow[], head: Head, at: Date): BatchOutcome[] {
  const rowOf = new Map(plan.records.map((record, index) => [record, rows[index]]))
  const last = rows.at(-1) ?? head
  const checkpoint: Checkpoint = {
    hash: last.hash.toString('hex'),
    seq: last.seq,
    tenant,
    timestamp_utc: at.toISOString(),
  }
  const placeOf = (place: PlannedRecord | KnownEvent, eventId: string) => {
    const row = 'seq' in place ? place : rowOf.get(place)
    if (row === undefined) throw new SignetError('INTERNAL', `event ${eventId} was planned and not chained`)
    return row
  }
  return plan.batches.map((batch: PlannedBatch) => ({
    acks: batch.acks.map(({ at: place, ...ack }) => {
      const row = placeOf(place, ack.event_id)
      // In canonical order, which spares signer and verifier the sorting.
      const { event_id, received_digest, spool_seq } = ack
      return { commitment: row.commitment.toString('hex'), event_id, received_digest, seq: row.seq, spool_seq }
    }),
    logged: batch.logged.map(({ at: place, event_id, received_digest }) => {
      const row = placeOf(place, event_id)
      return { commitment: row.commitment.toString('hex'), event_id, received_digest, seq: row.seq }
    }),
    refused: batch.refused,
    checkpoint,
    spoolHeads: batch.spoolHeads,
  }))
}
