import { describe, expect, it } from 'vitest'
import { canonicalText } from './canonical.ts'

describe('canonicalText', () => {
  it.each([
    [
      'key order by UTF-8 bytes, not UTF-16 units',
      { '\u{1d11e}': 1, '\uffee': 2, a: 3 },
      '{"a":3,"\uffee":2,"\u{1d11e}":1}',
    ],
    ['line separators as Go writes them', '\u2028<&>\u2029', '"\\u2028<&>\\u2029"'],
    ['control characters', '\b\f\n\r\t\u0001\u007f', '"\\b\\f\\n\\r\\t\\u0001\u007f"'],
    ['nesting', [{ b: [], a: {} }, null, true, 1.5, 1e21], '[{"a":{},"b":[]},null,true,1.5,1e+21]'],
  ])('%s', (_, value, want) => {
    expect(canonicalText(value)).toBe(want)
  })

  it('refuses what has no JSON form', () => {
    expect(() => canonicalText({ a: '\ud800' })).toThrow(/surrogate/)
    expect(() => canonicalText([Number.NaN])).toThrow(/finite/)
  })
})
