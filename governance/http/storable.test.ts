import { describe, expect, it } from 'vitest'
import { unstorable } from './storable.ts'

const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) })

describe('what may be kept', () => {
  it.each([
    { what: 'a scalar', value: 7 },
    { what: 'members and lists', value: { a: [1, { b: 'c' }], d: null } },
    { what: 'as deep as may be', value: nested(32) },
    { what: 'very many', value: Array.from({ length: 200_000 }, () => 1) },
  ])('$what', ({ value }) => {
    expect(unstorable(value)).toBeNull()
  })
  it.each([
    { what: 'U+0000 in a text', value: { a: ['b\0'] }, want: /U\+0000/ },
    { what: 'U+0000 in a name', value: { 'a\0': 1 }, want: /U\+0000/ },
    { what: 'half of a surrogate pair', value: { a: 'a\ud800b' }, want: /surrogate/ },
    { what: 'one level more', value: nested(33), want: /32 levels/ },
    {
      what: 'nested without end',
      value: JSON.parse(`${'['.repeat(100_000)}${']'.repeat(100_000)}`) as unknown,
      want: /32 levels/,
    },
  ])('not $what', ({ value, want }) => {
    expect(unstorable(value)).toMatch(want)
  })
})
