import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatTraceParent, parseTraceParent } from './traceparent.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const PARENT = '00f067aa0ba902b7'

describe('parseTraceParent', () => {
  const cases: { name: string; value: string | undefined; want: ReturnType<typeof parseTraceParent> }[] = [
    { name: 'sampled', value: `00-${TRACE}-${PARENT}-01`, want: { traceId: TRACE, parentId: PARENT, flags: 1 } },
    { name: 'not sampled', value: `00-${TRACE}-${PARENT}-00`, want: { traceId: TRACE, parentId: PARENT, flags: 0 } },
    { name: 'random flag', value: `00-${TRACE}-${PARENT}-03`, want: { traceId: TRACE, parentId: PARENT, flags: 3 } },
    { name: 'later version', value: `cc-${TRACE}-${PARENT}-03`, want: { traceId: TRACE, parentId: PARENT, flags: 1 } },
    {
      name: 'later version with more',
      value: `01-${TRACE}-${PARENT}-01-what`,
      want: { traceId: TRACE, parentId: PARENT, flags: 1 },
    },
    { name: 'absent', value: undefined, want: null },
    { name: 'empty', value: '', want: null },
    { name: 'version ff', value: `ff-${TRACE}-${PARENT}-01`, want: null },
    { name: 'version 00 with more', value: `00-${TRACE}-${PARENT}-01-what`, want: null },
    { name: 'version 00 with a trailing dash', value: `00-${TRACE}-${PARENT}-01-`, want: null },
    { name: 'later version glued', value: `01-${TRACE}-${PARENT}-01what`, want: null },
    { name: 'upper case', value: `00-${TRACE.toUpperCase()}-${PARENT}-01`, want: null },
    { name: 'zero trace', value: `00-${'0'.repeat(32)}-${PARENT}-01`, want: null },
    { name: 'zero parent', value: `00-${TRACE}-${'0'.repeat(16)}-01`, want: null },
    { name: 'short trace', value: `00-${TRACE.slice(1)}-${PARENT}-01`, want: null },
    { name: 'blank around', value: ` 00-${TRACE}-${PARENT}-01`, want: null },
    { name: 'two values joined', value: `00-${TRACE}-${PARENT}-01, 00-${TRACE}-${PARENT}-01`, want: null },
    { name: 'line feed at the end', value: `00-${TRACE}-${PARENT}-01\n`, want: null },
    { name: 'very long', value: `01-${TRACE}-${PARENT}-01-${'x'.repeat(9_000)}`, want: null },
  ]
  it.each(cases)('$name', ({ value, want }) => {
    expect(parseTraceParent(value)).toEqual(want)
  })

  const hex = (length: number): fc.Arbitrary<string> =>
    fc
      .array(fc.constantFrom(...'0123456789abcdef'.split('')), { minLength: length, maxLength: length })
      .map((digits) => digits.join(''))
      .filter((text) => !/^0+$/.test(text))

  it('gives back what was formatted', () => {
    fc.assert(
      fc.property(hex(32), hex(16), fc.integer({ min: 0, max: 3 }), (traceId, parentId, flags) => {
        const context = { traceId, parentId, flags }
        expect(parseTraceParent(formatTraceParent(context))).toEqual(context)
      }),
    )
  })

  it('never throws, and takes nothing that is not of the form', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 80 }), (text) => {
        const parsed = parseTraceParent(text)
        if (parsed !== null) expect(text).toContain(parsed.traceId)
      }),
    )
  })
})

it('formatTraceParent sends flags it does not know as zero', () => {
  expect(formatTraceParent({ traceId: TRACE, parentId: PARENT, flags: 0xff })).toBe(`00-${TRACE}-${PARENT}-03`)
})
