import { describe, expect, it } from 'vitest'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { canonicalize } from '#core/canonical/jcs.ts'
import type { Violation } from '#core/policy/decision.ts'
import type { Judgement } from '#core/policy/join.ts'
import type { ExchangeContext } from '../exchange/context.ts'
import { decisionEvent, type DecisionOutcome } from './decision-event.ts'

const CONTEXT = {
  requestId: '0193a1b2-0000-7000-8000-000000000001',
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  channel: 'external',
  tenant: 'acme',
  mode: 'enforce',
  policy: { revision: 'r1' },
  method: 'GET',
  targetDigest: `sha256:${'a'.repeat(64)}`,
  path: '/reports/7',
  caller: { subject: 'alice', roles: [], region: null },
} as unknown as ExchangeContext

const JUDGEMENT: Judgement = {
  violations: [],
  shadow: [],
  undecidable: [],
  classification: 'internal',
  regulations: ['NONE'],
  approvalStatus: 'approved',
  canonicalization: 'bytes',
  approvalBlockedBy: [],
}

const MADE: DecisionOutcome = {
  eventId: '0193a1b2-0000-7000-8000-000000000002',
  decisionId: '0193a1b2-0000-7000-8000-000000000003',
  eventType: 'egress.completed',
  action: 'stamp',
  outcome: 'allowed',
  stampHash: `sha256:${'b'.repeat(64)}`,
  judgement: JUDGEMENT,
  status: 200,
  upstreamStatus: 200,
  mediaType: 'application/json',
  payloadLength: 2,
  errorCode: null,
  ignored: [],
  nowMs: Date.UTC(2026, 10, 23, 9, 30),
  latencyMs: 1.23456,
}

const violation: Violation = {
  rule: 'r',
  severity: 'low',
  message: 'the text of a violation',
  remediation: { hint: 'h' },
  frameworks: [],
}
const refused: Judgement = {
  ...JUDGEMENT,
  violations: [violation],
  shadow: [{ ...violation, rule: 's' }],
  undecidable: [{ rule: 'u', reason: 'no fact', refused: true }],
}

describe('decisionEvent', () => {
  it.each([
    { name: 'a stamped answer', made: {}, wantContext: { classification: 'internal', violations: [] } },
    {
      name: 'a refusal',
      made: { judgement: refused, errorCode: 'POLICY_DENIED', ignored: ['signet-lineage-input-hash'] },
      wantContext: {
        violations: ['r'],
        shadow_violations: ['s'],
        undecidable: [{ rule: 'u', reason: 'no fact', refused: true }],
        error: 'POLICY_DENIED',
        ignored_headers: ['signet-lineage-input-hash'],
      },
    },
    { name: 'a failure before any judgement', made: { judgement: null, status: null }, wantContext: { status: null } },
  ])('$name is a valid event, its members in canonical order', ({ made, wantContext }) => {
    const event = decisionEvent(CONTEXT, { ...MADE, ...made })
    expect(checkAuditEvent(event)).toBe(event)
    expect(event.context).toMatchObject(wantContext)
    // Were they not, every event would be sorted on its way to the spool.
    for (const names of [Object.keys(event), Object.keys(event.context ?? {})]) {
      expect(names).toEqual(names.toSorted())
    }
  })

  it('never says what a violation said of the body, nor the query', () => {
    const event = decisionEvent(CONTEXT, { ...MADE, judgement: refused })
    expect(canonicalize(event)).not.toContain('the text of a violation')
  })

  it.each([
    { path: '', wantResource: '/' },
    { path: '/a b\u001b[31m\u00e9', wantResource: '/a%20b%1B[31m%E9' },
    { path: `/${'x'.repeat(5_000)}`, wantResource: `/${'x'.repeat(2_047)}` },
  ])('prints the path $path safely', ({ path, wantResource }) => {
    expect(decisionEvent({ ...CONTEXT, path }, MADE).resource).toBe(wantResource)
  })

  it('has no negative latency, and microseconds at most', () => {
    expect(decisionEvent(CONTEXT, { ...MADE, latencyMs: -1 }).latency_ms).toBe(0)
    expect(decisionEvent(CONTEXT, MADE).latency_ms).toBe(1.235)
  })
})
