import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { MAX_BATCH_BYTES } from '#core/audit/wire.ts'
import { startLedgerStack, type LedgerStack } from '#test/support/ledger.ts'
import { buildEvent, buildLines, buildStamp, createClient, lineOf, stampHashOf } from '#test/support/producer.ts'
import { rawRequest } from '#test/support/raw-request.ts'

let stack: LedgerStack
const client = (name: string) => createClient(stack.ledgers[0]?.url ?? '', stack.token(name))

beforeAll(async () => {
  stack = await startLedgerStack()
})
afterAll(() => stack.stop())

describe('items that are refused', () => {
  const event = buildEvent()
  const session = randomUUID()
  const at = (spoolSeq: number, value: object): string => canonicalize({ session, spool_seq: spoolSeq, ...value })
  const stamp = buildStamp({ tenant: 'acme', producerId: 'demo/api', event })
  const stamped = (change: object = {}): object => ({
    event: { ...event, stamp_hash: stampHashOf(stamp) },
    stamp: { ...stamp, ...change },
  })
  const cases = [
    { name: 'not JSON', line: '{"session":', wantCode: 'JSON_INVALID' },
    { name: 'a byte order mark', line: '\ufeff{}', wantCode: 'JSON_INVALID' },
    { name: 'a duplicate name', line: '{"a":1,"a":2}', wantCode: 'JSON_INVALID' },
    { name: 'nesting of 10,000', line: '['.repeat(10_000) + ']'.repeat(10_000), wantCode: 'JSON_INVALID' },
    { name: 'not an object', line: '17', wantCode: 'AUDIT_EVENT_INVALID' },
    {
      name: 'an unknown member of the event',
      line: at(1, { event: { ...event, extra: 1 } }),
      wantCode: 'AUDIT_EVENT_INVALID',
    },
    {
      name: 'a time that no calendar has',
      line: at(2, { event: { ...event, timestamp_utc: '2026-02-30T00:00:00.000Z' } }),
      wantCode: 'AUDIT_EVENT_INVALID',
    },
    {
      name: 'year 0',
      line: at(3, { event: { ...event, timestamp_utc: '0000-01-01T00:00:00.000Z' } }),
      wantCode: 'AUDIT_EVENT_INVALID',
    },
    {
      name: 'a lone surrogate',
      line: at(4, { event }).replace('user:alice', 'user:\\ud800'),
      wantCode: 'CANONICAL_VALUE_INVALID',
    },
    {
      name: "the ledger's own event type",
      line: at(5, { event: { ...event, event_type: 'audit.gap' } }),
      wantCode: 'EVENT_TYPE_RESERVED',
    },
    {
      name: 'a stamp with another hash',
      line: at(6, { event: { ...event, stamp_hash: null }, stamp }),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: 'a stamp of another tenant',
      line: at(7, stamped({ subject: { ...stamp.subject, tenant: 'globex' } })),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: 'a stamp that is none',
      line: at(8, { event, stamp: { stamp_version: 'v1' } }),
      wantCode: 'AUDIT_EVENT_INVALID',
    },
    {
      name: 'a stamp of another producer',
      line: at(9, {
        event: { ...event, stamp_hash: stampHashOf(buildStamp({ tenant: 'acme', producerId: 'demo/second', event })) },
        stamp: buildStamp({ tenant: 'acme', producerId: 'demo/second', event }),
      }),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
    {
      name: 'a stamp of another request',
      line: at(10, {
        event: {
          ...event,
          stamp_hash: stampHashOf(buildStamp({ tenant: 'acme', producerId: 'demo/api', event: buildEvent() })),
        },
        stamp: buildStamp({ tenant: 'acme', producerId: 'demo/api', event: buildEvent() }),
      }),
      wantCode: 'EVENT_STAMP_MISMATCH',
    },
  ]

  test.each(cases)('$name: $wantCode, and the others of its batch are recorded', async ({ line, wantCode }) => {
    const proxy = client('proxy')
    const good = buildLines(randomUUID(), 1, 1)
    const ack = await proxy.append([line, ...good])
    expect(ack.refused).toMatchObject([{ line: 1, code: wantCode }])
    expect(ack.acks).toHaveLength(1)
    // Nothing disappears: the refusal is in the chain, by digest, once however often the item comes.
    const again = await proxy.append([line, ...good])
    expect(again.checkpoint).toMatchObject({ seq: ack.checkpoint.seq, hash: ack.checkpoint.hash })
  })

  test('refused items are no gap: their refusals take their places', async () => {
    const items = await client('proxy').all(`&session=${session}`)
    expect(items.filter((item) => item.event.event_type === 'audit.gap')).toEqual([])
    expect(items.map((item) => item.spool_seq).sort((a, b) => Number(a) - Number(b))).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
    ])
    const text = JSON.stringify(items)
    expect(text).not.toContain('user:alice')
  })

  test('a thousand lines of rubbish leave one event', async () => {
    const proxy = client('proxy')
    const before = (await proxy.verify()).head.seq
    const ack = await proxy.append(Array.from({ length: 1_000 }, (_, index) => `rubbish ${index}`))
    expect(ack.refused).toHaveLength(1_000)
    expect(ack.checkpoint.seq).toBe(before + 1)
    const [item] = await proxy.all('&event_type=audit.refused')
    expect(item?.event.context).toMatchObject({ count: 1_000 })
  })

  test('U+0000 in a name is kept in the bytes and can be searched for', async () => {
    const proxy = client('proxy')
    const ack = await proxy.append([
      lineOf({ session: randomUUID(), spool_seq: 1, event: buildEvent({ actor: 'service:a\0b' }) }),
    ])
    expect(ack.refused).toEqual([])
    const items = await proxy.all(`&actor=${encodeURIComponent('service:a\0b')}`)
    expect(items.map((item) => item.event.actor)).toEqual(['service:a\0b'])
    expect(await proxy.verify()).toMatchObject({ ok: true })
  })

  test('names as long as the schema allows are recorded', async () => {
    const long = '\u{1F512}'.repeat(256)
    const ack = await client('proxy').append([
      lineOf({
        session: randomUUID(),
        spool_seq: 1,
        event: buildEvent({ actor: long, request_id: long, resource: '\u20ac'.repeat(4_096), action: long }),
      }),
    ])
    expect(ack.refused).toEqual([])
  })
})

describe('requests that are refused', () => {
  const post = (path: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
    fetch(`${stack.ledgers[0]?.url}${path}`, {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${stack.token('proxy')}`, 'content-type': 'application/x-ndjson', ...headers },
    })
  const cases = [
    { name: 'no token', headers: { authorization: '' }, body: '{}', wantStatus: 401 },
    { name: 'a wrong token', headers: { authorization: 'Bearer nobody' }, body: '{}', wantStatus: 401 },
    { name: 'an empty body', headers: {}, body: '', wantStatus: 400 },
    { name: 'only line feeds', headers: {}, body: '\n\n\n', wantStatus: 400 },
    { name: 'more items than a batch may have', headers: {}, body: '1\n'.repeat(1_001), wantStatus: 413 },
    { name: 'another media type', headers: { 'content-type': 'text/html' }, body: '{}', wantStatus: 400 },
    { name: 'a content coding', headers: { 'content-encoding': 'gzip' }, body: '{}', wantStatus: 400 },
  ]
  test.each(cases)('$name: $wantStatus', async ({ headers, body, wantStatus }) => {
    const response = await post('/api/audit/ingest', body, headers)
    expect(response.status).toBe(wantStatus)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
  })

  test('more bytes than a batch may have: 413, before any of them is read', async () => {
    const head = [
      'POST /api/audit/ingest HTTP/1.1',
      'Host: ledger',
      `Authorization: Bearer ${stack.token('proxy')}`,
      'Content-Type: application/x-ndjson',
      `Content-Length: ${MAX_BATCH_BYTES + 1}`,
    ]
    const answer = await rawRequest(stack.ledgers[0]?.url ?? '', `${head.join('\r\n')}\r\n\r\n`)
    expect(answer.status).toBe(413)
    expect(JSON.parse(answer.body.toString())).toMatchObject({ code: 'PAYLOAD_TOO_LARGE' })
  })

  test('a reader may not write, and a token without producer neither', async () => {
    const response = await client('auditor').ingest(buildLines(randomUUID(), 1, 1))
    expect(response.status).toBe(403)
  })

  test.each([
    '?limit=0',
    '?limit=1001',
    '?limit=1&limit=2',
    '?cursor=AAAA',
    '?nonsense=1',
    '?from=yesterday',
    '?trace_id=0',
    '?stage=never',
  ])('logs%s: 400', async (query) => {
    const response = await fetch(`${stack.ledgers[0]?.url}/api/audit/logs${query}`, {
      headers: { authorization: `Bearer ${stack.token('auditor')}` },
    })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ code: 'REQUEST_INVALID' })
  })
})
