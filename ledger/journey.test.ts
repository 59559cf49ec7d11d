import { describe, expect, test } from 'vitest'
import type { SealedRecord } from '#core/audit/record.ts'
import { rebuildJourney, type JourneyItem } from './journey.ts'

type Stage = SealedRecord['event']['stage']

function item(seq: number, stage: Stage, change: Partial<SealedRecord['event']> = {}): JourneyItem {
  const record = {
    event: { stage, outcome: 'success', timestamp_utc: `2026-01-01T00:00:0${seq}.000Z`, stamp_hash: null, ...change },
    producer_id: `demo/${stage}`,
  }
  return { seq, record: record as SealedRecord }
}

const WHOLE = (['ingest', 'transform', 'validate', 'approve', 'publish'] as const).map((stage, i) => item(i + 1, stage))

describe('rebuildJourney', () => {
  test.each([
    {
      name: 'all five stages',
      items: WHOLE,
      gaps: 0,
      wantStates: ['seen', 'seen', 'seen', 'seen', 'seen'],
      wantComplete: true,
    },
    {
      name: 'a stage between two others has no event',
      items: [item(1, 'ingest'), item(2, 'publish')],
      gaps: 0,
      wantStates: ['seen', 'missing', 'missing', 'missing', 'seen'],
      wantComplete: false,
    },
    {
      name: 'a journey that begins late and has not ended',
      items: [item(1, 'validate'), item(2, 'approve')],
      gaps: 0,
      wantStates: ['not_reached', 'not_reached', 'seen', 'seen', 'not_reached'],
      wantComplete: true,
    },
    {
      name: 'a gap in a session',
      items: WHOLE,
      gaps: 1,
      wantStates: ['seen', 'seen', 'seen', 'seen', 'seen'],
      wantComplete: false,
    },
    {
      name: 'an event that was edited',
      items: [...WHOLE, { seq: 6, fault: 'edit' as const }],
      gaps: 0,
      wantStates: ['seen', 'seen', 'seen', 'seen', 'seen'],
      wantComplete: false,
    },
    { name: 'nothing', items: [], gaps: 0, wantStates: Array(5).fill('not_reached'), wantComplete: false },
  ])('$name', ({ items, gaps, wantStates, wantComplete }) => {
    const { stages, complete } = rebuildJourney(items, gaps)
    expect(stages.map(({ state }) => state)).toEqual(wantStates)
    expect(complete).toBe(wantComplete)
  })

  test('a stage says when, by whom and how it ended; stamps come once', () => {
    const stamp_hash = `sha256:${'a'.repeat(64)}`
    const { stages, stamps } = rebuildJourney(
      [item(3, 'publish', { stamp_hash, outcome: 'denied' }), item(1, 'publish', { stamp_hash }), item(2, 'publish')],
      0,
    )
    expect(stages[4]).toEqual({
      stage: 'publish',
      state: 'seen',
      events: 3,
      outcomes: ['denied', 'success'],
      producers: ['demo/publish'],
      first_at: '2026-01-01T00:00:01.000Z',
      last_at: '2026-01-01T00:00:03.000Z',
    })
    expect(stamps).toEqual([stamp_hash])
  })
})
