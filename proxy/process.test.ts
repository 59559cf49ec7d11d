import { expect, it } from 'vitest'
import { TEMPLATE } from '#core/injection/injection.fixture.ts'
import { gracePeriodSeconds } from '#core/injection/sidecar.ts'
import { drainLimitMs } from './process.ts'

it.each([
  { drainMs: 0, want: 25_000 },
  { drainMs: 6_000, want: 25_000 },
  { drainMs: 11_000, want: 25_000 },
  { drainMs: 20_000, want: 43_000 },
  { drainMs: 600_000, want: 1_203_000 },
])('has time for two drains of $drainMs ms, which injection adds to the pod', ({ drainMs, want }) => {
  expect(drainLimitMs(drainMs)).toBe(want)
  const added = gracePeriodSeconds(0, { ...TEMPLATE, drainMs })
  if (want > 25_000) expect(added * 1_000).toBe(want)
})
