import { expect, it } from 'vitest'
import type { Journey } from '../journey.ts'
import { replayState, type CountedGap } from './decide.ts'

const gap = (missing: number | null): CountedGap => ({
  event_id: 'e',
  producer_id: 'demo/api',
  session: 's',
  from: 2,
  to: missing === null ? null : 3,
  missing,
})
const journey = (state: 'seen' | 'missing' | 'not_reached'): Journey => ({
  stages: [{ stage: 'validate', state, events: 0, outcomes: [], producers: [], first_at: null, last_at: null }],
  stamps: [],
  complete: false,
})

it.each([
  { state: 'seen', gaps: [gap(1)], wantState: 'arrived' },
  { state: 'not_reached', gaps: [gap(1)], wantState: 'not_missing' },
  { state: 'missing', gaps: [], wantState: 'not_sent' },
  { state: 'missing', gaps: [gap(0)], wantState: 'not_sent' },
  { state: 'missing', gaps: [gap(0), gap(1)], wantState: 'missing' },
  { state: 'missing', gaps: [gap(null)], wantState: 'missing' },
] as const)('a stage that is $state, with gaps $gaps.length: $wantState', ({ state, gaps, wantState }) => {
  expect(replayState(journey(state), 'validate', gaps)).toBe(wantState)
})
