import { describe, expect, it } from 'vitest'
import { scanStructure } from '../json/scan.ts'
import { findStamps, type StampsBeside } from './content.ts'
import { formatStampHeader } from './header.ts'
import { embedStamp } from './splice.ts'
import { stampOf } from './stamp.fixture.ts'

const payload = Buffer.from('{"a":1}')
const signed = stampOf(payload)
const { closeBrace, isEmpty } = scanStructure(payload)
const stamped = embedStamp(payload, closeBrace, isEmpty, signed.jcs)
const csv = Buffer.from('a,b\n')
const sidecar = Buffer.from(stampOf(csv).jcs)
const wholeHeader = formatStampHeader(signed.hash, signed.jcs)

describe('findStamps', () => {
  it.each<{ what: string; content: Buffer; beside: StampsBeside; wantPayload: Buffer; wantStamps: string[] }>([
    { what: 'inside', content: stamped, beside: {}, wantPayload: payload, wantStamps: [signed.jcs] },
    {
      what: 'inside, with its hash',
      content: stamped,
      beside: { header: signed.hash },
      wantPayload: payload,
      wantStamps: [signed.jcs],
    },
    {
      what: 'inside and beside',
      content: stamped,
      beside: { sidecar, header: wholeHeader },
      wantPayload: payload,
      wantStamps: [signed.jcs, sidecar.toString(), signed.jcs],
    },
    { what: 'beside', content: csv, beside: { sidecar }, wantPayload: csv, wantStamps: [sidecar.toString()] },
    {
      what: 'in the header',
      content: payload,
      beside: { header: wholeHeader },
      wantPayload: payload,
      wantStamps: [signed.jcs],
    },
    {
      what: 'beside what is no JSON',
      content: Buffer.from('{"a"'),
      beside: { sidecar },
      wantPayload: Buffer.from('{"a"'),
      wantStamps: [sidecar.toString()],
    },
  ])('$what', ({ content, beside, wantPayload, wantStamps }) => {
    const found = findStamps(content, beside)
    expect(Buffer.from(found.payload).toString()).toBe(wantPayload.toString())
    expect(found.stamps.map((stamp) => Buffer.from(stamp).toString())).toEqual(wantStamps)
  })

  it.each<{ what: string; content: string; beside: StampsBeside; wantCode: string }>([
    { what: 'none', content: '{"a":1}', beside: {}, wantCode: 'STAMP_MISSING' },
    { what: 'none in an empty content', content: '', beside: {}, wantCode: 'STAMP_MISSING' },
    { what: 'none in an array', content: '[{"_compliance":1}]', beside: {}, wantCode: 'STAMP_MISSING' },
    { what: 'none in what is no JSON', content: ' {"a":', beside: {}, wantCode: 'JSON_INVALID' },
    { what: 'a hash alone', content: '{"a":1}', beside: { header: signed.hash }, wantCode: 'STAMP_MISSING' },
    {
      what: 'another hash',
      content: stamped.toString(),
      beside: { header: `sha256:${'0'.repeat(64)}` },
      wantCode: 'STAMP_INVALID',
    },
    {
      what: 'a foreign one, even with one beside',
      content: '{"_compliance":1}',
      beside: { sidecar },
      wantCode: 'STAMP_INVALID',
    },
  ])('refuses $what', ({ content, beside, wantCode }) => {
    expect(() => findStamps(Buffer.from(content), beside)).toThrow(expect.objectContaining({ code: wantCode }))
  })
})
