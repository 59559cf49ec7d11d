import { openRecord, type SealedRecord } from '#core/audit/record.ts'
import { STAGES } from '#core/audit/event.ts'
import { commitment } from '#core/chain/link.ts'
import type { FoundRow } from './store/search.ts'

type Stage = (typeof STAGES)[number]

/** One event of a journey. `fault`: its bytes are not what the chain committed to, or are gone. */
export type JourneyItem =
  | { readonly seq: number; readonly record: SealedRecord }
  | { readonly seq: number; readonly fault: 'edit' | 'unlinked' | 'unreadable' }

export type JourneyStage = {
  readonly stage: Stage
  /** `missing`: no event, though an earlier and a later stage have one. */
  readonly state: 'seen' | 'missing' | 'not_reached'
  readonly events: number
  /** Sorted, each once. */
  readonly outcomes: readonly string[]
  readonly producers: readonly string[]
  readonly first_at: string | null
  readonly last_at: string | null
}

/** What a trace did, stage by stage, from its events in the order of the chain. */
export type Journey = {
  readonly stages: readonly JourneyStage[]
  /** Hashes of the stamps that its events name, in order, each once. */
  readonly stamps: readonly string[]
  /** No stage is missing, every event is what the chain committed to, and no producer of it has a gap on record. */
  readonly complete: boolean
}

export function readItem(row: Pick<FoundRow, 'seq' | 'nonce' | 'bytes' | 'commitment'>): JourneyItem {
  const { seq } = row
  if (row.commitment === null) return { seq, fault: 'unlinked' }
  if (!commitment(row.nonce, row.bytes).equals(row.commitment)) return { seq, fault: 'edit' }
  try {
    return { seq, record: openRecord(row.bytes) }
  } catch {
    return { seq, fault: 'unreadable' }
  }
}

/**
 * Rebuilds a journey from its events. Times are the producers' own, so a stage's first and last are by time and not by arrival.
 * `gaps`: how many holes in the sessions of its producers are recorded; any of them may have held one of its events.
 */
export function rebuildJourney(items: readonly JourneyItem[], gaps: number): Journey {
  const records = items.flatMap((item) => ('record' in item ? [item.record] : []))
  const byStage = Map.groupBy(records, ({ event }) => event.stage)
  const last = Math.max(-1, ...[...byStage.keys()].map((stage) => STAGES.indexOf(stage)))
  const first = Math.min(last, ...[...byStage.keys()].map((stage) => STAGES.indexOf(stage)))
  const stages = STAGES.map((stage, index): JourneyStage => {
    const own = byStage.get(stage) ?? []
    const times = own.map(({ event }) => event.timestamp_utc).toSorted()
    // A journey that begins late began elsewhere: what lies before its first event is not missing.
    const state = own.length > 0 ? 'seen' : index > first && index < last ? 'missing' : 'not_reached'
    return {
      stage,
      state,
      events: own.length,
      outcomes: distinct(own.map(({ event }) => event.outcome)),
      producers: distinct(own.map(({ producer_id }) => producer_id)),
      first_at: times[0] ?? null,
      last_at: times.at(-1) ?? null,
    }
  })
  const stamps = [...new Set(records.flatMap(({ event }) => event.stamp_hash ?? []))]
  const whole = items.length > 0 && records.length === items.length && gaps === 0
  return { stages, stamps, complete: whole && stages.every(({ state }) => state !== 'missing') }
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)].toSorted()
}
