import { describe, expect, it } from 'vitest'
import { digestText, formatDigest } from '../crypto/digest.ts'
import { bytesPayload, digestPayload, jcsPayload } from './payload.ts'

describe('payload digests', () => {
  it('are of the exact bytes, or of the canonical form', () => {
    const payload = Buffer.from('{ "b": 1.0, "a": "\\u00fc" }')
    const bytes = bytesPayload(payload)
    expect([formatDigest(bytes.digest), bytes.length]).toEqual([digestText(payload), payload.length])
    const jcs = jcsPayload(payload)
    expect([formatDigest(jcs.digest), jcs.length]).toEqual([digestText('{"a":"ü","b":1}'), 16])
    expect(digestPayload(payload, 'bytes')).toEqual(bytes)
    expect(digestPayload(payload, 'jcs')).toEqual(jcs)
  })

  it.each([
    { text: '{"a":1e400}', wantCode: 'CANONICAL_VALUE_INVALID' },
    { text: '{"a":9007199254740993}', wantCode: 'CANONICAL_VALUE_INVALID' },
    { text: '{"a":"\\ud800"}', wantCode: 'CANONICAL_VALUE_INVALID' },
    { text: '{"a":1,"a":1}', wantCode: 'JSON_INVALID' },
    { text: 'a,b\n1,2\n', wantCode: 'JSON_INVALID' },
    { text: '\ufeff{}', wantCode: 'JSON_INVALID' },
  ])('in canonical form refuse $text', ({ text, wantCode }) => {
    expect(() => jcsPayload(Buffer.from(text))).toThrow(expect.objectContaining({ code: wantCode }))
  })
})
