import { expect, it } from 'vitest'
import { MAX_TRIES, retryDelayMs } from './webhook-retry.ts'

it.each([
  { tries: 1, random: 0, wantMs: 5_000 },
  { tries: 1, random: 0.5, wantMs: 5_500 },
  { tries: 2, random: 0, wantMs: 300_000 },
  { tries: MAX_TRIES - 1, random: 0, wantMs: 50_400_000 },
  { tries: MAX_TRIES, random: 0, wantMs: null },
])('after $tries tries it waits $wantMs', ({ tries, random, wantMs }) => {
  expect(retryDelayMs(tries, random)).toBe(wantMs)
})

it('waits longer each time, whatever chance says', () => {
  for (let tries = 2; tries < MAX_TRIES; tries++)
    expect(retryDelayMs(tries, 0)).toBeGreaterThan(retryDelayMs(tries - 1, 0.999) ?? Infinity)
})
