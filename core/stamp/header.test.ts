import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestText } from '../crypto/digest.ts'
import { formatStampHeader, parseStampHeader } from './header.ts'

const JCS = '{"a":"ü"}'
const HASH = digestText(JCS)
const WHOLE = `${HASH}; stamp="${Buffer.from(JCS).toString('base64url')}"`

describe('the Compliance-Stamp header', () => {
  it('is the hash, and the stamp where the body cannot carry it', () => {
    expect(formatStampHeader(HASH, null)).toBe(HASH)
    expect(formatStampHeader(HASH, JCS)).toBe(WHOLE)
  })

  it.each([
    { value: HASH, want: { hash: HASH } },
    { value: `  ${HASH} `, want: { hash: HASH } },
    { value: WHOLE, want: { hash: HASH, stampBytes: Buffer.from(JCS) } },
    { value: WHOLE.replace('; ', ';'), want: { hash: HASH, stampBytes: Buffer.from(JCS) } },
    {
      value: `${HASH};v=1;x;y="a\\"b";z=?1${WHOLE.slice(HASH.length)};t=a/b`,
      want: { hash: HASH, stampBytes: Buffer.from(JCS) },
    },
  ])('reads $value', ({ value, want }) => expect(parseStampHeader(value)).toEqual(want))

  it.each([
    '',
    'sha256:',
    HASH.toUpperCase(),
    `"${HASH}"`,
    HASH.slice(0, -1),
    `${HASH}0`,
    `${HASH}, ${HASH}`,
    `${HASH};`,
    `${HASH}; stamp`,
    `${HASH}; stamp=abc`,
    `${HASH}; stamp=""`,
    `${HASH}; stamp="YQ=="`,
    `${HASH}; stamp="YQ"`,
    `${HASH}; stamp="YR"`,
    `${HASH}; stamp="Y+/Q"`,
    `${WHOLE}; stamp="YQ"`,
    `${HASH} ; stamp="YQ"`,
    `${WHOLE}x`,
    `${HASH}; Stamp="YQ"`,
    WHOLE.slice(0, -1),
  ])('refuses %j', (value) => {
    expect(() => parseStampHeader(value)).toThrow(expect.objectContaining({ code: 'STAMP_INVALID' }))
  })

  it('takes no longer for spaces than for other characters, and no more than 64 KiB', () => {
    const spaces = ' '.repeat(32 * 1024 - 40)
    const startedAt = performance.now()
    for (const value of [`${spaces}x${spaces}`, `x${spaces}${spaces}x`])
      expect(() => parseStampHeader(value)).toThrow('does not begin with')
    // Milliseconds if linear, most of a second if not.
    expect(performance.now() - startedAt).toBeLessThan(250)
    expect(parseStampHeader(`${spaces}${HASH}${spaces.slice(HASH.length)}`)).toEqual({ hash: HASH })
    expect(() => parseStampHeader(HASH.padEnd(64 * 1024 + 1))).toThrow('is longer than 65536 bytes')
  })

  it.each(['YR', 'YQ=', 'Y'])('refuses %j as another spelling of what has the hash', (spelling) => {
    expect(parseStampHeader(`${digestText('a')}; stamp="YQ"`).stampBytes?.toString()).toBe('a')
    expect(() => parseStampHeader(`${digestText('a')}; stamp="${spelling}"`)).toThrow(
      expect.objectContaining({ code: 'STAMP_INVALID' }),
    )
  })

  it('goes there and back for any stamp, and takes any text in its stride', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), (jcs) => {
        const hash = digestText(jcs)
        expect(parseStampHeader(formatStampHeader(hash, jcs))).toEqual({ hash, stampBytes: Buffer.from(jcs) })
        expect(() => parseStampHeader(jcs)).toThrow(expect.objectContaining({ code: 'STAMP_INVALID' }))
      }),
    )
  })
})
