import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize } from '../canonical/jcs.ts'
import { scanStructure } from '../json/scan.ts'
import { embedStamp, extractStamp, stripComplianceMembers } from './splice.ts'

const STAMP = canonicalize({ b: 'ü€', a: { c: 1 } })
const embed = (payload: string, stamp = STAMP): Buffer => {
  const bytes = Buffer.from(payload)
  const { closeBrace, isEmpty } = scanStructure(bytes)
  return embedStamp(bytes, closeBrace, isEmpty, stamp)
}
const PAYLOADS = [
  '{}',
  '{ }',
  ' {\n}\n',
  '{"a":1}',
  '{"a":1 }\r\n',
  '{"a":{"_compliance":{}},"b":[{"_compliance":1}]}',
  '{"b":"}","c":"\\"}"}',
  '{"ü":"€"}  ',
]

describe('embedStamp', () => {
  it.each([
    { payload: '{}', want: `{"_compliance":${STAMP}}` },
    { payload: '{ }', want: `{ "_compliance":${STAMP}}` },
    { payload: '{"a":1}', want: `{"a":1,"_compliance":${STAMP}}` },
    { payload: '{"a":1\n}\n', want: `{"a":1\n,"_compliance":${STAMP}}\n` },
  ])('puts it at the end of $payload', ({ payload, want }) => expect(embed(payload).toString()).toBe(want))
})

describe('extractStamp', () => {
  it.each(PAYLOADS)('gives back %j, byte for byte', (payload) => {
    const found = extractStamp(embed(payload))
    expect(found?.payload.toString()).toBe(payload)
    expect(found?.stampBytes.toString()).toBe(STAMP)
  })

  it.each(['{"a":1}', '{}', '[{"_compliance":{}}]', '"_compliance"', '{"a":{"_compliance":{}}}'])(
    'finds none in %s',
    (text) => {
      expect(extractStamp(Buffer.from(text))).toBeNull()
    },
  )

  it.each([
    { what: 'twice', text: '{"_compliance":{},"_compliance":{}}' },
    { what: 'twice, once escaped', text: '{"\\u005fcompliance":{},"_compliance":{}}' },
    { what: 'escaped', text: '{"a":1,"\\u005fcompliance":{}}' },
    { what: 'not last', text: '{"_compliance":{},"a":1}' },
    { what: 'white space before the name', text: '{"a":1, "_compliance":{}}' },
    { what: 'white space before the colon', text: '{"a":1,"_compliance" :{}}' },
    { what: 'white space behind the colon', text: '{"a":1,"_compliance": {}}' },
    { what: 'white space behind the value', text: '{"a":1,"_compliance":{} }' },
    { what: 'a string', text: '{"a":1,"_compliance":"{}"}' },
    { what: 'null', text: '{"_compliance":null}' },
    { what: 'white space within', text: '{"_compliance":{"a": 1}}' },
    { what: 'names out of order', text: '{"_compliance":{"b":1,"a":1}}' },
    { what: 'a needless escape', text: '{"_compliance":{"a":"\\u0061"}}' },
    { what: 'a number in another form', text: '{"_compliance":{"a":1.0}}' },
    { what: 'a name twice within', text: '{"_compliance":{"a":1,"a":1}}' },
    { what: 'no JSON within', text: '{"_compliance":{"a" 1}}' },
    { what: 'a lone surrogate within', text: '{"_compliance":{"a":"\\ud800"}}' },
  ])('refuses $what', ({ text }) => {
    expect(() => extractStamp(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'STAMP_INVALID' }))
  })

  it('says that it is there more than once', () => {
    expect(() => extractStamp(Buffer.from('{"_compliance":{},"\\u005fcompliance":{}}'))).toThrow(/more than once/)
  })

  it.each(['', '{', '{"_compliance":{}', '{"_compliance":{}}}', '\ufeff{}'])('refuses %j as no JSON', (text) => {
    expect(() => extractStamp(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
  })

  it('undoes embedStamp for any object', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()),
        fc.constantFrom(undefined, 2, '\t'),
        fc.constantFrom('', ' ', '\n'),
        (object, space, around) => {
          delete object['_compliance']
          const payload = around + JSON.stringify(object, null, space) + around
          const stamped = embed(payload)
          expect(extractStamp(stamped)?.payload.toString()).toBe(payload)
          expect(stripComplianceMembers(stamped).toString()).toBe(payload)
          expect(JSON.parse(stamped.toString())).toEqual({
            ...(JSON.parse(payload) as object),
            _compliance: JSON.parse(STAMP) as unknown,
          })
        },
      ),
    )
  })
})

describe('stripComplianceMembers', () => {
  it.each([
    { text: '{"a":1}', want: '{"a":1}' },
    { text: '[1]', want: '[1]' },
    { text: '{"_compliance":1}', want: '{}' },
    { text: '{ "_compliance" : 1 }', want: '{  }' },
    { text: '{"_compliance":1,"a":2}', want: '{"a":2}' },
    { text: '{ "_compliance":1 , "a":2}', want: '{  "a":2}' },
    { text: '{"a":2,"_compliance":1}', want: '{"a":2}' },
    { text: '{"a":2 , "_compliance":1 }', want: '{"a":2  }' },
    { text: '{"a":1,"_compliance":{"x":","},"b":2}', want: '{"a":1,"b":2}' },
    { text: '{"_compliance":1,"\\u005fcompliance":2}', want: '{}' },
    {
      text: '{"_compliance":1,"\\u005fcompliance":2,"a":3,"_compliance":4,"_compliance":5,"b":6,"_compliance":7}',
      want: '{"a":3,"b":6}',
    },
    { text: '{"a":{"_compliance":1}}', want: '{"a":{"_compliance":1}}' },
  ])('makes $text $want', ({ text, want }) => expect(stripComplianceMembers(Buffer.from(text)).toString()).toBe(want))

  it('keeps valid JSON valid, and every other member', () => {
    const name = fc.constantFrom('_compliance', '\\u005fcompliance', 'a', 'b', 'c')
    const gap = fc.constantFrom('', ' ', '\n')
    fc.assert(
      fc.property(
        fc.array(fc.tuple(name, fc.constantFrom('1', '{"x":[","]}', '"}"')), { maxLength: 8 }),
        gap,
        gap,
        (members, before, behind) => {
          const write = (list: typeof members) =>
            `{${list.map(([n, v]) => `${before}"${n}"${behind}:${before}${v}${behind}`).join(',')}}`
          const stripped = stripComplianceMembers(Buffer.from(write(members))).toString()
          const kept = members.filter(([n]) => !n.endsWith('compliance'))
          expect(JSON.parse(stripped)).toEqual(JSON.parse(write(kept)))
          expect(stripped.replace(/\s/g, '')).toBe(write(kept).replace(/\s/g, ''))
        },
      ),
    )
  })

  it('takes out 16 at most, and says so of more', () => {
    const of = (count: number): Buffer => Buffer.from(`{${'"_compliance":1,'.repeat(count)}"a":1}`)
    expect(stripComplianceMembers(of(16)).toString()).toBe('{"a":1}')
    expect(() => stripComplianceMembers(of(17))).toThrow(
      expect.objectContaining({
        code: 'STAMP_INVALID',
        message: expect.stringContaining('is there 17 times') as unknown,
      }),
    )
    expect(() => stripComplianceMembers(of(65_536))).toThrow(expect.objectContaining({ code: 'STAMP_INVALID' }))
  })

  it.each(['{"_compliance":1', '{"_compliance":1,}'])('refuses %s', (text) => {
    expect(() => stripComplianceMembers(Buffer.from(text))).toThrow(expect.objectContaining({ code: 'JSON_INVALID' }))
  })
})
