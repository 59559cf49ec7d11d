import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize } from '../canonical/jcs.ts'
import { digestText, parseDigest, sha256 } from '../crypto/digest.ts'
import { pae } from '../crypto/pae.ts'
import { indexKeyring } from '../keyring/keyring.ts'
import { EXPECTED, KEYRING, KEYS, stampOf } from './stamp.fixture.ts'
import { readStamp, verifyStamp, type StampToVerify } from './verify.ts'

const PAYLOAD = Buffer.from('{"total":12.50,"rows":[1,2]}')
const signed = stampOf(PAYLOAD)

const verify = (jcs: string, more: Partial<StampToVerify> = {}) =>
  verifyStamp({ stampBytes: Buffer.from(jcs), payload: PAYLOAD, keyring: KEYS, expected: EXPECTED, ...more })
const failure = (code: string) => expect.objectContaining({ code }) as Error

/** A stamp with anything in it, under a true MAC: what only the holder of the key can make. */
function forge(change: (stamp: Record<string, unknown>) => void, secret: Buffer = Buffer.alloc(32, 1)): string {
  const stamp = structuredClone(signed.stamp) as unknown as Record<string, unknown>
  change(stamp)
  const integrity = { ...(stamp['integrity'] as Record<string, unknown>) }
  delete integrity['mac']
  const text = canonicalize({ ...stamp, integrity })
  const digest = parseDigest(String(integrity['payload_digest']))
  const mac = createHmac('sha256', secret)
    .update(pae('SignetV1', 'application/vnd.signet.stamp.v1+json', digest, text))
    .digest('hex')
  return canonicalize({ ...stamp, integrity: { ...integrity, mac } })
}

describe('verifyStamp', () => {
  it('takes what signStamp made', () => {
    expect(verify(signed.jcs)).toEqual({ stamp: signed.stamp, hash: signed.hash, subjectChecked: true, unchecked: [] })
    expect(verify(signed.jcs, { payload: { digest: sha256(PAYLOAD), length: PAYLOAD.length } }).hash).toBe(signed.hash)
    expect(verify(forge(() => undefined)).hash).toBe(signed.hash)
  })

  it.each([
    { expected: {}, wantUnchecked: ['tenant', 'method', 'target_digest', 'status', 'channel'] },
    {
      expected: { tenant: 'acme', media_type: 'application/json' },
      wantUnchecked: ['method', 'target_digest', 'status', 'channel'],
    },
    { expected: { ...EXPECTED, channel: undefined }, wantUnchecked: ['channel'] },
    { expected: EXPECTED, wantUnchecked: [] },
  ])('says what it did not check: $wantUnchecked', ({ expected, wantUnchecked }) => {
    const found = verify(signed.jcs, { expected })
    expect(found.unchecked).toEqual(wantUnchecked)
    expect(found.subjectChecked).toBe(wantUnchecked.length === 0)
  })

  it.each([
    { name: 'tenant', value: 'globex' },
    { name: 'method', value: 'HEAD' },
    { name: 'target_digest', value: digestText('/reports/q4') },
    { name: 'status', value: 404 },
    { name: 'channel', value: 'internal' },
    { name: 'media_type', value: 'text/csv' },
  ])('refuses another $name, and tells both', ({ name, value }) => {
    try {
      verify(signed.jcs, { expected: { ...EXPECTED, [name]: value } })
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({
        code: 'STAMP_SUBJECT_MISMATCH',
        details: {
          stamped: { [name]: signed.stamp.subject[name as keyof typeof signed.stamp.subject] },
          expected: { [name]: value },
        },
      })
    }
  })

  it.each([
    { what: 'empty', jcs: '', want: 'STAMP_INVALID' },
    { what: 'no JSON', jcs: 'stamp', want: 'STAMP_INVALID' },
    { what: 'no object', jcs: '[]', want: 'STAMP_INVALID' },
    { what: 'no stamp', jcs: '{}', want: 'STAMP_INVALID' },
    { what: 'white space behind it', jcs: `${signed.jcs}\n`, want: 'STAMP_INVALID' },
    { what: 'another order', jcs: JSON.stringify(signed.stamp), want: 'STAMP_INVALID' },
    { what: 'a name twice', jcs: `{"approval_status":"draft",${signed.jcs.slice(1)}`, want: 'STAMP_INVALID' },
    {
      what: 'an upper-case MAC',
      jcs: signed.jcs.replace(/"mac":"[^"]+"/, (mac) => `"mac":"${mac.slice(7, -1).toUpperCase()}"`),
      want: 'STAMP_INVALID',
    },
    { what: 'another version', jcs: forge((stamp) => (stamp['stamp_version'] = 'v2')), want: 'STAMP_INVALID' },
    { what: 'another algorithm', jcs: signed.jcs.replace('HMAC-SHA256', 'none'), want: 'STAMP_INVALID' },
    {
      what: 'a time that does not exist',
      jcs: forge((stamp) => (stamp['timestamp_utc'] = '2026-02-30T00:00:00.000Z')),
      want: 'STAMP_INVALID',
    },
    { what: 'an unknown key', jcs: signed.jcs.replace('reports-2026', 'nobody-2026'), want: 'STAMP_KEY_UNKNOWN' },
    { what: 'a key of another use', jcs: signed.jcs.replace('reports-2026', 'chain-2026'), want: 'STAMP_KEY_UNKNOWN' },
    {
      what: 'a key id of Object.prototype',
      jcs: signed.jcs.replace('reports-2026', 'constructor'),
      want: 'STAMP_KEY_UNKNOWN',
    },
    { what: "another key's id", jcs: signed.jcs.replace('reports-2026', 'billing-2026'), want: 'STAMP_MAC_MISMATCH' },
    {
      what: 'another MAC',
      jcs: signed.jcs.replace(/"mac":"[^"]+"/, `"mac":"${'0'.repeat(64)}"`),
      want: 'STAMP_MAC_MISMATCH',
    },
    { what: 'a lower classification', jcs: signed.jcs.replace('"internal"', '"public"'), want: 'STAMP_MAC_MISMATCH' },
    { what: 'a member put in', jcs: signed.jcs.replace('{', '{"a":1,'), want: 'STAMP_MAC_MISMATCH' },
    { what: 'another secret', jcs: forge(() => undefined, Buffer.alloc(32, 9)), want: 'STAMP_MAC_MISMATCH' },
    {
      what: "a billing key for reports' answer",
      jcs: forge(
        (stamp) => ((stamp['integrity'] as Record<string, unknown>)['key_id'] = 'billing-2026'),
        Buffer.alloc(32, 3),
      ),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'a key of another tenant',
      jcs: forge(
        (stamp) => ((stamp['integrity'] as Record<string, unknown>)['key_id'] = 'globex-2026'),
        Buffer.alloc(32, 4),
      ),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'a time before the key',
      jcs: forge((stamp) => (stamp['timestamp_utc'] = '2025-12-31T23:59:59.999Z')),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'a time past the key',
      jcs: forge((stamp) => (stamp['timestamp_utc'] = '2027-01-01T00:00:00.000Z')),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'a key revoked before',
      jcs: forge(
        (stamp) => ((stamp['integrity'] as Record<string, unknown>)['key_id'] = 'reports-revoked'),
        Buffer.alloc(32, 2),
      ),
      want: 'STAMP_KEY_INVALID',
    },
    {
      what: 'a length that is not the digest’s',
      jcs: forge((stamp) => ((stamp['integrity'] as Record<string, unknown>)['payload_length'] = 1)),
      want: 'STAMP_PAYLOAD_MISMATCH',
    },
  ])('refuses $what: $want', ({ jcs, want }) => {
    expect(() => verify(jcs)).toThrow(failure(want))
  })

  it('covers members that it does not know', () => {
    const jcs = forge((stamp) => {
      stamp['future'] = { a: [1] }
      ;(stamp['subject'] as Record<string, unknown>)['region'] = 'eu'
      ;(stamp['integrity'] as Record<string, unknown>)['extra'] = true
    })
    expect(verify(jcs).stamp).toMatchObject({ future: { a: [1] } })
    for (const changed of [jcs.replace('[1]', '[2]'), jcs.replace('"eu"', '"us"'), jcs.replace('true', 'false')]) {
      expect(changed).not.toBe(jcs)
      expect(() => verify(changed)).toThrow(failure('STAMP_MAC_MISMATCH'))
    }
  })

  it('catches any flipped bit of the payload and of the stamp', () => {
    const flip = (bytes: Buffer, bit: number): Buffer => {
      const flipped = Buffer.from(bytes)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      return flipped
    }
    for (let bit = 0; bit < PAYLOAD.length * 8; bit++) {
      expect(() => verify(signed.jcs, { payload: flip(PAYLOAD, bit) })).toThrow(failure('STAMP_PAYLOAD_MISMATCH'))
    }
    const stampBytes = Buffer.from(signed.jcs)
    fc.assert(
      fc.property(fc.nat(stampBytes.length * 8 - 1), (bit) => {
        expect(() => verify('', { stampBytes: flip(stampBytes, bit) })).toThrow(/.*/)
        try {
          verify('', { stampBytes: flip(stampBytes, bit) })
        } catch (error) {
          expect(error).toMatchObject({
            code: expect.stringMatching(/^STAMP_(INVALID|KEY_UNKNOWN|MAC_MISMATCH)$/) as string,
          })
        }
      }),
      { numRuns: 500 },
    )
  })

  it.each([
    { what: 'truncated', payload: PAYLOAD.subarray(0, -1) },
    { what: 'empty', payload: Buffer.alloc(0) },
    { what: 'with white space behind it', payload: Buffer.concat([PAYLOAD, Buffer.from('\n')]) },
    { what: 'of another digest', payload: { digest: sha256('x'), length: PAYLOAD.length } },
    { what: 'of another length', payload: { digest: sha256(PAYLOAD), length: PAYLOAD.length + 1 } },
  ])('refuses a payload that is $what, and tells both digests', ({ payload }) => {
    try {
      verify(signed.jcs, { payload })
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({
        code: 'STAMP_PAYLOAD_MISMATCH',
        details: {
          stamped: { payload_digest: digestText(PAYLOAD) },
          found: { payload_digest: expect.stringMatching(/^sha256:/) as string },
        },
      })
    }
  })

  it('of the canonical form survives another way to write the same, and nothing else', () => {
    const { jcs } = stampOf(PAYLOAD, { canonicalization: 'jcs' })
    for (const same of [
      '{"rows":[1,2],"total":12.5}',
      '{ "total": 1.25e1,\n "\\u0072ows": [1, 2] }',
      PAYLOAD.toString(),
    ]) {
      expect(() => verify(jcs, { payload: Buffer.from(same) })).not.toThrow()
    }
    for (const other of [
      '{"rows":[2,1],"total":12.5}',
      '{"rows":[1,2],"total":12.5,"total":12.5}',
      '{"rows":[1,2],"total":12.50000000000000001}',
      '',
      '{',
      'a,b',
    ]) {
      expect(() => verify(jcs, { payload: Buffer.from(other) })).toThrow(failure('STAMP_PAYLOAD_MISMATCH'))
    }
  })

  it('refuses all of a keyring without the key', () => {
    expect(() => verify(signed.jcs, { keyring: indexKeyring({ ...KEYRING, keys: [] }) })).toThrow(
      failure('STAMP_KEY_UNKNOWN'),
    )
  })
})

describe('readStamp', () => {
  it('names the place of what is not of the schema', () => {
    expect(() => readStamp(Buffer.from(signed.jcs.replace('"status":200', '"status":99')))).toThrow(
      expect.objectContaining({
        code: 'STAMP_INVALID',
        details: expect.objectContaining({ path: '/subject/status' }) as object,
      }),
    )
  })
  it('does not parse what is too large', () => {
    expect(() => readStamp(Buffer.alloc(1024 * 1024 + 1, '['))).toThrow(
      expect.objectContaining({ code: 'STAMP_INVALID', message: expect.stringContaining('bytes at most') as string }),
    )
  })
})
