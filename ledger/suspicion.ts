import type { Batch, Entry, Producer, RefusedEntry } from './entry.ts'
import type { Mark } from './keys.ts'
import { identityIssued, itemRefused, linesRefused, noticed, sessionClosed, type Scene } from './ledger-event.ts'
import { positionKey, receivedMark, type KnownEvent, type KnownSession } from './plan.ts'

/** What has to be looked up on the wall before the group can be planned. */
export type Lookup = { readonly eventIds: Set<string>; readonly sessions: Set<string> }
/** What has to be looked up besides, for items that do not look like new ones in order: rarely anything. */
export type SecondLookup = {
  readonly eventIds: Set<string>
  readonly positions: Map<string, { session: string; spoolSeq: number }>
}

export function firstLookup(batches: readonly Batch[], at: Date, mark: Mark): Lookup {
  const lookup: Lookup = { eventIds: new Set(), sessions: new Set() }
  for (const { producer, entries } of batches) {
    const scene: Scene = { producer, at, mark }
    const placeless: RefusedEntry[] = []
    for (const entry of entries) {
      if (entry.kind === 'event') lookup.eventIds.add(entry.event.event_id)
      else if (entry.kind === 'issue') lookup.eventIds.add(identityIssued(scene, entry).event_id)
      else if (entry.kind === 'notice') lookup.eventIds.add(noticed(scene, entry).event_id)
      else if (entry.kind === 'log') {
        lookup.eventIds.add(entry.event.event_id)
        // What its refusal would be, should the id be another's: it would share the batch's event with nothing else.
        lookup.eventIds.add(linesRefused(scene, [refusedLog(entry)]).event_id)
      } else if (entry.kind === 'close') lookup.eventIds.add(closedId(scene, entry.session))
      else if (entry.kind === 'refused') {
        if (entry.position === undefined) placeless.push(entry)
        else {
          // With or without its session: which of the two it will be shows in the plan.
          lookup.eventIds.add(itemRefused(scene, entry, null).event_id)
          lookup.sessions.add(entry.position.session)
        }
      }
      if ('session' in entry) lookup.sessions.add(entry.session)
    }
    if (placeless.length > 0) lookup.eventIds.add(linesRefused(scene, placeless).event_id)
  }
  return lookup
}

/**
 * For each item that may be refused in the plan: its refusal's id (was it refused before?) and its position (is it taken?). What it was
 * refused for before is on the wall, so that it looks suspicious by the wall alone; repetitions within the group the plan sees itself.
 */
export function secondLookup(
  batches: readonly Batch[],
  state: { known: ReadonlyMap<string, KnownEvent>; sessions: ReadonlyMap<string, KnownSession> },
  at: Date,
  mark: Mark,
): SecondLookup {
  const lookup: SecondLookup = { eventIds: new Set(), positions: new Map() }
  for (const { producer, entries } of batches) {
    for (const entry of entries) {
      const place = placeOf(entry)
      if (place === undefined || (entry.kind !== 'event' && entry.kind !== 'refused')) continue
      const key = positionKey(place.session, place.spoolSeq)
      const eventId = entry.kind === 'event' ? entry.event.event_id : ''
      const known = state.known.get(eventId)
      if (known?.receivedHmac.equals(receivedMark(mark, producer, entry.receivedDigest)) === true) continue
      const session = state.sessions.get(place.session)
      const looksNew = known === undefined && (session === undefined || isAhead(session, producer, place.spoolSeq))
      if (looksNew) continue
      lookup.positions.set(key, place)
      if (entry.kind === 'event') lookup.eventIds.add(refusedId({ producer, at, mark }, entry.receivedDigest))
    }
  }
  return lookup
}

function isAhead(session: KnownSession, producer: Producer, spoolSeq: number): boolean {
  return session.producerId === producer.producerId && spoolSeq > session.spoolHead
}

function placeOf(entry: Entry): { session: string; spoolSeq: number } | undefined {
  if (entry.kind === 'event') return { session: entry.session, spoolSeq: entry.spoolSeq }
  return entry.kind === 'refused' ? entry.position : undefined
}

function closedId(scene: Scene, session: string): string {
  return sessionClosed(scene, session, { clean: true, last_spool_seq: 0, recorded_spool_seq: 0 }).event_id
}

/** An id of `linesRefused` depends on producer and bytes only. */
function refusedLog({ receivedDigest }: { receivedDigest: Buffer }): RefusedEntry {
  return {
    kind: 'refused',
    line: 1,
    receivedDigest,
    eventId: undefined,
    position: undefined,
    code: 'EVENT_ID_CONFLICT',
    detail: '',
  }
}

/** A refusal's id depends on producer and bytes only. */
function refusedId(scene: Scene, receivedDigest: Buffer): string {
  return itemRefused(scene, refusedLog({ receivedDigest }), null).event_id
}
