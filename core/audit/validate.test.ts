import { describe, expect, it } from 'vitest'
import { checkAuditEvent } from './validate.ts'

const EVENT = {
  event_id: '01890a5d-ac96-774b-bcce-b302099a8057',
  event_type: 'egress.completed',
  timestamp_utc: '2026-11-23T09:30:00.123Z',
  trace_id: '4bf92f3577b34da6a3ce929d0e0e4736',
  request_id: 'r1',
  actor: 'alice',
  tenant: 'acme',
  stage: 'publish',
  action: 'stamp',
  resource: '/reports/q3',
  before: null,
  after: { status: 200 },
  outcome: 'allowed',
  latency_ms: 1.5,
  stamp_hash: null,
}

describe('checkAuditEvent', () => {
  it.each([
    EVENT,
    {
      ...EVENT,
      context: { a: [1] },
      region: 'eu',
      data_domain: 'finance',
      source: 'p',
      resource_type: 't',
      resource_id: 'i',
    },
    { ...EVENT, before: 'a', after: [1, null], stamp_hash: `sha256:${'0'.repeat(64)}` },
  ])('takes an event, and gives the same object', (event) => expect(checkAuditEvent(event)).toBe(event))

  it.each([
    { value: null, wantPath: '/' },
    { value: [], wantPath: '/' },
    { value: { ...EVENT, extra: 1 }, wantPath: '/extra' },
    { value: { ...EVENT, actor: undefined }, wantPath: '/actor' },
    { value: { ...EVENT, actor: '' }, wantPath: '/actor' },
    { value: { ...EVENT, event_id: EVENT.event_id.toUpperCase() }, wantPath: '/event_id' },
    { value: { ...EVENT, stage: 'egress' }, wantPath: '/stage' },
    { value: { ...EVENT, latency_ms: -1 }, wantPath: '/latency_ms' },
    { value: { ...EVENT, latency_ms: '1' }, wantPath: '/latency_ms' },
    { value: { ...EVENT, trace_id: '0'.repeat(32) }, wantPath: '/trace_id' },
    { value: { ...EVENT, stamp_hash: 'x' }, wantPath: '/stamp_hash' },
    { value: { ...EVENT, context: 'topsecret' }, wantPath: '/context' },
    { value: { ...EVENT, timestamp_utc: '2026-11-23T09:30:00Z' }, wantPath: '/timestamp_utc' },
  ])('refuses at $wantPath', ({ value, wantPath }) => {
    try {
      checkAuditEvent(value)
      expect.unreachable()
    } catch (error) {
      expect(error).toMatchObject({ code: 'AUDIT_EVENT_INVALID', details: { path: wantPath } })
      expect(String(error)).not.toContain('topsecret')
    }
  })
})
