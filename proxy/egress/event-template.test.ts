import fc from 'fast-check'
import { expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import type { Judgement } from '#core/policy/join.ts'
import { CHANNELS, CLASSIFICATIONS } from '#core/stamp/schema.ts'
import { formatTime } from '#core/time/timestamp.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { decisionEvent } from './decision-event.ts'
import { EventTemplate } from './event-template.ts'

const text = fc.string({ minLength: 1, maxLength: 30, unit: 'grapheme' }).filter((each) => each.isWellFormed())
const latin1 = fc
  .uint8Array({ minLength: 1, maxLength: 40 })
  .map((bytes) => `/${Buffer.from(bytes).toString('latin1')}`)
const digest = fc
  .uint8Array({ minLength: 32, maxLength: 32 })
  .map((bytes) => `sha256:${Buffer.from(bytes).toString('hex')}`)

const context = fc
  .record({
    requestId: fc.uuid(),
    traceId: fc.uuid().map((id) => id.replaceAll('-', '')),
    channel: fc.constantFrom(...CHANNELS),
    tenant: text,
    mode: fc.constantFrom('enforce', 'shadow'),
    revision: text,
    method: fc.constantFrom('GET', 'HEAD', 'PATCH'),
    targetDigest: digest,
    path: latin1,
    subject: text,
  })
  .map(({ revision, subject, ...rest }) => {
    const caller = { subject, roles: [], region: null }
    return { ...rest, policy: { revision }, caller } as unknown as ExchangeContext
  })

const judgement = fc.record({
  classification: fc.constantFrom(...CLASSIFICATIONS),
  regulations: fc.array(text, { maxLength: 3 }),
})

const values = fc.record({
  eventId: fc.uuid(),
  decisionId: fc.uuid(),
  stampHash: digest,
  payloadLength: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
  nowMs: fc.nat({ max: 4_102_444_800_000 }),
  latencyMs: fc.oneof(
    fc.double({ min: -1, max: 1e7, noNaN: true }),
    fc.nat({ max: 3_000_000 }).map((n) => n / 1000),
  ),
})

it('writes byte for byte what the event itself is in canonical form', () => {
  fc.assert(
    fc.property(
      context,
      judgement,
      text,
      fc.integer({ min: 200, max: 599 }),
      fc.array(fc.tuple(values, fc.uuid(), latin1, digest), { minLength: 1, maxLength: 4 }),
      (sample, decided, mediaType, status, several) => {
        const kind = {
          eventType: 'egress.completed',
          action: 'stamp',
          outcome: 'allowed',
          mediaType,
          status,
          judgement: { violations: [], shadow: [], undecidable: [], ...decided } as unknown as Judgement,
        } as const
        const template = new EventTemplate(sample, kind)
        for (const [each, requestId, path, targetDigest] of several) {
          const other = { ...sample, requestId, path, targetDigest }
          const { nowMs, ...rest } = each
          const want = decisionEvent(other, { ...kind, ...each, upstreamStatus: status, errorCode: null, ignored: [] })
          expect(template.textOf(other, { ...rest, timestamp: formatTime(nowMs) })).toBe(canonicalize(want))
        }
      },
    ),
  )
})
