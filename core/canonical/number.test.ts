import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { assertNumbersRoundTrip, roundTrips } from './number.ts'

describe('roundTrips', () => {
  it.each([
    '0',
    '-0',
    '0.0',
    '-0e5',
    '0e999999999999',
    '1',
    '-1.50',
    '1e2',
    '1E+2',
    '100e-2',
    '0.1',
    '123456789012345',
    '9007199254740992',
    '9007199254740994',
    '5e-324',
    '1.7976931348623157e308',
    '1e23',
    '100000000000000000000000',
    '0.00000000000000000001',
    '1.0000000000000000',
  ])('%s does', (token) => expect(roundTrips(token)).toBe(true))
  it.each([
    '1e400',
    '-1e400',
    '1e-400',
    '9007199254740993',
    '0.1000000000000000055511151231257827',
    '123456789012345678',
    '4e-324',
    '3.141592653589793238',
    '1.7976931348623158e308',
    `1e${'9'.repeat(400)}`,
    `1e-${'9'.repeat(400)}`,
  ])('%s does not', (token) => expect(roundTrips(token)).toBe(false))

  it('does for whatever ECMAScript prints', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => roundTrips(JSON.stringify(value))),
    )
  })
  it('does for 15 characters, exponent or not', () => {
    fc.assert(
      fc.property(fc.integer({ min: -99_999_999_999_999, max: 999_999_999_999_999 }), fc.nat(12), (digits, point) => {
        const text = (digits / 10 ** point).toFixed(point)
        return roundTrips(text.slice(0, 15)) && roundTrips(`${text.slice(0, 15)}e0`.replace('.e', '.0e'))
      }),
    )
  })
  it('takes linear time on long digits', () => {
    const startedAt = performance.now()
    expect(roundTrips(`1.${'0'.repeat(500_000)}1`)).toBe(false)
    expect(performance.now() - startedAt).toBeLessThan(1_000)
  })
})

describe('assertNumbersRoundTrip', () => {
  it.each(['{"a":[1,2.5,-3e2],"1e400":"9007199254740993 \\" 1e400"}', '"9007199254740993"', 'true', '[]'])(
    'passes %s',
    (text) => {
      expect(() => assertNumbersRoundTrip(Buffer.from(text))).not.toThrow()
    },
  )
  it.each([
    { text: '[1,1e400]', wantOffset: 3 },
    { text: '{"a\\\\":9007199254740993}', wantOffset: 7 },
    { text: '9007199254740993', wantOffset: 0 },
    { text: '{"a":{"b":-1e-999}}', wantOffset: 10 },
  ])('refuses $text at $wantOffset', ({ text, wantOffset }) => {
    expect(() => assertNumbersRoundTrip(Buffer.from(text))).toThrow(
      expect.objectContaining({ code: 'CANONICAL_VALUE_INVALID', details: { offset: wantOffset } }),
    )
  })
})
