import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import { SignetError } from '#core/error/signet-error.ts'
import type { Batch, BatchOutcome, Entry, NoticeEntry } from '../entry.ts'
import { NO_RESIDENCY } from '../residency/policy.ts'
import type { Sequencer } from '../sequencer.ts'
import { sealBatch, sealingSequencer, type SealingDeps } from './entries.ts'

const event = (id: string, actor = 'user:a'): AuditEvent =>
  ({ event_id: id, actor, event_type: 't', tenant: 'acme' }) as unknown as AuditEvent
const batch = (...entries: Entry[]): Batch => ({ producer: { tenant: 'acme', producerId: 'p' }, entries })
const line = (id: string, actor?: string): Entry => ({
  kind: 'event',
  line: 4,
  receivedDigest: Buffer.alloc(32, 1),
  session: 's',
  spoolSeq: 9,
  event: event(id, actor),
  stamp: undefined,
})
const notice: NoticeEntry = {
  kind: 'notice',
  type: 'audit.export.requested',
  cause: ['1'],
  outcome: 'success',
  resourceId: 'r',
  context: { query: { actor: 'user:a' } },
}
const deps = (overrides: Partial<SealingDeps> = {}): SealingDeps => ({
  residency: () => NO_RESIDENCY,
  mark: () => Buffer.alloc(32, 7),
  sealer: {
    seal: (_, events) =>
      Promise.resolve(
        events.map((one) =>
          one.event_id === 'bad'
            ? new SignetError('AUDIT_EVENT_INVALID', 'no')
            : { ...one, context: { by: one.event_id } },
        ),
      ),
  },
  ...overrides,
})

describe('sealing a batch', () => {
  it('seals what carries an event, in its place, and leaves the rest', async () => {
    const open: Entry = { kind: 'open', session: 's', software: 'x', startedAt: '' }
    const { entries } = await sealBatch(batch(line('a'), open, line('b'), notice), deps())
    expect(entries[1]).toBe(open)
    expect(entries[0]).toMatchObject({ kind: 'event', spoolSeq: 9, event: { context: { by: 'a' } } })
    expect(entries[2]).toMatchObject({ event: { context: { by: 'b' } } })
    // A notice's event has the id that it will be recorded under.
    expect(entries[3]).toMatchObject({
      kind: 'notice',
      context: { by: expect.stringMatching(/^[0-9a-f-]{36}$/) as string },
    })
  })

  it.each(['audit.purge.authorized', 'audit.purge.completed', 'audit.purge.abandoned'] as const)(
    'leaves %s as it is: it is signed',
    async (type) => {
      const statement: Entry = { ...notice, type, context: { statement: { tenant: 'a@example.com' } } }
      expect((await sealBatch(batch(statement, notice), deps())).entries[0]).toBe(statement)
    },
  )

  it('refuses what cannot be sealed, alone and at its place in the session', async () => {
    const { entries } = await sealBatch(batch(line('a'), line('bad')), deps())
    expect(entries[0]?.kind).toBe('event')
    expect(entries[1]).toEqual({
      kind: 'refused',
      line: 4,
      receivedDigest: Buffer.alloc(32, 1),
      eventId: 'bad',
      position: { session: 's', spoolSeq: 9 },
      code: 'AUDIT_EVENT_INVALID',
      detail: 'no',
    })
  })

  it('asks for residency before anything is hidden, and where nothing is sealed', async () => {
    const residency = () => ({
      ...NO_RESIDENCY,
      violation: (tenant: string, one: AuditEvent) => (one.actor === 'user:us' ? `not ${tenant}` : null),
    })
    for (const sealer of [deps().sealer, null]) {
      const { entries } = await sealBatch(batch(line('a'), line('b', 'user:us')), deps({ residency, sealer }))
      expect(entries.map((entry) => ('code' in entry ? `${entry.code} ${entry.detail}` : entry.kind))).toEqual([
        'event',
        'RESIDENCY_VIOLATION not acme',
      ])
    }
  })
})

describe('the sealing sequencer', () => {
  const outcome = {} as BatchOutcome
  function recording(failing = false) {
    const seen: string[] = []
    const inner: Sequencer = {
      append: (one) => {
        seen.push(one.entries.map((entry) => ('event' in entry ? entry.event.event_id : entry.kind)).join())
        return failing ? Promise.reject(new Error('away')) : Promise.resolve(outcome)
      },
      idle: () => Promise.resolve(),
    }
    return { seen, inner }
  }

  it('hands batches of a tenant on in order, however long each took to seal', async () => {
    const { seen, inner } = recording()
    const waiting = new Map<string, () => void>()
    const seal = (_: string, events: readonly AuditEvent[]) =>
      new Promise<AuditEvent[]>((resolve) => waiting.set(events[0]?.event_id ?? '', () => resolve([...events])))
    const sequencer = sealingSequencer(inner, deps({ sealer: { seal } }))
    const appended = ['a', 'b', 'c'].map((id) => sequencer.append(batch(line(id))))
    waiting.get('c')?.()
    waiting.get('b')?.()
    await new Promise(setImmediate)
    expect(seen).toEqual([])
    waiting.get('a')?.()
    expect(await Promise.all(appended)).toEqual([outcome, outcome, outcome])
    expect(seen).toEqual(['a', 'b', 'c'])
    await sequencer.idle()
  })

  it('a batch that cannot be sealed fails alone', async () => {
    const { seen, inner } = recording()
    const seal = (_: string, events: readonly AuditEvent[]) =>
      events[0]?.event_id === 'a' ? Promise.reject(new Error('no key')) : Promise.resolve([...events])
    const sequencer = sealingSequencer(inner, deps({ sealer: { seal } }))
    const [first, second] = await Promise.allSettled(['a', 'b'].map((id) => sequencer.append(batch(line(id)))))
    expect([first?.status, second?.status, seen]).toEqual(['rejected', 'fulfilled', ['b']])
  })

  it('passes on what the inner one says', async () => {
    const { inner } = recording(true)
    const sequencer = sealingSequencer(inner, deps())
    await expect(sequencer.append(batch(line('a')))).rejects.toThrow('away')
    await expect(sequencer.append(batch(line('b')))).rejects.toThrow('away')
    await sequencer.idle()
  })
})
