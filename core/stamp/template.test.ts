import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { digestText } from '../crypto/digest.ts'
import { CANONICALIZATIONS, CLASSIFICATIONS } from './schema.ts'
import { signStamp } from './sign.ts'
import { CLAIMS, KEYS } from './stamp.fixture.ts'
import { StampTemplate, type StampValues } from './template.ts'

const key = KEYS.stampKey('reports-2026')!
const HEX = Array.from({ length: 16 }, (_, digit) => digit.toString(16))
const hex = (length: number) => fc.string({ unit: fc.constantFrom(...HEX), minLength: length, maxLength: length })
const values: fc.Arbitrary<StampValues> = fc.record({
  requestId: fc.uuid(),
  traceId: hex(32).filter((id) => !/^0+$/.test(id)),
  decisionId: fc.uuid(),
  targetDigest: hex(64).map((digits) => `sha256:${digits}`),
  timestamp: fc
    .date({ min: new Date('2026-01-01T00:00:00.000Z'), max: new Date('2026-12-31T23:59:59.999Z'), noInvalidDate: true })
    .map((date) => date.toISOString()),
  payloadHex: hex(64),
  payloadLength: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
})
const text = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' }).filter((each) => each.isWellFormed())

it('signs byte for byte what signStamp signs', () => {
  fc.assert(
    fc.property(
      fc.array(values, { minLength: 1, maxLength: 4 }),
      fc.record({
        revision: text,
        mediaType: text,
        asset: fc.array(text, { maxLength: 2 }),
        classification: fc.constantFrom(...CLASSIFICATIONS),
        canonicalization: fc.constantFrom(...CANONICALIZATIONS),
        model: fc.option(text, { nil: undefined }),
      }),
      (several, { revision, mediaType, asset, classification, canonicalization, model }) => {
        const claims = {
          ...CLAIMS,
          data_classification: classification,
          data_lineage: {
            ...CLAIMS.data_lineage,
            source_assets: asset,
            ...(model === undefined ? {} : { model_version: model }),
          },
          subject: { ...CLAIMS.subject, media_type: mediaType },
          policy: { ...CLAIMS.policy, bundle_revision: revision },
        }
        const template = new StampTemplate(claims, canonicalization, key)
        for (const each of several) {
          const want = signStamp({
            claims: {
              ...claims,
              data_lineage: { ...claims.data_lineage, request_id: each.requestId, trace_id: each.traceId },
              policy: { ...claims.policy, decision_id: each.decisionId },
              subject: { ...claims.subject, target_digest: each.targetDigest },
              timestamp_utc: each.timestamp,
            },
            canonicalization,
            payloadDigest: Buffer.from(each.payloadHex, 'hex'),
            payloadLength: each.payloadLength,
            key,
          })
          const { bytes, hash } = template.sign(each)
          expect(bytes.toString()).toBe(want.jcs)
          expect(hash).toBe(want.hash)
          expect(hash).toBe(digestText(bytes))
        }
      },
    ),
  )
})

const VALUES: StampValues = {
  requestId: CLAIMS.data_lineage.request_id,
  traceId: CLAIMS.data_lineage.trace_id,
  decisionId: '01890a5d-ac96-774b-bcce-b302099a8058',
  targetDigest: CLAIMS.subject.target_digest,
  timestamp: CLAIMS.timestamp_utc,
  payloadHex: 'ab'.repeat(32),
  payloadLength: 7,
}

describe('what nobody would accept is not signed', () => {
  const cases = [
    {
      name: 'a request id that would have to be escaped',
      change: { requestId: '"'.repeat(36) },
      wantCode: 'STAMP_INVALID',
    },
    { name: 'a trace id that is too short', change: { traceId: 'ab' }, wantCode: 'STAMP_INVALID' },
    { name: 'a time after the key', change: { timestamp: '2027-01-01T00:00:00.000Z' }, wantCode: 'STAMP_KEY_INVALID' },
  ]
  it.each(cases)('$name', ({ change, wantCode }) => {
    const template = new StampTemplate(CLAIMS, 'bytes', key)
    expect(() => template.sign({ ...VALUES, ...change })).toThrow(expect.objectContaining({ code: wantCode }))
  })

  it('claims of another tenant', () => {
    const claims = { ...CLAIMS, subject: { ...CLAIMS.subject, tenant: 'globex' } }
    expect(() => new StampTemplate(claims, 'bytes', key)).toThrow(
      expect.objectContaining({ code: 'STAMP_KEY_INVALID' }),
    )
  })

  it('claims that read like a mark', () => {
    const claims = {
      ...CLAIMS,
      data_lineage: { ...CLAIMS.data_lineage, transformations: ['c0ffee000000000000000000000000a2'] },
    }
    expect(() => new StampTemplate(claims, 'bytes', key)).toThrow(
      expect.objectContaining({ code: 'CANONICAL_VALUE_INVALID' }),
    )
  })
})
