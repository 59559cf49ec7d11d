import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { MAX_ITEM_BYTES, readBatch, readLine } from './intake.ts'

const PRODUCER = { tenant: 'acme', producerId: 'demo/api' }
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
    const entry = readLine(bytes, 3, PRODUCER)
    expect(entry).toMatchObject({
      kind: 'event',
      line: 3,
      spoolSeq: 1,
      event: { tenant: 'acme', source: 'demo/api', actor: 'user:alice' },
    })
    expect(entry.receivedDigest).toEqual(createHash('sha256').update(bytes).digest())
  })

  test('does not add a source where there is none', () => {
    const entry = readLine(Buffer.from(item().toString().replace(',"source":"somebody-else"', '')), 1, PRODUCER)
    expect(entry.kind === 'event' && 'source' in entry.event).toBe(false)
  })

  test('ignores members of the item that it does not know', () => {
    expect(readLine(item({ from_the_future: 1 }), 1, PRODUCER).kind).toBe('event')
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
    const entry = readLine(bytes, 1, PRODUCER)
    expect(entry.kind === 'refused' ? entry.code : undefined).toBe(wantCode)
  })

  test('a refused item still says where it was, when that is well formed', () => {
    expect(readLine(item({}, { extra: 1 }), 1, PRODUCER)).toMatchObject({
      kind: 'refused',
      eventId: EVENT.event_id,
      position: { session: SESSION, spoolSeq: 1 },
    })
    expect(readLine(item({ session: 'x' }), 1, PRODUCER)).toMatchObject({ kind: 'refused', position: undefined })
  })

  test('never throws, and a refusal shows nothing of the bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json().map((text) => Buffer.from(text)),
        ),
        (bytes) => {
          const entry = readLine(Buffer.from(bytes), 1, PRODUCER)
          expect(entry.kind).toBe('refused')
        },
      ),
    )
    const entry = readLine(item({}, { actor: 7, note: 'SECRET' }), 1, PRODUCER)
    expect(entry.kind === 'refused' ? entry.detail : 'SECRET').not.toContain('SECRET')
  })
})

describe('readBatch', () => {
  test('a line an entry, empty lines are nothing', async () => {
    const body = Buffer.concat([item(), Buffer.from('\n\n'), item({ spool_seq: 2 }), Buffer.from('\nrubbish\n')])
    const entries = await readBatch(body, PRODUCER)
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
    await expect(readBatch(Buffer.from(body), PRODUCER)).rejects.toMatchObject({ code: wantCode })
  })

  test('1,000 lines are taken', async () => {
    expect(await readBatch(Buffer.from('1\n'.repeat(1_000)), PRODUCER)).toHaveLength(1_000)
  })
})
