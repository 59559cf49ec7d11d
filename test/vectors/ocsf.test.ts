import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OUTCOMES, STAGES, type AuditEvent } from '#core/audit/event.ts'
import type { SealedRecord } from '#core/audit/record.ts'
import { toOcsf } from '#core/feed/ocsf.ts'
import { ocsfFaults } from '#test/support/ocsf.ts'

/** Every event that the ledger keeps, whatever is in it, comes out as what OCSF publishes as valid. */
const name = fc.string({ minLength: 1, maxLength: 512, unit: 'grapheme' })
const digest = fc.option(fc.constant(`sha256:${'a'.repeat(64)}`))
const time = fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true }).map((date) => date.toISOString())
const event: fc.Arbitrary<AuditEvent> = fc.record(
  {
    event_id: fc.uuid(),
    event_type: name,
    timestamp_utc: time,
    trace_id: fc.constant('a'.repeat(32)),
    request_id: name,
    actor: name,
    tenant: name,
    stage: fc.constantFrom(...STAGES),
    action: fc.oneof(fc.constantFrom('GET', 'create', 'update', 'delete', 'approve', 'record'), name),
    resource: name,
    resource_type: name,
    resource_id: name,
    before: fc.jsonValue(),
    after: fc.jsonValue(),
    outcome: fc.constantFrom(...OUTCOMES),
    latency_ms: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
    stamp_hash: digest,
    context: fc.dictionary(fc.string(), fc.jsonValue()),
    region: name,
    data_domain: name,
    source: name,
  },
  {
    requiredKeys: ['event_id', 'event_type', 'timestamp_utc', 'trace_id', 'request_id', 'actor', 'tenant', 'stage', 'action', 'resource', 'before', 'after', 'outcome', 'latency_ms', 'stamp_hash'],
  },
)
const record: fc.Arbitrary<SealedRecord> = fc.record({
  v: fc.constant(1),
  event,
  producer_id: name,
  received_at: time,
  session: fc.option(fc.uuid()),
  spool_seq: fc.option(fc.nat()),
  stamp_hash: digest,
})
const seq = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER })

describe('API Activity, by its published schema', () => {
  it('every record is one', () => {
    fc.assert(
      fc.property(seq, record, (place, kept) => {
        const projected = toOcsf(place, kept)
        expect(ocsfFaults(projected)).toEqual([])
        // What a JSON Schema cannot say: the type is the class and the activity, and a long is one.
        expect(projected['type_uid']).toBe(Number(projected['class_uid']) * 100 + Number(projected['activity_id']))
        for (const long of ['time', 'duration']) expect(Number.isSafeInteger(projected[long])).toBe(true)
      }),
      { numRuns: 500 },
    )
  })

  const [valid] = fc.sample(fc.tuple(seq, record), { numRuns: 1, seed: 1 }).map((pair) => toOcsf(...pair))
  it.each<{ fault: string; change: object }>([
    { fault: 'an attribute that the class does not have', change: { trace: 'x' } },
    { fault: 'a required attribute that is missing', change: { actor: undefined } },
    { fault: 'a time that is a text', change: { time: '2026-01-01T00:00:00.000Z' } },
    { fault: 'an activity that there is not', change: { activity_id: 7 } },
    { fault: 'an object with an attribute that it does not have', change: { api: { operation: 'x', uid: 'y' } } },
    { fault: 'an endpoint that says nothing', change: { src_endpoint: { zone: 'eu' } } },
    { fault: 'metadata without a product', change: { metadata: { version: '1.3.0' } } },
  ])('refuses $fault', ({ change }) => {
    expect(ocsfFaults(valid)).toEqual([])
    expect(ocsfFaults({ ...valid, ...change })).not.toEqual([])
  })
})
