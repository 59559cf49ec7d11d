import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { scanStructure } from './scan.ts'

const scan = (text: string, maxDepth?: number) =>
  scanStructure(Buffer.from(text), maxDepth === undefined ? {} : { maxDepth })

describe('scanStructure', () => {
  it.each([
    { text: '{}', want: { kind: 'object', closeBrace: 1, isEmpty: true, members: 0, colons: 0, maxDepth: 1 } },
    { text: ' {\n} \n', want: { kind: 'object', closeBrace: 3, isEmpty: true, members: 0 } },
    { text: '{"a":1}', want: { kind: 'object', closeBrace: 6, isEmpty: false, members: 1, colons: 1, maxDepth: 1 } },
    {
      text: '{"a" : {"b":[1,{"c":":"}]} , "d":"}"}\t',
      want: { kind: 'object', closeBrace: 36, members: 2, colons: 4, maxDepth: 4 },
    },
    { text: '{"a":"\\"}","b":"\\\\"}', want: { members: 2, closeBrace: 19 } },
    { text: '[{"a":1},[[]]]', want: { kind: 'array', closeBrace: -1, isEmpty: false, colons: 1, maxDepth: 3 } },
    { text: '[]', want: { kind: 'array', maxDepth: 1 } },
    { text: '{"a":["\\"]}","\\\\"],"b":[":"]}', want: { members: 2, colons: 2, closeBrace: 28 } },
    { text: ' "a\\"b" ', want: { kind: 'scalar', closeBrace: -1, maxDepth: 0 } },
    { text: '-1.5E+3', want: { kind: 'scalar' } },
    { text: 'null', want: { kind: 'scalar' } },
    { text: '{"ü€😀":"ü€😀"}', want: { kind: 'object', members: 1 } },
    { text: '{"__proto__":{}}', want: { members: 1, complianceMembers: 0 } },
  ])('reads $text', ({ text, want }) => expect(scan(text)).toMatchObject(want))

  it.each([
    { name: '"_compliance"', want: 1 },
    { name: '"\\u005fcompliance"', want: 1 },
    { name: '"\\u005F\\u0063\\u006f\\u006d\\u0070\\u006c\\u0069\\u0061\\u006e\\u0063\\u0065"', want: 1 },
    { name: '"_complianc\\u0065"', want: 1 },
    { name: '"_Compliance"', want: 0 },
    { name: '"_compliance "', want: 0 },
    { name: '"\\\\u005fcompliance"', want: 0 },
    { name: '"\\u005fcomplianc"', want: 0 },
    { name: '"_complianceé"', want: 0 },
    { name: '""', want: 0 },
  ])('counts $name as $want `_compliance`', ({ name, want }) => {
    expect(scan(`{${name}:1}`).complianceMembers).toBe(want)
    expect(scan(`{"a":{${name}:1},"b":[{${name}:1}],"_compliance":2}`).complianceMembers).toBe(1)
    expect(scan(`[{${name}:1}]`).complianceMembers).toBe(0)
  })

  it('tells where they are', () => {
    const text = '{ "_compliance" : 1 , "a":2, "\\u005fcompliance":{"x":[]} }'
    const spans = scan(text).complianceSpans
    expect(
      spans.map(({ nameStart, nameEnd, valueStart, valueEnd }) => [
        text.slice(nameStart, nameEnd),
        text.slice(valueStart, valueEnd),
      ]),
    ).toEqual([
      ['"_compliance"', '1'],
      ['"\\u005fcompliance"', '{"x":[]}'],
    ])
    expect(spans.map(({ position, commaBefore }) => [position, commaBefore])).toEqual([
      [0, -1],
      [2, text.indexOf(', "\\u')],
    ])
  })

  it.each([
    '',
    ' ',
    '\ufeff{}',
    '{',
    '}',
    '{]',
    '[}',
    '[{]}',
    '{"a":1',
    '{"a":1}}',
    '{}{}',
    '{} x',
    '[] []',
    '"a',
    '"a\\"',
    '"a\\',
    '{"a',
    '{"a":"',
    '{"a":"b}',
    '{"a"}',
    '{"a":}',
    '{"a":,}',
    '{,}',
    '{"a":1,}',
    '{"a":1 "b":2}',
    '{"a":1,,"b":2}',
    '{a:1}',
    "{'a':1}",
    '{"a"1}',
    '{"a"::1}',
    '{1:1}',
    '1 2',
    'nul l',
    ']',
    ',',
    ':',
    '{"a":1]',
    '{"\\x5fcompliance":1}',
    '{"_compliance\\u00":1}',
    '/**/{}',
    '{"a":1}//',
    '\u00a0{}',
  ])('refuses %j', (text) => {
    expect(() => scan(text)).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
  })

  it.each([
    { what: 'UTF-16', bytes: Buffer.from('{"a":1}', 'utf16le') },
    { what: 'UTF-16 with BOM', bytes: Buffer.from('\ufeff{"a":1}', 'utf16le') },
    { what: 'an overlong name', bytes: Buffer.from('7b22c19f636f6d706c69616e6365223a317d', 'hex') },
    { what: 'a lone continuation byte', bytes: Buffer.from('7b2261223a2280227d', 'hex') },
    { what: 'an encoded surrogate', bytes: Buffer.from('22eda08022', 'hex') },
    { what: 'gzip', bytes: Buffer.from('1f8b0800', 'hex') },
  ])('refuses $what', ({ bytes }) => {
    expect(() => scanStructure(bytes)).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
  })

  it.each([
    { depth: 64, maxDepth: undefined, wantRefused: false },
    { depth: 65, maxDepth: undefined, wantRefused: true },
    { depth: 10_000, maxDepth: undefined, wantRefused: true },
    { depth: 1_000_000, maxDepth: 512, wantRefused: true },
    { depth: 512, maxDepth: 512, wantRefused: false },
    { depth: 3, maxDepth: 2, wantRefused: true },
  ])('$depth deep, $maxDepth allowed: refused $wantRefused', ({ depth, maxDepth, wantRefused }) => {
    for (const text of ['['.repeat(depth) + ']'.repeat(depth), '{"a":'.repeat(depth) + '1' + '}'.repeat(depth)]) {
      if (wantRefused) expect(() => scan(text, maxDepth)).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
      else expect(scan(text, maxDepth).maxDepth).toBe(depth)
    }
  })

  it('reads a view into a larger buffer by its own bounds', () => {
    const outer = new Uint8Array(Buffer.from('xx{"\\u005fcompliance":1}yy'))
    expect(scanStructure(outer.subarray(2, -2))).toMatchObject({ complianceMembers: 1, closeBrace: 21 })
  })

  it('counts all `_compliance` members, and keeps the places of the first 16', () => {
    const found = scan(`{"a":1${',"_compliance":1'.repeat(40)}}`)
    expect(found.complianceMembers).toBe(40)
    expect(found.complianceSpans.map(({ position }) => position)).toEqual(Array.from({ length: 16 }, (_, i) => i + 1))
  })

  it('agrees with JSON.parse on whatever JSON there is', () => {
    fc.assert(
      fc.property(fc.jsonValue({ stringUnit: 'binary' }), fc.constantFrom(undefined, 1, '\t'), (value, space) => {
        const text = JSON.stringify(value, null, space)
        const found = scan(text)
        const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
        expect(found.kind).toBe(isObject ? 'object' : Array.isArray(value) ? 'array' : 'scalar')
        if (isObject) {
          expect(found.members).toBe(Object.keys(value).length)
          expect(found.closeBrace).toBe(Buffer.byteLength(text) - 1)
        }
      }),
    )
  })

  it('takes any bytes: a result or JSON_INVALID, and a result for whatever JSON.parse takes', () => {
    const soup = fc.array(
      fc.constantFrom('{', '}', '[', ']', '"', ':', ',', '\\', '1', 'a', ' ', '"a"', '\\u005f', '\n'),
      { maxLength: 24 },
    )
    fc.assert(
      fc.property(soup, (parts) => {
        const text = parts.join('')
        let parsed = true
        try {
          JSON.parse(text)
        } catch {
          parsed = false
        }
        try {
          scan(text)
        } catch (error) {
          expect(error).toMatchObject({ code: 'JSON_INVALID' })
          expect(parsed).toBe(false)
        }
      }),
      { numRuns: 2_000 },
    )
  })
})
