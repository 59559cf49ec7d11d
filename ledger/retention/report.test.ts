import { describe, expect, it } from 'vitest'
import { verdictOf, type Obstacle } from './months.ts'
import { presentReasons } from './report.ts'

const obstacle = (reason: Obstacle['reason'], tenant: string | null = null): Obstacle => ({
  reason,
  tenant,
  detail: `secret of ${tenant}`,
})

describe('what is said of a month', () => {
  it.each([
    { of: [], want: 'due' },
    { of: [obstacle('hot')], want: 'hot' },
    { of: [obstacle('never')], want: 'never' },
    { of: [obstacle('not-archived', 'acme'), obstacle('held', 'globex')], want: 'held' },
    { of: [obstacle('not-archived', 'acme')], want: 'blocked' },
    { of: [obstacle('clock')], want: 'blocked' },
  ])('$want', ({ of, want }) => {
    expect(verdictOf(of)).toBe(want)
  })

  it('another tenant shows as that, once, however many there are', () => {
    const reasons = presentReasons(
      [obstacle('held', 'globex'), obstacle('held', 'initech'), obstacle('held', 'acme'), obstacle('clock')],
      'acme',
    )
    expect(reasons.map(({ reason, whose }) => `${reason} ${whose}`)).toEqual(['held other', 'held own', 'clock all'])
    expect(JSON.stringify(reasons)).not.toMatch(/globex|initech/)
  })
})
