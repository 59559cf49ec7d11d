import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { digestText } from '#core/crypto/digest.ts'
import { formatDerivedKeyId } from '#core/keyring/derived.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import type { Stamp } from '#core/stamp/schema.ts'
import { signStamp, type SignedStamp } from '#core/stamp/sign.ts'
import { CLAIMS } from '#core/stamp/stamp.fixture.ts'
import { MAX_ITEM_BYTES, readBatch, readLine, readLogItem } from './intake.ts'

const PRODUCER = { tenant: 'acme', producerId: 'demo/api' }
const NO_KEYS = { stampKey: () => undefined }
const SESSION = '00000000-0000-7000-8000-000000000001'
const EVENT = {
  event_id: '00000000-0000-7000-8000-0000000000aa',
  event_type: 'egress.decided',
  timestamp_utc: '2026-11-23T09:30:00.123Z',
  trace_id: '0af7651916cd43dd8448eb211c80319c',
  request_id: 'r-1',
  actor: 'user:alice',
  tenant: 'somebody-else',
  stage: 'publish',
  action: 'GET',
  resource: '/a',
  before: null,
  after: { n: 1 },
  outcome: 'allowed',
  latency_ms: 1,
  stamp_hash: null,
  source: 'somebody-else',
}
const item = (change: object = {}, event: object = {}): Buffer =>
  Buffer.from(canonicalize({ session: SESSION, spool_seq: 1, ...change, event: { ...EVENT, ...event } }))

describe('readLine', () => {
  test('takes tenant and source from the identity, and the digest from the exact bytes', () => {
    const bytes = item()
    const entry = readLine(bytes, 3, PRODUCER, NO_KEYS)
    expect(entry).toMatchObject({
      kind: 'event',
      line: 3,
      spoolSeq: 1,
      event: { tenant: 'acme', source: 'demo/api', actor: 'user:alice' },
    })
    expect(entry.receivedDigest).toEqual(createHash('sha256').update(bytes).digest())
  })

  test('does not add a source where there is none', () => {
    const entry = readLine(
      Buffer.from(item().toString().replace(',"source":"somebody-else"', '')),
      1,
      PRODUCER,
      NO_KEYS,
    )
    expect(entry.kind === 'event' && 'source' in entry.event).toBe(false)
  })

  test('ignores members of the item that it does not know', () => {
    expect(readLine(item({ from_the_future: 1 }), 1, PRODUCER, NO_KEYS).kind).toBe('event')
  })

  test.each([
    { name: 'empty object', bytes: Buffer.from('{}'), wantCode: 'AUDIT_EVENT_INVALID' },
    { name: 'invalid UTF-8', bytes: Buffer.from([0x22, 0xff, 0x22]), wantCode: 'JSON_INVALID' },
    { name: 'trailing bytes', bytes: Buffer.concat([item(), Buffer.from('{}')]), wantCode: 'JSON_INVALID' },
    { name: 'carriage return is white space', bytes: Buffer.concat([item(), Buffer.from('\r')]), wantCode: undefined },
    { name: 'spool_seq 0', bytes: item({ spool_seq: 0 }), wantCode: 'AUDIT_EVENT_INVALID' },
    { name: 'spool_seq 1.5', bytes: item({ spool_seq: 1.5 }), wantCode: 'AUDIT_EVENT_INVALID' },
    { name: 'trace id of zeros', bytes: item({}, { trace_id: '0'.repeat(32) }), wantCode: 'AUDIT_EVENT_INVALID' },
    { name: 'negative latency', bytes: item({}, { latency_ms: -1 }), wantCode: 'AUDIT_EVENT_INVALID' },
    { name: 'a reserved type', bytes: item({}, { event_type: 'audit.refused' }), wantCode: 'EVENT_TYPE_RESERVED' },
    {
      name: 'a type that looks like one',
      bytes: item({}, { event_type: ' Audit.Purge' }),
      wantCode: 'EVENT_TYPE_RESERVED',
    },
    { name: 'a correction', bytes: item({}, { event_type: 'audit.correction' }), wantCode: undefined },
    {
      name: 'too long',
      bytes: item({}, { context: { x: 'x'.repeat(MAX_ITEM_BYTES) } }),
      wantCode: 'PAYLOAD_TOO_LARGE',
    },
  ])('$name → $wantCode', ({ bytes, wantCode }) => {
    const entry = readLine(bytes, 1, PRODUCER, NO_KEYS)
    expect(entry.kind === 'refused' ? entry.code : undefined).toBe(wantCode)
  })

  test('a refused item still says where it was, when that is well formed', () => {
    expect(readLine(item({}, { extra: 1 }), 1, PRODUCER, NO_KEYS)).toMatchObject({
      kind: 'refused',
      eventId: EVENT.event_id,
      position: { session: SESSION, spoolSeq: 1 },
    })
    expect(readLine(item({ session: 'x' }), 1, PRODUCER, NO_KEYS)).toMatchObject({
      kind: 'refused',
      position: undefined,
    })
  })

  test('never throws, and a refusal shows nothing of the bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          const entry = readLine(Buffer.from(bytes), 1, PRODUCER, NO_KEYS)
          expect(entry.kind).toBe('refused')
        },
      ),
    )
    const entry = readLine(item({}, { actor: 7, note: 'SECRET' }), 1, PRODUCER, NO_KEYS)
    expect(entry.kind === 'refused' ? entry.detail : 'SECRET').not.toContain('SECRET')
  })
})

describe('readBatch', () => {
  test('a line an entry, empty lines are nothing', async () => {
    const body = Buffer.concat([item(), Buffer.from('\n\n'), item({ spool_seq: 2 }), Buffer.from('\nrubbish\n')])
    const entries = await readBatch(body, PRODUCER, NO_KEYS)
    expect(entries.map((entry) => [entry.kind, entry.line])).toEqual([
      ['event', 1],
      ['event', 2],
      ['refused', 3],
    ])
  })

  test.each([
    { name: 'empty', body: '', wantCode: 'REQUEST_INVALID' },
    { name: 'line feeds', body: '\n\n', wantCode: 'REQUEST_INVALID' },
    { name: '1,001 lines', body: '1\n'.repeat(1_001), wantCode: 'PAYLOAD_TOO_LARGE' },
  ])('$name → $wantCode', async ({ body, wantCode }) => {
    await expect(readBatch(Buffer.from(body), PRODUCER, NO_KEYS)).rejects.toMatchObject({ code: wantCode })
  })

  test('1,000 lines are taken', async () => {
    expect(await readBatch(Buffer.from('1\n'.repeat(1_000)), PRODUCER, NO_KEYS)).toHaveLength(1_000)
  })
})

describe('stamps of keys that the ledger hands out', () => {
  const root = {
    use: 'stamp-root',
    alg: 'HKDF-SHA256',
    key_id: 'root-1',
    secret: Buffer.alloc(32, 3).toString('base64url'),
    not_before: '2026-01-01T00:00:00.000Z',
    not_after: '2027-01-01T00:00:00.000Z',
  } as const
  const keys = indexKeyring({ version: 1, keys: [root] })
  const keyFor = (producerId: string, rootKeyId = 'root-1') =>
    formatDerivedKeyId({ rootKeyId, day: '20261123', tenant: 'acme', producerId })

  function line(keyId: string, signWith: string, change: (stamp: SignedStamp) => string = ({ jcs }) => jcs): Buffer {
    const key = keys.stampKey(signWith)
    if (key === undefined) throw new Error('no key')
    const claims = {
      ...CLAIMS,
      timestamp_utc: EVENT.timestamp_utc,
      data_lineage: {
        ...CLAIMS.data_lineage,
        producer_id: key.producerId,
        request_id: 'r-1',
        trace_id: EVENT.trace_id,
      },
      subject: { ...CLAIMS.subject, tenant: 'acme' },
    }
    const digest = Buffer.alloc(32, 1)
    const signed = signStamp({
      claims,
      canonicalization: 'bytes',
      payloadDigest: digest,
      payloadLength: 1,
      key: { ...key, keyId },
    })
    const stamp = JSON.parse(change(signed)) as Stamp
    return item({ stamp }, { stamp_hash: digestText(canonicalize(stamp)) })
  }

  test.each([
    { name: 'made with it', bytes: line(keyFor('demo/api'), keyFor('demo/api')), wantCode: undefined },
    {
      name: "made with another producer's",
      bytes: line(keyFor('demo/api'), keyFor('demo/other'), ({ jcs }) =>
        jcs.replace('"producer_id":"demo/other"', '"producer_id":"demo/api"'),
      ),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: "of another producer's key, in our name",
      bytes: line(keyFor('demo/other'), keyFor('demo/other'), ({ jcs }) =>
        jcs.replace('"producer_id":"demo/other"', '"producer_id":"demo/api"'),
      ),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: 'changed afterwards',
      bytes: line(keyFor('demo/api'), keyFor('demo/api'), ({ jcs }) => jcs.replace('"status":200', '"status":201')),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: 'of a root that is not known here',
      bytes: line(keyFor('demo/api', 'root-9'), keyFor('demo/api')),
      wantCode: undefined,
    },
    { name: 'of a key that is none of ours', bytes: line('file-key-1', keyFor('demo/api')), wantCode: undefined },
  ])('$name', ({ bytes, wantCode }) => {
    const entry = readLine(bytes, 1, PRODUCER, keys)
    expect(entry.kind === 'refused' ? entry.code : undefined).toBe(wantCode)
  })

  test('the event that comes by itself is held to the same', () => {
    const { session: _, spool_seq: __, ...rest } = JSON.parse(item().toString()) as Record<string, unknown>
    for (const body of [rest, rest['event']])
      expect(readLogItem(Buffer.from(JSON.stringify(body)), PRODUCER, keys)).toMatchObject({
        kind: 'log',
        event: { event_id: EVENT.event_id, tenant: 'acme', source: 'demo/api' },
      })
    for (const bad of [
      '{}',
      '[]',
      '{"event":{}}',
      JSON.stringify({ ...EVENT, more: 1 }),
      JSON.stringify({ event: { ...EVENT, event_type: 'identity.issued' } }),
    ])
      expect(readLogItem(Buffer.from(bad), PRODUCER, keys)).toMatchObject({ kind: 'refused', position: undefined })
  })
})
