import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { findMentions, soughtNames, namesSomebody } from './mention.ts'

const shown = (text: string, names: readonly string[] = []): string[] =>
  findMentions(text, soughtNames(names)).map(({ start, end, name }) => `${text.slice(start, end)}=${name}`)

describe('findMentions', () => {
  it.each([
    { text: 'a@b.de', want: ['a@b.de=a@b.de'] },
    { text: 'write to <a.b+c@x-y.example>, or not', want: ['a.b+c@x-y.example=a.b+c@x-y.example'] },
    { text: '/u/a%40b.de/x?to=c%40d.de&n=1', want: ['a%40b.de=a@b.de', 'c%40d.de=c@d.de'] },
    { text: 'ends a@b.de.', want: ['a@b.de=a@b.de'] },
    { text: 'jürgen@köln.example', want: ['jürgen@köln.example=jürgen@köln.example'] },
    { text: 'mailto:a@b.de', want: ['a@b.de=a@b.de'] },
    { text: 'a@b', want: [] },
    { text: '@b.de', want: [] },
    { text: 'a@@b.de', want: [] },
    { text: 'npm i @scope/pkg@1.2', want: ['pkg@1.2=pkg@1.2'] },
    { text: 'user@host and more', want: [] },
    { text: '@ @ @', want: [] },
  ])('addresses in $text', ({ text, want }) => expect(shown(text)).toEqual(want))

  it.each([
    { text: '/users/user:anna', names: ['user:anna'], want: ['user:anna=user:anna'] },
    { text: '/users/user%3Aanna', names: ['user:anna'], want: ['user%3Aanna=user:anna'] },
    { text: 'pre-user:anna-post', names: ['user:anna'], want: ['user:anna=user:anna'] },
    { text: '/users/anna', names: ['anna'], want: ['anna=anna'] },
    { text: 'susanna', names: ['anna'], want: [] },
    { text: 'anna', names: ['an'], want: [] },
    { text: 'user:a@b.de', names: ['user:a@b.de', 'a@b.de'], want: ['user:a@b.de=user:a@b.de'] },
    { text: 'x', names: [], want: [] },
  ])('$names in $text', ({ text, names, want }) => expect(shown(text, names)).toEqual(want))

  it('never overlaps, and is in order', () => {
    const text = fc.array(fc.constantFrom('a', '@', 'b.de', '.', '%40', ' ', 'user:x', '/', '%'), { maxLength: 30 })
    fc.assert(
      fc.property(text, (parts) => {
        let last = 0
        for (const { start, end } of findMentions(parts.join(''), soughtNames(['user:x', 'b.de']))) {
          expect(start).toBeGreaterThanOrEqual(last)
          expect(end).toBeGreaterThan(start)
          last = end
        }
      }),
    )
  })

  it.each(['a', '@', 'a@', 'a@b', 'a@b.', '%40a', 'a@b.c '])('is linear in %j repeated', (part) => {
    const time = (count: number): number => {
      const text = part.repeat(count)
      const startedAt = performance.now()
      findMentions(text, soughtNames(['user:x']))
      return performance.now() - startedAt
    }
    time(1_000)
    // A square would take a hundred thousand times as long, not one that the machine hides.
    expect(time(300_000)).toBeLessThan(5_000)
  })
})

it.each([
  { text: 'GDPR Art. 17, case 4711', names: ['user:anna'], want: false },
  { text: 'asked by user:anna', names: ['user:anna'], want: true },
  { text: 'letter of anna, in May', names: ['anna'], want: true },
  { text: 'banana', names: ['anna'], want: false },
  { text: 'mail of anna@example.com', names: [], want: true },
])('namesSomebody: «$text» $names: $want', ({ text, names, want }) => {
  expect(namesSomebody(text, names)).toBe(want)
})
