import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize } from './jcs.ts'

/** RFC 8785, appendix B: IEEE 754 bits and what they print. */
const RFC_8785_NUMBERS: readonly (readonly [bits: string, wantText: string])[] = [
  ['0000000000000000', '0'],
  ['8000000000000000', '0'],
  ['0000000000000001', '5e-324'],
  ['8000000000000001', '-5e-324'],
  ['7fefffffffffffff', '1.7976931348623157e+308'],
  ['ffefffffffffffff', '-1.7976931348623157e+308'],
  ['4340000000000000', '9007199254740992'],
  ['c340000000000000', '-9007199254740992'],
  ['4430000000000000', '295147905179352830000'],
  ['44b52d02c7e14af5', '9.999999999999997e+22'],
  ['44b52d02c7e14af6', '1e+23'],
  ['44b52d02c7e14af7', '1.0000000000000001e+23'],
  ['444b1ae4d6e2ef4e', '999999999999999700000'],
  ['444b1ae4d6e2ef4f', '999999999999999900000'],
  ['444b1ae4d6e2ef50', '1e+21'],
  ['3eb0c6f7a0b5ed8c', '9.999999999999997e-7'],
  ['3eb0c6f7a0b5ed8d', '0.000001'],
  ['41b3de4355555553', '333333333.3333332'],
  ['41b3de4355555554', '333333333.33333325'],
  ['41b3de4355555555', '333333333.3333333'],
  ['41b3de4355555556', '333333333.3333334'],
  ['41b3de4355555557', '333333333.33333343'],
  ['becbf647612f3696', '-0.0000033333333333333333'],
  ['43143ff3c1cb0959', '1424953923781206.2'],
]

const double = (bits: string): number => Buffer.from(bits, 'hex').readDoubleBE()

describe('canonicalize', () => {
  it.each(RFC_8785_NUMBERS)('number %s prints %s', (bits, wantText) => {
    expect(canonicalize(double(bits))).toBe(wantText)
  })

  it.each([['7fffffffffffffff'], ['7ff0000000000000'], ['fff0000000000000']])('number %s has no form', (bits) => {
    expect(() => canonicalize(double(bits))).toThrow(expect.objectContaining({ code: 'CANONICAL_VALUE_INVALID' }))
  })

  it.each([
    { value: { b: 1, a: [true, false, null] }, wantText: '{"a":[true,false,null],"b":1}' },
    {
      value: { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 },
      wantText: '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\ud83d\ude00":5,"\ufb33":3}',
    },
    { value: '\u20ac$\u000f\nA\'B"\\\\"/\u007f\u2028', wantText: '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/\u007f\u2028"' },
    { value: '\b\t\n\f\r\u0000\u001f', wantText: '"\\b\\t\\n\\f\\r\\u0000\\u001f"' },
    { value: JSON.parse('{"__proto__":1,"constructor":2}') as unknown, wantText: '{"__proto__":1,"constructor":2}' },
    { value: Object.assign(Object.create(null) as object, { a: {} }), wantText: '{"a":{}}' },
    { value: [], wantText: '[]' },
  ])('writes $wantText', ({ value, wantText }) => {
    expect(canonicalize(value)).toBe(wantText)
  })

  const cycle: Record<string, unknown> = {}
  cycle['self'] = cycle
  const hole: unknown[] = [1]
  hole[2] = 3
  it.each([
    { what: 'undefined', value: undefined },
    { what: 'an undefined member', value: { a: undefined } },
    { what: 'a function', value: { a: () => 1 } },
    { what: 'a method toJSON', value: { toJSON: () => 1 } },
    { what: 'a symbol', value: Symbol('s') },
    { what: 'a symbol as name', value: { [Symbol('s')]: 1 } },
    { what: 'a bigint', value: 1n },
    { what: 'a lone high surrogate', value: 'a\ud800' },
    { what: 'a lone low surrogate', value: ['\udc00a'] },
    { what: 'swapped surrogates', value: '\ude00\ud83d' },
    { what: 'a lone surrogate in a name', value: { '\ud800': 1 } },
    { what: 'a hole', value: hole },
    { what: 'a method toJSON that is not enumerable', value: Object.defineProperty({}, 'toJSON', { value: () => 1 }) },
    { what: 'an array with toJSON', value: Object.assign([1], { toJSON: () => 'another' }) },
    {
      what: 'an array with a toJSON that is not enumerable',
      value: [Object.defineProperty([1], 'toJSON', { value: () => 'another' })],
    },
    { what: 'an array with a name of its own', value: { a: Object.assign([1], { b: 2 }) } },
    { what: 'an array with a name in place of an element', value: Object.assign([1, 2, 3], { length: 4, b: 2 }) },
    { what: 'an array of a class of its own', value: new (class extends Array<number> {})(1, 2) },
    { what: 'the same behind names out of order', value: { b: 1, a: Object.assign([1], { toJSON: () => 'another' }) } },
    { what: 'a Date', value: new Date(0) },
    { what: 'a Map', value: new Map() },
    { what: 'a Buffer', value: Buffer.from('a') },
    { what: 'a boxed string', value: Object('a') as unknown },
    { what: 'a class instance', value: new URL('a:b') },
    { what: 'a cycle', value: cycle },
    {
      what: 'an array in itself',
      value: (() => {
        const a: unknown[] = []
        a.push(a)
        return a
      })(),
    },
  ])('refuses $what', ({ value }) => {
    expect(() => canonicalize(value)).toThrow(expect.objectContaining({ code: 'CANONICAL_VALUE_INVALID' }))
  })

  it('takes a member `toJSON` that is data', () => {
    expect(canonicalize({ toJSON: 'x', a: [{ toJSON: null }] })).toBe('{"a":[{"toJSON":null}],"toJSON":"x"}')
    expect(canonicalize({ a: 1, toJSON: 'x' })).toBe('{"a":1,"toJSON":"x"}')
  })

  it('nests 512 deep and no deeper', () => {
    const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))
    expect(canonicalize(nested(512))).toHaveLength(1024)
    expect(() => canonicalize(nested(513))).toThrow(expect.objectContaining({ code: 'CANONICAL_VALUE_INVALID' }))
  })

  const value = fc.jsonValue({ stringUnit: 'binary' })
  it('is idempotent and keeps the value', () => {
    fc.assert(
      fc.property(value, (json) => {
        const text = canonicalize(json)
        const parsed = JSON.parse(text) as unknown
        expect(canonicalize(parsed)).toBe(text)
        // -0 has no form of its own.
        expect(parsed).toEqual(JSON.parse(JSON.stringify(json)))
      }),
    )
  })

  it('orders names by UTF-16 code units', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ unit: 'binary' }), { maxLength: 8 }), (names) => {
        const object = Object.fromEntries(names.map((name) => [name, 0]))
        const wanted = [...names].sort((a, b) => {
          for (let at = 0; at < Math.min(a.length, b.length); at++) {
            const difference = a.charCodeAt(at) - b.charCodeAt(at)
            if (difference !== 0) return difference
          }
          return a.length - b.length
        })
        expect(canonicalize(object)).toBe(`{${wanted.map((name) => `${JSON.stringify(name)}:0`).join(',')}}`)
      }),
    )
  })
})
