import type { STAGES } from '#core/audit/event.ts'
import type { Journey, JourneyItem } from '../journey.ts'

export type Stage = (typeof STAGES)[number]

/** Positions of a producer's session that had not come when the ledger noticed. */
export type TraceGap = {
  readonly event_id: string
  readonly producer_id: string
  readonly session: string
  readonly from: number
  /** Null: nobody knows how far. */
  readonly to: number | null
}
/** A gap, and how much of it is still missing; null where it is without end, or too wide to be looked through. */
export type CountedGap = TraceGap & { readonly missing: number | null }

/**
 * What can be said of a stage that somebody misses. `arrived`: it is there. `not_missing`: the journey has not come so far, or began later.
 * `missing`: a position that its producers numbered has not come, and may hold it. `not_sent`: every position that is known has come, so that no
 * spool holds it: it was never written, or by a producer that keeps no spool.
 */
export type ReplayState = 'arrived' | 'not_missing' | 'missing' | 'not_sent'

/** A gap that is without end, or that nobody could count, may hold anything. */
export function replayState(journey: Journey, stage: Stage, gaps: readonly CountedGap[]): ReplayState {
  const state = journey.stages.find((each) => each.stage === stage)?.state
  if (state === 'seen') return 'arrived'
  if (state !== 'missing') return 'not_missing'
  return gaps.some(({ missing }) => missing !== 0) ? 'missing' : 'not_sent'
}

/** The gaps of events of type `audit.gap`; what cannot be read as one is left out. */
export function gapsOf(items: readonly JourneyItem[]): TraceGap[] {
  return items.flatMap((item) => {
    if (!('record' in item)) return []
    const { event } = item.record
    const { producer_id: producer, from, to } = event.context ?? {}
    if (typeof producer !== 'string' || typeof from !== 'number') return []
    const end = typeof to === 'number' ? to : null
    return [{ event_id: event.event_id, producer_id: producer, session: event.resource_id ?? '', from, to: end }]
  })
}
