import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseStrict } from './strict.ts'

const parse = (text: string) => parseStrict(Buffer.from(text))

describe('parseStrict', () => {
  it.each([
    { text: '{"a":[1,{"b":null}],"c":"\\u005f:"}', want: { a: [1, { b: null }], c: '_:' } },
    { text: ' [ ] ', want: [] },
    { text: '"a:b"', want: 'a:b' },
    { text: '-0.5e1', want: -5 },
    { text: '{"a":{"x":1},"b":{"x":1}}', want: { a: { x: 1 }, b: { x: 1 } } },
  ])('gives the value of $text', ({ text, want }) => expect(parse(text)).toEqual(want))

  it('keeps `__proto__` as a name', () => {
    const value = parse('{"__proto__":{"a":1},"b":{"__proto__":2}}') as Record<string, unknown>
    expect(Object.keys(value)).toEqual(['__proto__', 'b'])
    expect(Object.getPrototypeOf(value)).toBe(Object.prototype)
  })

  it.each([
    '{"a":1,"a":1}',
    '{"a":1,"\\u0061":2}',
    '{"x":{"b":1,"c":2,"b":3}}',
    '[[{"a":{},"a":{}}]]',
    '{"__proto__":1,"__proto__":2}',
    '{"":1,"":2}',
    '{"_compliance":1,"\\u005fcompliance":2}',
    '{"a":{"b":1},"a":2}',
  ])('refuses a name twice: %s', (text) => {
    expect(() => parse(text)).toThrow(
      expect.objectContaining({ code: 'JSON_INVALID', message: expect.stringContaining('twice') as string }),
    )
  })

  it.each([
    '',
    '[1 2]',
    '[01]',
    '[1.]',
    '[.5]',
    '[+1]',
    '[NaN]',
    '[1,]',
    '{"a":tru}',
    '["\u0001"]',
    '["\\x"]',
    "['a']",
    '[a]',
    '[1]x',
    '\ufeff1',
    '{"a":1}\u0000',
  ])('refuses %j', (text) => {
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
  })

  it('never repeats what it read', () => {
    for (const text of ['["topsecret" 1]', '[topsecret]', '{"topsecret":1,"topsecret":2}', '"topsecret']) {
      try {
        parse(text)
        expect.unreachable()
      } catch (error) {
        expect(String(error) + String((error as Error).cause)).not.toContain('topsecret')
      }
    }
  })

  it('bounds the depth', () => {
    expect(() => parse('['.repeat(65) + ']'.repeat(65))).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
    expect(() => parse('['.repeat(100_000))).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
    expect(parseStrict(Buffer.from('['.repeat(512) + ']'.repeat(512)), { maxDepth: 512 })).toBeInstanceOf(Array)
  })

  it('is JSON.parse for JSON without repeated names', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), fc.constantFrom(undefined, 2), (value, space) => {
        const text = JSON.stringify(value, null, space)
        expect(parse(text)).toEqual(JSON.parse(text))
      }),
    )
  })
})
