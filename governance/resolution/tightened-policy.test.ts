import { expect, it } from 'vitest'
import { faultOf, replay, tightenedRego } from './tightened-policy.ts'

it('is the same text for the same facts, whatever their order, and quotes what callers are called', () => {
  const text = tightenedRego('some_rule', 3, ['c1', 'a"b\n'])
  expect(text).toBe(tightenedRego('some_rule', 3, ['a"b\n', 'c1']))
  expect(text).toContain('package tightened_some_rule')
  expect(text).toContain('callers := {\n\t"a\\"b\\n",\n\t"c1",\n}')
})

it('is tried on what happened: each subject is asked once', async () => {
  const asked: (string | null)[] = []
  const events = [
    { subject: 'bad', good: false, violated: true },
    { subject: 'bad', good: true, violated: false },
    { subject: 'bad', good: false, violated: false },
    { subject: 'fine', good: true, violated: false },
    { subject: null, good: true, violated: false },
    { subject: 'other', good: false, violated: true },
  ]
  const found = await replay(events, async (subject) => {
    asked.push(subject)
    return subject === 'bad'
  })
  expect(found).toEqual({ events: 6, violations: 2, violations_refused: 1, good: 3, good_refused: 1 })
  expect(asked).toEqual(['bad', 'fine', null, 'other'])
})

it.each([
  { what: 'refuses nothing', change: { violations_refused: 0 }, want: /refused nothing/ },
  { what: 'refuses what was good', change: { good_refused: 11 }, want: /11 of 1000 .* at most 10/ },
  { what: 'refuses one of a few', change: { good: 99, good_refused: 1 }, want: /1 of 99 .* at most 0/ },
])('is not proposed where it $what', ({ change, want }) => {
  const whole = { events: 1_010, violations: 10, violations_refused: 10, good: 1_000, good_refused: 10 }
  expect(faultOf(whole)).toBeNull()
  expect(faultOf({ ...whole, ...change })).toMatch(want)
})
