import type { AuditEvent } from '#core/audit/event.ts'
import type { Ack, Refusal } from '#core/audit/wire.ts'
import type { ErrorCode } from '#core/error/codes.ts'
import { DEFAULT_RETENTION_CLASS, type RecordTraits } from '#core/retention/period.ts'
import type {
  Batch,
  CarriedStamp,
  CloseEntry,
  EventEntry,
  IssueEntry,
  LogEntry,
  OpenEntry,
  Producer,
  RefusedEntry,
} from './entry.ts'
import type { Mark } from './keys.ts'
import {
  gapFound,
  identityIssued,
  itemRefused,
  linesRefused,
  noticed,
  sessionClosed,
  sessionOpened,
  type Scene,
} from './ledger-event.ts'

/** An event id that is in the chain. */
export type KnownEvent = { readonly seq: number; readonly commitment: Buffer; readonly receivedHmac: Buffer }
/** A session as the wall has it: the highest position recorded (0: only its opening). */
export type KnownSession = { readonly producerId: string; readonly spoolHead: number }

/** What the wall says, read under the tenant's lock. */
export type WallState = {
  readonly known: ReadonlyMap<string, KnownEvent>
  readonly sessions: ReadonlyMap<string, KnownSession>
  /** Positions `session/spool_seq`, of those asked for, that are in the chain. */
  readonly taken: ReadonlySet<string>
}

/** A record to append, still without number, nonce and hashes. */
export type PlannedRecord = {
  readonly event: AuditEvent
  readonly producerId: string
  readonly session: string | null
  readonly spoolSeq: number | null
  readonly stamp: CarriedStamp | undefined
  readonly receivedHmac: Buffer
  /** Fixed now: what policies say later is for later records. */
  readonly retentionClass: string
}

/** An acknowledgement whose place in the chain is that of `record`, or of an event that was there before. */
type PlannedAck = Pick<Ack, 'event_id' | 'spool_seq' | 'received_digest'> & {
  readonly at: PlannedRecord | KnownEvent
}
/** The same for an event that has no position. */
type PlannedLog = Omit<PlannedAck, 'spool_seq'>
export type PlannedBatch = {
  readonly acks: PlannedAck[]
  readonly logged: PlannedLog[]
  readonly refused: Refusal[]
  readonly spoolHeads: Map<string, number>
}
export type Plan = { readonly records: PlannedRecord[]; readonly batches: PlannedBatch[] }

const MAX_FRAMEWORKS = 64
const OTHER_BYTES = 'this event_id is in the chain, with other bytes or of another producer'

export const positionKey = (session: string, spoolSeq: number): string => `${session}/${spoolSeq}`

/**
 * Decides what a group of batches of one tenant adds to its chain and what each is told. Pure: the same state and batches give the
 * same plan. Nothing is dropped in silence: what is not recorded was recorded before, or its refusal is.
 */
export function planAppend(
  batches: readonly Batch[],
  state: WallState,
  at: Date,
  mark: Mark,
  retentionClassOf: (traits: RecordTraits) => string = () => DEFAULT_RETENTION_CLASS,
): Plan {
  const planner = new Planner(state, at, mark, retentionClassOf)
  const planned = batches.map((batch) => planner.plan(batch))
  return { records: planner.records, batches: planned }
}

/** Marks the bytes received, for this producer: another's event of the same bytes is another event. */
export function receivedMark(mark: Mark, producer: Producer, receivedDigest: Buffer): Buffer {
  return mark('received', producer.tenant, producer.producerId, receivedDigest.toString('hex'))
}

class Planner {
  readonly records: PlannedRecord[] = []
  readonly #state: WallState
  readonly #at: Date
  readonly #mark: Mark
  readonly #retentionClassOf: (traits: RecordTraits) => string
  // What this plan itself has added on top of the state.
  readonly #added = new Map<string, PlannedRecord>()
  readonly #sessions = new Map<string, { producerId: string; spoolHead: number }>()
  readonly #taken = new Set<string>()

  constructor(state: WallState, at: Date, mark: Mark, retentionClassOf: (traits: RecordTraits) => string) {
    this.#retentionClassOf = retentionClassOf
    this.#state = state
    this.#at = at
    this.#mark = mark
  }

  plan(batch: Batch): PlannedBatch {
    const scene: Scene = { producer: batch.producer, at: this.#at, mark: this.#mark }
    const result: PlannedBatch = { acks: [], logged: [], refused: [], spoolHeads: new Map() }
    const placeless: RefusedEntry[] = []
    for (const entry of batch.entries) {
      switch (entry.kind) {
        case 'event':
          this.#event(scene, entry, result)
          break
        case 'log':
          this.#log(scene, entry, result, placeless)
          break
        case 'issue':
          this.#issue(scene, entry, result)
          break
        case 'notice':
          this.#own(scene, noticed(scene, entry), null, null)
          break
        case 'refused':
          result.refused.push(refusal(entry))
          if (entry.position === undefined) placeless.push(entry)
          else this.#refuse(scene, entry, result)
          break
        case 'open':
          this.#open(scene, entry, result)
          break
        case 'close':
          this.#close(scene, entry, result)
          break
      }
    }
    if (placeless.length > 0) this.#own(scene, linesRefused(scene, placeless), null, null)
    return result
  }

  #event(scene: Scene, entry: EventEntry, result: PlannedBatch): void {
    const { event, session, spoolSeq } = entry
    const receivedHmac = receivedMark(this.#mark, scene.producer, entry.receivedDigest)
    const before = this.#recorded(event.event_id)
    if (before !== undefined) {
      // Both are keyed hashes made here: comparing them tells a producer nothing but whether it sent the same bytes.
      if (before.receivedHmac.equals(receivedHmac)) result.acks.push(acknowledge(entry, before))
      else this.#refuseEvent(scene, entry, result, 'EVENT_ID_CONFLICT', OTHER_BYTES)
      return
    }
    if (!this.#owns(scene.producer, session)) {
      this.#refuseEvent(scene, entry, result, 'SESSION_FORBIDDEN', "the session is not this producer's")
      return
    }
    if (this.#isTaken(session, spoolSeq)) {
      this.#refuseEvent(
        scene,
        entry,
        result,
        'SPOOL_SEQ_CONFLICT',
        'another event was recorded at this spool_seq of the session',
      )
      return
    }
    this.#advance(scene, session, spoolSeq, event.event_id, result)
    const record = {
      event,
      producerId: scene.producer.producerId,
      session,
      spoolSeq,
      stamp: entry.stamp,
      receivedHmac,
      retentionClass: this.#retentionClassOf(traitsOf(entry)),
    }
    this.#add(record)
    result.acks.push(acknowledge(entry, record))
  }

  #log(scene: Scene, entry: LogEntry, result: PlannedBatch, placeless: RefusedEntry[]): void {
    const { event, receivedDigest, stamp } = entry
    const receivedHmac = receivedMark(this.#mark, scene.producer, receivedDigest)
    const before = this.#recorded(event.event_id)
    if (before !== undefined && !before.receivedHmac.equals(receivedHmac)) {
      const refused: RefusedEntry = {
        kind: 'refused',
        line: 1,
        receivedDigest,
        eventId: event.event_id,
        position: undefined,
        code: 'EVENT_ID_CONFLICT',
        detail: OTHER_BYTES,
      }
      result.refused.push(refusal(refused))
      placeless.push(refused)
      return
    }
    const record = {
      event,
      producerId: scene.producer.producerId,
      session: null,
      spoolSeq: null,
      stamp,
      receivedHmac,
      retentionClass: this.#retentionClassOf(traitsOf(entry)),
    }
    if (before === undefined) this.#add(record)
    const { event_id, received_digest } = named(entry)
    result.logged.push({ event_id, received_digest, at: before ?? record })
  }

  /** A proof is good for one issue. The record is there before anything is handed out. */
  #issue(scene: Scene, entry: IssueEntry, result: PlannedBatch): void {
    const event = identityIssued(scene, entry)
    if (this.#isRecorded(event.event_id)) {
      result.refused.push({ line: 1, code: 'IDENTITY_REPLAYED', detail: 'this proof was used before; make a new one' })
    } else this.#own(scene, event, null, null)
  }

  #refuseEvent(scene: Scene, entry: EventEntry, result: PlannedBatch, code: ErrorCode, detail: string): void {
    const { line, receivedDigest, session, spoolSeq, event } = entry
    const refused: RefusedEntry = {
      kind: 'refused',
      line,
      receivedDigest,
      eventId: event.event_id,
      position: { session, spoolSeq },
      code,
      detail,
    }
    result.refused.push(refusal(refused))
    this.#refuse(scene, refused, result)
  }

  /** The refusal takes the item's place in its session, where it has one of its own: what was refused is no gap. */
  #refuse(scene: Scene, entry: RefusedEntry, result: PlannedBatch): void {
    const place = entry.position
    if (place === undefined) return
    const owned = this.#owns(scene.producer, place.session)
    const event = itemRefused(scene, entry, owned ? place.session : null)
    if (this.#isRecorded(event.event_id)) return
    const free = owned && !this.#isTaken(place.session, place.spoolSeq)
    if (free) this.#advance(scene, place.session, place.spoolSeq, event.event_id, result)
    this.#own(scene, event, owned ? place.session : null, free ? place.spoolSeq : null)
  }

  #open(scene: Scene, entry: OpenEntry, result: PlannedBatch): void {
    if (!this.#owns(scene.producer, entry.session)) {
      result.refused.push({ line: 1, code: 'SESSION_FORBIDDEN', detail: "the session is another producer's" })
      return
    }
    if (this.#session(entry.session) === undefined) this.#begin(scene, entry.session, entry.software)
    result.spoolHeads.set(entry.session, this.#session(entry.session)?.spoolHead ?? 0)
  }

  #close(scene: Scene, entry: CloseEntry, result: PlannedBatch): void {
    const session = this.#session(entry.session)
    if (session === undefined || !this.#owns(scene.producer, entry.session)) {
      result.refused.push(
        session === undefined
          ? { line: 1, code: 'SESSION_UNKNOWN', detail: 'no such session was opened' }
          : { line: 1, code: 'SESSION_FORBIDDEN', detail: "the session is another producer's" },
      )
      return
    }
    const head = session.spoolHead
    result.spoolHeads.set(entry.session, head)
    const close = { clean: entry.clean, last_spool_seq: entry.last_spool_seq, recorded_spool_seq: head }
    const closed = sessionClosed(scene, entry.session, close)
    if (this.#isRecorded(closed.event_id)) return
    if (entry.last_spool_seq > head) {
      this.#gap(scene, entry.session, { from: head + 1, to: entry.last_spool_seq, before: 'close' })
    }
    if (!entry.clean) {
      this.#gap(scene, entry.session, { from: Math.max(head, entry.last_spool_seq) + 1, to: null, before: 'close' })
    }
    this.#own(scene, closed, entry.session, null)
  }

  /** Moves a session's head to a new position; what was jumped over is a gap. A later arrival fills its place and moves nothing. */
  #advance(scene: Scene, session: string, spoolSeq: number, before: string, result: PlannedBatch): void {
    if (this.#session(session) === undefined) this.#begin(scene, session, null)
    const head = this.#session(session)?.spoolHead ?? 0
    if (spoolSeq > head + 1) this.#gap(scene, session, { from: head + 1, to: spoolSeq - 1, before })
    this.#taken.add(positionKey(session, spoolSeq))
    const spoolHead = Math.max(head, spoolSeq)
    this.#sessions.set(session, { producerId: scene.producer.producerId, spoolHead })
    result.spoolHeads.set(session, spoolHead)
  }

  #begin(scene: Scene, session: string, software: string | null): void {
    this.#sessions.set(session, { producerId: scene.producer.producerId, spoolHead: 0 })
    // Position 0 is the opening's: so the wall alone knows each session, its producer and its head.
    this.#own(scene, sessionOpened(scene, session, software), session, 0)
  }

  #gap(scene: Scene, session: string, gap: { from: number; to: number | null; before: string }): void {
    this.#own(scene, gapFound(scene, session, gap), session, null)
  }

  /** Records an event of the ledger's own, once. */
  #own(scene: Scene, event: AuditEvent, session: string | null, spoolSeq: number | null): void {
    if (this.#isRecorded(event.event_id)) return
    const receivedHmac = this.#mark('received', scene.producer.tenant, '', event.event_id)
    // What the ledger says of itself, purges too, stays.
    const retentionClass = DEFAULT_RETENTION_CLASS
    this.#add({
      event,
      producerId: scene.producer.producerId,
      session,
      spoolSeq,
      stamp: undefined,
      receivedHmac,
      retentionClass,
    })
  }

  #add(record: PlannedRecord): void {
    this.records.push(record)
    this.#added.set(record.event.event_id, record)
  }

  #session(session: string): KnownSession | undefined {
    return this.#sessions.get(session) ?? this.#state.sessions.get(session)
  }

  #owns(producer: Producer, session: string): boolean {
    const known = this.#session(session)
    return known === undefined || known.producerId === producer.producerId
  }

  #isTaken(session: string, spoolSeq: number): boolean {
    const key = positionKey(session, spoolSeq)
    return this.#taken.has(key) || this.#state.taken.has(key)
  }

  #isRecorded(eventId: string): boolean {
    return this.#recorded(eventId) !== undefined
  }

  #recorded(eventId: string): PlannedRecord | KnownEvent | undefined {
    return this.#added.get(eventId) ?? this.#state.known.get(eventId)
  }
}

/** What an event says that policies select by. Regulations: those of its stamp, and those of the decision that it records. */
export function traitsOf({ event, stamp }: Pick<EventEntry | LogEntry, 'event' | 'stamp'>): RecordTraits {
  const decided = event.context?.['regulations']
  const codes = Array.isArray(decided) ? decided.filter((code) => typeof code === 'string') : []
  return {
    tenant: event.tenant,
    region: event.region ?? null,
    data_domain: event.data_domain ?? null,
    frameworks: [...new Set([...codes.slice(0, MAX_FRAMEWORKS), ...(stamp?.frameworks ?? [])])],
  }
}

function refusal(entry: RefusedEntry): Refusal {
  const { line, eventId, code, detail } = entry
  return { line, ...(eventId === undefined ? {} : { event_id: eventId }), code, detail }
}

function acknowledge(entry: EventEntry, at: PlannedRecord | KnownEvent): PlannedAck {
  return { ...named(entry), spool_seq: entry.spoolSeq, at }
}

function named({ event, receivedDigest }: EventEntry | LogEntry): Pick<Ack, 'event_id' | 'received_digest'> {
  return { event_id: event.event_id, received_digest: `sha256:${receivedDigest.toString('hex')}` }
}
