import { describe, expect, test } from 'vitest'
import type { JsonValue } from '../json/value.ts'
import { openRecord, projectRecord, sealRecord, type SealedRecord } from './record.ts'

const RECORD: SealedRecord = {
  v: 1,
  event: {
    event_id: '00000000-0000-7000-8000-0000000000aa',
    event_type: 'egress.decided',
    timestamp_utc: '2026-11-23T09:30:00.123Z',
    trace_id: '0af7651916cd43dd8448eb211c80319c',
    request_id: 'r-1',
    actor: 'user:\0alice',
    tenant: 'acme',
    stage: 'publish',
    action: 'GET',
    resource: '/a',
    before: null,
    after: { b: 1, a: 2 },
    outcome: 'allowed',
    latency_ms: 1.5,
    stamp_hash: null,
  },
  producer_id: 'demo/api',
  received_at: '2026-12-31T23:59:59.999Z',
  session: '00000000-0000-7000-8000-000000000001',
  spool_seq: 7,
  stamp_hash: null,
}

test('the sealed bytes are canonical, and a golden value', () => {
  expect(sealRecord(RECORD).toString()).toBe(
    '{"event":{"action":"GET","actor":"user:\\u0000alice","after":{"a":2,"b":1},"before":null,"event_id":"00000000-0000-7000-8000-0000000000aa",' +
      '"event_type":"egress.decided","latency_ms":1.5,"outcome":"allowed","request_id":"r-1","resource":"/a","stage":"publish","stamp_hash":null,' +
      '"tenant":"acme","timestamp_utc":"2026-11-23T09:30:00.123Z","trace_id":"0af7651916cd43dd8448eb211c80319c"},"producer_id":"demo/api",' +
      '"received_at":"2026-12-31T23:59:59.999Z","session":"00000000-0000-7000-8000-000000000001","spool_seq":7,"stamp_hash":null,"v":1}',
  )
})

test('what was sealed opens again', () => {
  expect(openRecord(sealRecord(RECORD))).toEqual(RECORD)
})

describe('bytes that are no sealed record', () => {
  const text = sealRecord(RECORD).toString()
  test.each([
    { name: 'not JSON', bytes: text.slice(1) },
    { name: 'white space', bytes: ` ${text}` },
    { name: 'members in another order', bytes: `{"v":1,${text.slice(1, -7)}}` },
    { name: 'another version', bytes: text.replace('"v":1', '"v":2') },
    { name: 'an unknown member', bytes: text.replace('"v":1', '"v":1,"w":1') },
    { name: 'a number in another form', bytes: text.replace('1.5', '1.50') },
  ])('$name', ({ bytes }) => {
    expect(bytes).not.toBe(text)
    expect(() => openRecord(Buffer.from(bytes))).toThrow(expect.objectContaining({ code: 'AUDIT_EVENT_INVALID' }))
  })
})

test('projections: the month is that of arrival, U+0000 shows as ␀, what is absent is null', () => {
  expect(projectRecord(RECORD)).toMatchObject({
    month: '2026-12-01',
    actor: 'user:␀alice',
    region: null,
    resource_id: null,
    spool_seq: 7,
  })
})

test('an event as deep as an item may be can be opened again', () => {
  let deep: JsonValue = 1
  for (let depth = 0; depth < 61; depth++) deep = [deep]
  const record = { ...RECORD, event: { ...RECORD.event, context: { deep } } }
  expect(openRecord(sealRecord(record))).toEqual(record)
})
