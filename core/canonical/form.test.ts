import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize } from './jcs.ts'
import { endOfCanonical } from './form.ts'

const endOf = (text: string): number => {
  const bytes = Buffer.from(text, 'utf8')
  return endOfCanonical(bytes, 0, bytes.length)
}

describe('endOfCanonical', () => {
  it.each([
    'null',
    'true',
    'false',
    '0',
    '-1',
    '1.5',
    '123456789012345',
    '9007199254740991',
    '1e+21',
    '1e-7',
    '0.000001',
    '""',
    String.raw`"a\"b\\c\n\t\b\f\r"`,
    '[]',
    '[1,[],{}]',
    '{}',
    '{"":1,"10":1,"9":{"a":null,"aa":"/"}}',
    '{"__proto__":1}',
  ])('finds the end of %s', (text) => {
    expect(endOf(text)).toBe(text.length)
    expect(endOf(`${text},`)).toBe(text.length)
  })

  it.each([
    '',
    ' null',
    'nul',
    'nulL',
    '-',
    '-0',
    '00',
    '01',
    '-01',
    '1.0',
    '1.',
    '.5',
    '+1',
    '1e5',
    '1E+21',
    '0.0000001',
    '9007199254740993',
    '1e400',
    'NaN',
    '"',
    '"a',
    String.raw`"\/"`,
    '"\\u0041"',
    String.raw`"\x"`,
    '"\\',
    '"\u0001"',
    '[1,]',
    '[1',
    '[1 ]',
    '[,1]',
    '{"a":1,"a":1}',
    '{"b":1,"a":1}',
    '{"aa":1,"a":1}',
    '{"a" :1}',
    '{"a":1,}',
    '{"a":1',
    '{"a"}',
    '{a:1}',
    String.raw`{"\n":1}`,
    // Canonical, and left to others.
    '"ü"',
    String.raw`"\u0001"`,
    '['.repeat(40) + ']'.repeat(40),
  ])('does not vouch for %j', (text) => expect(endOf(text)).toBe(-1))

  it('does not look beyond the end that it is given', () => {
    const bytes = Buffer.from('{"a":[12,"bc"]}')
    for (let end = 0; end < bytes.length; end++) expect(endOfCanonical(bytes, 0, end)).toBe(-1)
  })

  const value = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, false),
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.string({ unit: 'grapheme-ascii' }),
      fc.string(),
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.stringMatching(/^[ -!#-[\]-~]{0,3}$/), tie('value'), { maxKeys: 5 }),
    ),
  })).value

  it('finds the end of what canonicalize writes in printable ASCII', () => {
    fc.assert(
      fc.property(value, (any) => {
        const text = canonicalize(any)
        // oxlint-disable-next-line no-control-regex -- what is judged here
        fc.pre(/^[\u0020-\u007e]*$/.test(text) && !/\\u/.test(text))
        expect(endOf(text)).toBe(text.length)
      }),
    )
  })

  it('vouches for nothing that is not what canonicalize writes', () => {
    const mutated = fc.tuple(value, fc.nat(), fc.constantFrom(...Array.from('"\\{}[]:,0129.-+eEnut a\n')), fc.boolean())
    fc.assert(
      fc.property(mutated, ([any, place, put, isReplaced]) => {
        const text = canonicalize(any)
        const at = place % (text.length + 1)
        const changed = text.slice(0, at) + put + text.slice(isReplaced ? at + 1 : at)
        const end = endOf(changed)
        if (end !== -1) expect(canonicalize(JSON.parse(changed.slice(0, end)))).toBe(changed.slice(0, end))
      }),
      { numRuns: 2_000 },
    )
  })
})
