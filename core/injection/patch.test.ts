import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { applyPatch } from './patch.fixture.ts'
import { patchBetween } from './patch.ts'

describe('patchBetween', () => {
  it.each([
    { before: { a: 1 }, after: { a: 1 }, want: [] },
    { before: { a: 1 }, after: { a: 2 }, want: [{ op: 'replace', path: '/a', value: 2 }] },
    { before: { a: { b: 1 } }, after: { a: {} }, want: [{ op: 'remove', path: '/a/b' }] },
    { before: {}, after: { 'x/y~z': 1 }, want: [{ op: 'add', path: '/x~1y~0z', value: 1 }] },
    {
      before: [{ name: 'b' }],
      after: [{ name: 'a' }, { name: 'b' }],
      want: [{ op: 'add', path: '/0', value: { name: 'a' } }],
    },
    { before: [{ name: 'b', v: 1 }], after: [{ name: 'b', v: 2 }], want: [{ op: 'replace', path: '/0/v', value: 2 }] },
  ])('$before to $after', ({ before, after, want }) => expect(patchBetween(before, after)).toEqual(want))

  it('makes the one of the other, whatever they are', () => {
    const value = fc.jsonValue({ maxDepth: 4 })
    fc.assert(
      fc.property(value, value, (before, after) => {
        expect(applyPatch(before, patchBetween(before, after))).toEqual(after)
      }),
      { numRuns: 500 },
    )
  })

  it('touches nothing that stays', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(patchBetween(value, structuredClone(value))).toEqual([])
      }),
    )
  })
})
