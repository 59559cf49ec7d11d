import { createHash, createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { AuditEvent } from '#core/audit/event.ts'
import type { Batch, Entry, EventEntry } from './entry.ts'
import type { Mark } from './keys.ts'
import { planAppend, receivedMark, traitsOf, type KnownEvent, type Plan, type WallState } from './plan.ts'
import { firstLookup, secondLookup } from './suspicion.ts'

const AT = new Date('2026-11-23T09:30:00.123Z')
const PRODUCER = { tenant: 'acme', producerId: 'demo/api' }
const mark: Mark = (use, ...parts) =>
  createHmac('sha256', 'a test')
    .update(JSON.stringify([use, ...parts]))
    .digest()
const EMPTY: WallState = { known: new Map(), sessions: new Map(), taken: new Set() }
const id = (n: number): string => `00000000-0000-7000-8000-${String(n).padStart(12, '0')}`
const SESSION = id(1)

function eventEntry(n: number, spoolSeq: number, change: Partial<EventEntry> = {}): EventEntry {
  const event: AuditEvent = {
    event_id: id(n),
    event_type: 'egress.decided',
    timestamp_utc: AT.toISOString(),
    trace_id: '0af7651916cd43dd8448eb211c80319c',
    request_id: `r-${n}`,
    actor: 'user:alice',
    tenant: 'acme',
    stage: 'publish',
    action: 'GET',
    resource: '/a',
    before: null,
    after: null,
    outcome: 'allowed',
    latency_ms: 1,
    stamp_hash: null,
  }
  const receivedDigest = createHash('sha256').update(`line ${n}`).digest()
  return { kind: 'event', line: 1, receivedDigest, session: SESSION, spoolSeq, event, stamp: undefined, ...change }
}

const batch = (...entries: Entry[]): Batch => ({ producer: PRODUCER, entries })
const typesOf = (plan: Plan): string[] =>
  plan.records.map((record) => record.event.event_type.replace(/^(audit|egress)\./, ''))

describe('planAppend', () => {
  test.each<{ name: string; entries: Entry[]; wantTypes: string[]; wantRefused?: string[] }>([
    {
      name: 'the first event opens its session',
      entries: [eventEntry(10, 1)],
      wantTypes: ['session.opened', 'decided'],
    },
    {
      name: 'in order, nothing else',
      entries: [eventEntry(10, 1), eventEntry(11, 2)],
      wantTypes: ['session.opened', 'decided', 'decided'],
    },
    {
      name: 'a hole',
      entries: [eventEntry(10, 1), eventEntry(11, 4)],
      wantTypes: ['session.opened', 'decided', 'gap', 'decided'],
    },
    { name: 'a hole at the beginning', entries: [eventEntry(10, 3)], wantTypes: ['session.opened', 'gap', 'decided'] },
    {
      name: 'the same item twice in a batch is one',
      entries: [eventEntry(10, 1), eventEntry(10, 1)],
      wantTypes: ['session.opened', 'decided'],
    },
    {
      name: 'the same id with other bytes in a batch',
      entries: [eventEntry(10, 1), eventEntry(10, 2, { receivedDigest: Buffer.alloc(32) })],
      wantTypes: ['session.opened', 'decided', 'refused'],
      wantRefused: ['EVENT_ID_CONFLICT'],
    },
    {
      name: 'the same position twice in a batch',
      entries: [eventEntry(10, 1), eventEntry(11, 1)],
      wantTypes: ['session.opened', 'decided', 'refused'],
      wantRefused: ['SPOOL_SEQ_CONFLICT'],
    },
    {
      name: 'a close of nothing',
      entries: [{ kind: 'close', session: SESSION, clean: true, last_spool_seq: 0 }],
      wantTypes: [],
      wantRefused: ['SESSION_UNKNOWN'],
    },
    {
      name: 'open, write, close',
      entries: [
        { kind: 'open', session: SESSION, software: 's', startedAt: AT.toISOString() },
        eventEntry(10, 1),
        { kind: 'close', session: SESSION, clean: true, last_spool_seq: 1 },
      ],
      wantTypes: ['session.opened', 'decided', 'session.closed'],
    },
  ])('$name', ({ entries, wantTypes, wantRefused = [] }) => {
    const plan = planAppend([batch(...entries)], EMPTY, AT, mark)
    expect(typesOf(plan)).toEqual(wantTypes)
    expect(plan.batches[0]?.refused.map(({ code }) => code)).toEqual(wantRefused)
  })

  test("another producer's event of the same id and bytes is not acknowledged to this one", () => {
    const entry = eventEntry(10, 1)
    const theirs: KnownEvent = {
      seq: 5,
      commitment: Buffer.alloc(32),
      receivedHmac: receivedMark(mark, { tenant: 'acme', producerId: 'demo/second' }, entry.receivedDigest),
    }
    const plan = planAppend([batch(entry)], { ...EMPTY, known: new Map([[entry.event.event_id, theirs]]) }, AT, mark)
    expect(plan.batches[0]?.acks).toEqual([])
    expect(plan.batches[0]?.refused).toMatchObject([{ code: 'EVENT_ID_CONFLICT' }])
  })
})

/** The wall as a plan leaves it, with what the look-ups would find there. */
function apply(state: WallState, plan: Plan): WallState {
  const known = new Map(state.known)
  const sessions = new Map(state.sessions)
  const taken = new Set(state.taken)
  for (const { event, receivedHmac, session, spoolSeq, producerId } of plan.records) {
    expect(known.has(event.event_id)).toBe(false)
    known.set(event.event_id, { seq: known.size + 1, commitment: Buffer.alloc(32), receivedHmac })
    if (session === null || spoolSeq === null) continue
    expect(taken.has(`${session}/${spoolSeq}`)).toBe(false)
    taken.add(`${session}/${spoolSeq}`)
    sessions.set(session, { producerId, spoolHead: Math.max(sessions.get(session)?.spoolHead ?? 0, spoolSeq) })
  }
  return { known, sessions, taken }
}

/** Only what the look-ups ask for, as the sequencer gets it. */
function lookedUp(state: WallState, batches: Batch[]): WallState {
  const first = firstLookup(batches, AT, mark)
  const pick = <V>(from: ReadonlyMap<string, V>, keys: Iterable<string>): [string, V][] =>
    [...keys].flatMap((key): [string, V][] => {
      const value = from.get(key)
      return value === undefined ? [] : [[key, value]]
    })
  const known = new Map(pick(state.known, first.eventIds))
  const sessions = new Map(pick(state.sessions, first.sessions))
  const second = secondLookup(batches, { known, sessions }, AT, mark)
  return {
    known: new Map([...known, ...pick(state.known, second.eventIds)]),
    sessions,
    taken: new Set([...second.positions.keys()].filter((key) => state.taken.has(key))),
  }
}

test('whatever comes, however often: each position and id once, and a repeated batch adds nothing', () => {
  const entry = fc.oneof(
    fc
      .record({
        n: fc.integer({ min: 10, max: 16 }),
        at: fc.integer({ min: 1, max: 6 }),
        digest: fc.integer({ min: 0, max: 2 }),
      })
      .map(({ n, at, digest }): Entry =>
        eventEntry(n, at, { receivedDigest: createHash('sha256').update(`${n}/${at}/${digest}`).digest() }),
      ),
    fc
      .record({ at: fc.option(fc.integer({ min: 1, max: 6 })), digest: fc.integer({ min: 0, max: 5 }) })
      .map(({ at, digest }): Entry => ({
        kind: 'refused',
        line: 1,
        receivedDigest: createHash('sha256').update(`refused ${digest}`).digest(),
        eventId: undefined,
        position: at === null ? undefined : { session: SESSION, spoolSeq: at },
        code: 'JSON_INVALID',
        detail: '',
      })),
  )
  const call = fc.oneof(
    fc.constant<Entry>({ kind: 'open', session: SESSION, software: 's', startedAt: AT.toISOString() }),
    fc
      .record({ clean: fc.boolean(), last: fc.integer({ min: 0, max: 8 }) })
      .map(({ clean, last }): Entry => ({ kind: 'close', session: SESSION, clean, last_spool_seq: last })),
  )
  const entries = fc.oneof(
    { weight: 3, arbitrary: fc.array(entry, { maxLength: 6 }) },
    { weight: 1, arbitrary: call.map((one) => [one]) },
  )
  const producers = fc.constantFrom(PRODUCER, { tenant: 'acme', producerId: 'demo/second' })
  const batches = fc.array(fc.record({ producer: producers, entries }), { maxLength: 4 })
  fc.assert(
    fc.property(fc.array(batches, { maxLength: 5 }), (groups) => {
      let state = EMPTY
      for (const group of groups) {
        // What the planner is shown is what the sequencer would look up, no more: it has to be enough.
        const plan = planAppend(group, lookedUp(state, group), AT, mark)
        state = apply(state, plan)
        for (const [index, { entries }] of group.entries()) {
          const events = entries.filter((one) => one.kind === 'event').length
          const planned = plan.batches[index]
          expect((planned?.acks.length ?? 0) + (planned?.refused.length ?? 0)).toBeGreaterThanOrEqual(events)
        }
        // A close that came before its session began is another matter the second time.
        if (group.some((one) => one.entries[0]?.kind === 'close')) continue
        expect(typesOf(planAppend(group, lookedUp(state, group), AT, mark))).toEqual([])
      }
    }),
    { numRuns: 500 },
  )
})

describe('events that come by themselves', () => {
  const logEntry = (n: number, bytes: string): Entry => {
    const { event } = eventEntry(n, 1)
    return { kind: 'log', receivedDigest: createHash('sha256').update(bytes).digest(), event, stamp: undefined }
  }
  const issueEntry = (proof: string): Entry => ({
    kind: 'issue',
    proofDigest: createHash('sha256').update(proof).digest(),
    keyId: 'd1.root.20261123.acme.demo%2Fapi',
    certificate: { serial: '40aa', sha256: 'ab'.repeat(32), notAfter: AT },
    publicKeyDigest: Buffer.alloc(32, 1),
    workload: { namespace: 'demo', serviceAccount: 'api', pod: { name: 'api-1', uid: 'u-1' } },
  })

  test('take no place in a session, and are recorded once', () => {
    const plan = planAppend([batch(logEntry(10, 'a')), batch(logEntry(10, 'a'))], EMPTY, AT, mark)
    expect(typesOf(plan)).toEqual(['decided'])
    expect(plan.records[0]).toMatchObject({ session: null, spoolSeq: null, producerId: 'demo/api' })
    expect(plan.batches.map(({ logged }) => logged[0]?.at)).toEqual([plan.records[0], plan.records[0]])
    expect(plan.batches.flatMap(({ refused }) => refused)).toEqual([])
  })

  test('are refused with other bytes, which is recorded', () => {
    const plan = planAppend([batch(logEntry(10, 'a')), batch(logEntry(10, 'b'))], EMPTY, AT, mark)
    expect(typesOf(plan)).toEqual(['decided', 'refused'])
    expect(plan.batches[1]).toMatchObject({ logged: [], refused: [{ code: 'EVENT_ID_CONFLICT' }] })
  })

  test('every refusal that could be planned is looked up first', () => {
    const batches = [batch(logEntry(10, 'b')), batch(issueEntry('p'))]
    const known = new Map([[id(10), { seq: 1, commitment: Buffer.alloc(32), receivedHmac: Buffer.alloc(32) }]])
    const { eventIds } = firstLookup(batches, AT, mark)
    const plan = planAppend(batches, { ...EMPTY, known }, AT, mark)
    expect(plan.records.filter(({ event }) => !eventIds.has(event.event_id))).toEqual([])
    expect(typesOf(plan)).toEqual(['refused', 'identity.issued'])
  })

  test('a proof is good for one issue, also with another certificate', () => {
    const first = planAppend([batch(issueEntry('p'))], EMPTY, AT, mark)
    const [record] = first.records
    expect(record?.event).toMatchObject({ event_type: 'identity.issued', resource_id: '40aa', actor: 'signet-ledger' })
    expect(first.batches[0]?.refused).toEqual([])
    const known = new Map([
      [record?.event.event_id ?? '', { seq: 1, commitment: Buffer.alloc(32), receivedHmac: Buffer.alloc(32) }],
    ])
    const again = planAppend([batch(issueEntry('p')), batch(issueEntry('q'))], { ...EMPTY, known }, AT, mark)
    expect(again.batches.map(({ refused }) => refused[0]?.code)).toEqual(['IDENTITY_REPLAYED', undefined])
    expect(again.records).toHaveLength(1)
  })
})

describe('retention', () => {
  test('an event is of the class that it gets, what the ledger adds of itself is kept', () => {
    const entries = [eventEntry(10, 1), eventEntry(11, 4)]
    const plan = planAppend([batch(...entries)], EMPTY, AT, mark, (traits) => `of ${traits.tenant}`)
    expect(plan.records.map(({ event, retentionClass }) => `${event.event_type} ${retentionClass}`)).toEqual([
      'audit.session.opened default',
      'egress.decided of acme',
      'audit.gap default',
      'egress.decided of acme',
    ])
    expect(planAppend([batch(...entries)], EMPTY, AT, mark).records.map((record) => record.retentionClass)).toEqual(
      Array(4).fill('default'),
    )
  })

  test.each([
    { name: 'none', context: {}, stamp: undefined, want: [] },
    { name: 'of the decision', context: { regulations: ['SOX', 7, null, 'SOX'] }, stamp: undefined, want: ['SOX'] },
    { name: 'that are no list', context: { regulations: 'SOX' }, stamp: undefined, want: [] },
    {
      name: 'of the stamp as well',
      context: { regulations: ['SOX'] },
      stamp: { hash: '', bytes: Buffer.alloc(0), frameworks: ['GDPR', 'SOX'] },
      want: ['SOX', 'GDPR'],
    },
    {
      name: 'past all bounds',
      context: { regulations: Array.from({ length: 1_000 }, (_, n) => `R${n}`) },
      stamp: undefined,
      want: Array.from({ length: 64 }, (_, n) => `R${n}`),
    },
  ])('regulations $name', ({ context, stamp, want }) => {
    const entry = eventEntry(10, 1)
    const event = { ...entry.event, region: 'eu', context }
    expect(traitsOf({ event, stamp })).toEqual({ tenant: 'acme', region: 'eu', data_domain: null, frameworks: want })
  })
})
