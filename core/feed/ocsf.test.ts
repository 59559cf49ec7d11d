import { describe, expect, test } from 'vitest'
import type { SealedRecord } from '../audit/record.ts'
import { toOcsf } from './ocsf.ts'

const record = (action: string, outcome: 'allowed' | 'denied' | 'unknown'): SealedRecord => ({
  v: 1,
  event: {
    event_id: '00000000-0000-4000-8000-000000000001',
    event_type: 'egress.decided',
    timestamp_utc: '2026-01-01T00:00:00.000Z',
    trace_id: 'a'.repeat(32),
    request_id: 'r',
    actor: 'subject:x',
    tenant: 'acme',
    stage: 'publish',
    action,
    resource: '/a',
    before: null,
    after: null,
    outcome,
    latency_ms: 1.5,
    stamp_hash: null,
  },
  producer_id: 'demo/api',
  received_at: '2026-01-01T00:00:01.000Z',
  session: null,
  spool_seq: null,
  stamp_hash: null,
})

describe('API Activity', () => {
  test('has every attribute that the class requires', () => {
    const event = toOcsf(7, record('GET', 'allowed'))
    const required = [
      'activity_id',
      'actor',
      'api',
      'category_uid',
      'class_uid',
      'metadata',
      'severity_id',
      'src_endpoint',
      'time',
      'type_uid',
    ]
    expect(Object.keys(event)).toEqual(expect.arrayContaining(required))
    expect(event['metadata']).toMatchObject({ version: '1.3.0', product: { vendor_name: 'Signet' } })
    expect(event['time']).toBe(1_767_225_600_000)
  })

  test.each([
    { action: 'GET', outcome: 'allowed', wantType: 600_302, wantStatus: 1 },
    { action: 'create', outcome: 'denied', wantType: 600_301, wantStatus: 2 },
    { action: 'PUT', outcome: 'allowed', wantType: 600_303, wantStatus: 1 },
    { action: 'DELETE', outcome: 'unknown', wantType: 600_304, wantStatus: 0 },
    { action: 'getaway', outcome: 'allowed', wantType: 600_399, wantStatus: 1 },
  ] as const)('$action, $outcome', ({ action, outcome, wantType, wantStatus }) => {
    expect(toOcsf(1, record(action, outcome))).toMatchObject({ type_uid: wantType, status_id: wantStatus })
  })
})
