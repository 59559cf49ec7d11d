import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { KEYRING } from '#core/stamp/stamp.fixture.ts'
import { attachStamp, stampSigner, type StampContext } from './attach-stamp.ts'
import { keyringAuthority } from './authority.ts'
import { verifyStamp } from './verify-stamp.ts'

const RING = JSON.stringify(KEYRING)
const now = () => new Date('2026-11-23T09:30:00.123Z')
const sign = stampSigner(RING, { tenant: 'acme', producerId: 'reports/ledger-api', now })
const CONTEXT: StampContext = {
  classification: 'internal',
  target: '/exports/q3',
  mediaType: 'application/json',
  channel: 'internal',
  policyRevision: 'job-7',
}
const EXPECTED = {
  tenant: 'acme',
  channel: 'internal',
  method: 'GET',
  target: '/exports/q3',
  status: 200,
  producerId: 'reports/ledger-api',
} as const
const authority = keyringAuthority(RING)

describe('attachStamp', () => {
  test.each([
    { name: 'an object', payload: '{"a":1.50}\n', mediaType: 'application/json', wantEmbedded: true },
    { name: 'an empty object', payload: ' {} ', mediaType: 'application/vnd.x+json', wantEmbedded: true },
    { name: 'an array', payload: '[1]', mediaType: 'application/json', wantEmbedded: false },
    { name: 'an object that is called text', payload: '{"a":1}', mediaType: 'text/plain', wantEmbedded: false },
    { name: 'CSV', payload: 'a,b\n', mediaType: 'text/csv', wantEmbedded: false },
    { name: 'nothing', payload: '', mediaType: '', wantEmbedded: false },
  ])('$name verifies, and gives its payload back', async ({ payload, mediaType, wantEmbedded }) => {
    const { content, header, embedded, jcs } = attachStamp(Buffer.from(payload), { ...CONTEXT, mediaType }, sign)
    expect(embedded).toBe(wantEmbedded)
    for (const beside of [{ header }, { sidecar: Buffer.from(jcs) }]) {
      const verified = await verifyStamp({ content, ...beside }, { ...EXPECTED, mediaType }, authority)
      expect(Buffer.from(verified.payload).toString()).toBe(payload)
      expect(verified.stamp).toMatchObject({ approval_status: 'draft', regulatory_compliance: ['NONE'] })
    }
  })

  test('any object comes back', async () => {
    await fc.assert(
      fc.asyncProperty(fc.dictionary(fc.string(), fc.jsonValue()), async (value) => {
        fc.pre(!Object.hasOwn(value, '_compliance'))
        const payload = JSON.stringify(value, null, 1)
        const { content } = attachStamp(Buffer.from(payload), CONTEXT, sign)
        const verified = await verifyStamp({ content }, EXPECTED, authority)
        expect(Buffer.from(verified.payload).toString()).toBe(payload)
      }),
      { numRuns: 50 },
    )
  })

  test('jcs survives re-serialising', async () => {
    const { content } = attachStamp(Buffer.from('{"b": 1, "a": 2}'), { ...CONTEXT, canonicalization: 'jcs' }, sign)
    const { _compliance, ...payload } = JSON.parse(String(content)) as Record<string, unknown>
    const again = Buffer.from(JSON.stringify({ a: payload['a'], b: payload['b'], _compliance }))
    expect((await verifyStamp({ content: again }, EXPECTED, authority)).subjectChecked).toBe(true)
  })

  test.each<{ name: string; payload?: string; context?: Partial<StampContext>; signer?: typeof sign; want: string }>([
    { name: 'a stamp in it already', payload: '{"\\u005fcompliance":{}}', want: 'STAMP_INVALID' },
    { name: 'no JSON under a JSON type', payload: '{"a":', want: 'JSON_INVALID' },
    {
      name: 'a number that does not round-trip, by jcs',
      payload: '{"a":1e400}',
      context: { canonicalization: 'jcs' },
      want: 'CANONICAL_VALUE_INVALID',
    },
    { name: 'no classification of ours', context: { classification: 'secret' as never }, want: 'STAMP_INVALID' },
    { name: 'a regulation that is none', context: { regulations: ['gdpr'] }, want: 'STAMP_INVALID' },
    {
      name: 'another tenant',
      signer: stampSigner(RING, { tenant: 'initech', producerId: 'reports/ledger-api', now }),
      want: 'STAMP_KEY_INVALID',
    },
    {
      name: 'a time before all keys',
      signer: stampSigner(RING, { tenant: 'acme', producerId: 'reports/ledger-api', now: () => new Date(0) }),
      want: 'STAMP_KEY_INVALID',
    },
  ])('refuses $name', ({ payload = '{}', context = {}, signer = sign, want }) => {
    expect(() => attachStamp(Buffer.from(payload), { ...CONTEXT, ...context }, signer)).toThrow(
      expect.objectContaining({ code: want }),
    )
  })
})
