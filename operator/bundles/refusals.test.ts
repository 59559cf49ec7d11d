import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { checkAuditEvent } from '#core/audit/validate.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { NOW } from './bundles.fixture.ts'
import { createRefusalAudit, type Refusal } from './refusals.ts'

function setup() {
  const state = { clock: NOW, isUp: true, events: [] as AuditEvent[] }
  const audit = createRefusalAudit({
    async audit(event) {
      if (!state.isUp) throw new Error('away')
      state.events.push(checkAuditEvent(event))
    },
    tenant: 'platform',
    now: () => state.clock,
    newId: uuidV7,
    newTraceId: () => '0af7651916cd43dd8448eb211c80319c',
  })
  const refuse = (changes: Partial<Refusal> = {}): void =>
    audit.record({
      action: 'pull',
      namespace: 'shop',
      caller: null,
      address: '10.0.0.1',
      code: 'UNAUTHENTICATED',
      ...changes,
    })
  return { state, audit, refuse, later: (ms: number) => void (state.clock = new Date(state.clock.getTime() + ms)) }
}
const counts = (events: readonly AuditEvent[]): unknown[] =>
  events.map(({ actor, context }) => [actor, context?.['count']])

describe('the audit of refusals', () => {
  it('tells of the first at once and of the others of that minute together', async () => {
    const { state, audit, refuse, later } = setup()
    for (let n = 0; n < 1_000; n++) refuse({ namespace: `any-${n}` })
    refuse({ caller: 'bank/clerk', code: 'FORBIDDEN' })
    await audit.flush()
    expect(counts(state.events)).toEqual([
      ['unauthenticated', 1],
      ['bank/clerk', 1],
    ])
    later(60_000)
    await audit.flush()
    expect(counts(state.events.slice(2))).toEqual([['unauthenticated', 999]])
    refuse()
    await audit.flush()
    expect(counts(state.events.slice(3))).toEqual([['unauthenticated', 1]])
  })

  it('stays bounded when everyone is refused and the ledger is away', async () => {
    const { state, audit, refuse, later } = setup()
    state.isUp = false
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 2_000; n++) refuse({ address: `10.0.${n % 250}.${Math.floor(n / 250)}` })
      later(60_000)
      await audit.flush()
    }
    expect(audit.dropped).toBeGreaterThan(0)
    state.isUp = true
    await audit.flush()
    expect(state.events.length).toBeLessThanOrEqual(500)
  })
})
