import { randomBytes, randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { AuditEvent } from '../audit/event.ts'
import { openRecord, sealRecord } from '../audit/record.ts'
import { checkAuditEvent } from '../audit/validate.ts'
import { canonicalize } from '../canonical/jcs.ts'
import { SealKey } from './cipher.ts'
import { draftSealing, HIDDEN_RESOURCE, MAX_VALUES, SEALED_MEMBER, UNATTRIBUTED } from './draft.ts'
import { finishSealing, isSealedValue, openEvent, subjectsOf, type OpenedSubject, type Subject } from './event.ts'
import { checkPersonalFile, sealRules } from './rules.ts'
import { canonicalName } from './wrap.ts'

const RULES = sealRules()
const TENANT = 'acme'

function eventOf(overrides: Partial<AuditEvent> = {}): AuditEvent {
  return {
    event_id: randomUUID(),
    event_type: 'egress.decided',
    timestamp_utc: '2026-11-23T09:30:00.123Z',
    trace_id: 'a'.repeat(32),
    request_id: 'r',
    actor: 'service:reports',
    tenant: TENANT,
    stage: 'publish',
    action: 'GET',
    resource: '/reports/7',
    before: null,
    after: null,
    outcome: 'allowed',
    latency_ms: 1,
    stamp_hash: null,
    ...overrides,
  }
}

/** A book of subjects in memory, as the work database keeps them. */
function bookOfSubjects() {
  const subjects = new Map<string, Subject & { name: string }>()
  const subjectOf = (name: string): Subject => {
    const known = subjects.get(canonicalName(name))
    if (known !== undefined) return known
    const subject = { subjectId: randomUUID(), key: new SealKey(randomBytes(32)), name: canonicalName(name) }
    subjects.set(subject.name, subject)
    return subject
  }
  return {
    subjectOf,
    idOf: (name: string) => subjectOf(name).subjectId,
    without:
      (...gone: string[]) =>
      (id: string): OpenedSubject | undefined => {
        const subject = [...subjects.values()].find(({ subjectId }) => subjectId === id)
        return subject === undefined ? undefined : gone.includes(subject.name) ? null : subject
      },
  }
}

function sealed(event: AuditEvent, book = bookOfSubjects(), rules = RULES): AuditEvent {
  const draft = draftSealing(event, rules)
  return draft === null ? event : checkAuditEvent(finishSealing(draft, TENANT, book.subjectOf, randomBytes))
}

const ANNA = 'anna@example.com'
const ROUND_TRIPS: readonly { name: string; event: Partial<AuditEvent>; gone: readonly string[] }[] = [
  { name: 'a person as actor', event: { actor: 'user:alice' }, gone: ['alice'] },
  { name: 'a name of no form', event: { actor: 'Alice' }, gone: ['Alice'] },
  { name: 'an address in a path', event: { resource: `/users/${ANNA}/card?to=${ANNA}` }, gone: [ANNA] },
  { name: 'an encoded address', event: { resource: '/u/anna%40example.com?x=1' }, gone: ['anna%40example.com'] },
  {
    name: 'the actor in the path',
    event: { actor: 'user:alice', resource: '/users/user%3Aalice/user:alice' },
    gone: ['alice'],
  },
  { name: 'a word as actor, as a segment', event: { actor: 'alice', resource: '/users/alice' }, gone: ['alice'] },
  { name: 'a person as resource', event: { resource_type: 'Customer', resource_id: 'c-77' }, gone: ['c-77'] },
  { name: 'an address in a resource id', event: { resource_id: `mailbox/${ANNA}` }, gone: [ANNA] },
  {
    name: 'personal members, at any depth',
    event: {
      before: { contact: { Phone: '+49 30 1', 'Date-Of-Birth': '1970-01-02' } },
      after: [{ ip: ['10.1.2.3', { deep: 'x7x' }] }],
      context: { clientIp: '10.1.2.4', user: 'bob', status: 200 },
    },
    gone: ['+49 30 1', '1970-01-02', '10.1.2.3', '10.1.2.4', 'x7x', 'bob'],
  },
  {
    name: 'addresses in texts',
    event: { before: `from ${ANNA}`, context: { note: `tell ${ANNA} and bob@example.org`, status: 'fine' } },
    gone: [ANNA, 'bob@example.org'],
  },
  {
    name: 'an address as a member name',
    event: { context: { roles: { [ANNA]: 'admin' }, n: 1 } },
    gone: [ANNA, 'admin'],
  },
  { name: 'an address as a name at the top', event: { context: { [ANNA]: 1 }, resource: `/${ANNA}` }, gone: [ANNA] },
  { name: 'identifiers that are numbers', event: { context: { user_id: 4711 } }, gone: ['4711'] },
  { name: 'a list of people', event: { context: { users: ['user:a1', 'user:b2'] } }, gone: ['user:a1', 'user:b2'] },
  { name: '__proto__', event: { context: JSON.parse(`{"__proto__":{"phone":"55501"}}`) as {} }, gone: ['55501'] },
  {
    name: 'more addresses than one event may name',
    event: { resource: `/${Array.from({ length: 40 }, (_, n) => `p${n}@example.com`).join('/')}` },
    gone: ['@example.com'],
  },
  {
    name: 'a resource that would become too long',
    event: { resource: `/${'x'.repeat(4_060)}/${ANNA}`, context: { a: 1 } },
    gone: [ANNA],
  },
]

describe('sealing an event', () => {
  it.each(ROUND_TRIPS)('$name: not to be seen, and back as it was', ({ event: overrides, gone }) => {
    const book = bookOfSubjects()
    const event = eventOf(overrides)
    const before = canonicalize(event)
    const result = sealed(event, book)
    const text = canonicalize(result)
    for (const part of gone) expect(text).not.toContain(part)
    // The event that came in is for others to use on.
    expect(canonicalize(event)).toBe(before)
    const opened = openEvent(result, TENANT, book.without())
    expect(opened.missing).toEqual([])
    expect(canonicalize(opened.event)).toBe(before)
  })

  it.each([
    { name: 'nobody', event: { actor: 'anonymous' } },
    { name: 'service accounts', event: { actor: 'system:serviceaccount:bank:api' } },
    { name: 'workloads', event: { actor: 'spiffe://example/ns/bank' } },
    { name: 'Signet', event: { actor: 'signet-operator' } },
    { name: 'a reference that is one', event: { actor: `subject:${randomUUID()}` } },
    {
      name: 'a resource',
      event: { resource_type: 'report', resource_id: '7', context: { user: 'service:x', a: [1, 'b'] } },
    },
    { name: 'values that say nothing', event: { context: { phone: null, email: '', ip: false } } },
  ])('leaves $name readable', ({ event: overrides }) => {
    expect(draftSealing(eventOf(overrides), RULES)).toBeNull()
  })

  it('keeps every other member as it was, and in its place', () => {
    const event = eventOf({ actor: 'user:alice', context: { a: 1, phone: '1', z: { y: [1, 2] } } })
    const result = sealed(event)
    expect({ ...result, actor: event.actor, context: event.context }).toEqual(event)
    expect(Object.keys(result.context ?? {})).toEqual(['a', 'phone', 'z'])
    expect(result.context).toMatchObject({ a: 1, z: { y: [1, 2] } })
  })

  it('has one reference for a person, however the address is written', () => {
    const book = bookOfSubjects()
    const result = sealed(eventOf({ actor: 'Anna@Example.com', context: { email: ANNA } }), book)
    expect([result.actor, result.context?.['email']]).toEqual(Array(2).fill(`subject:${book.idOf(ANNA)}`))
    expect(subjectsOf(result)).toEqual(new Set([book.idOf(ANNA)]))
  })

  it.each([
    { name: 'whom it says it is about', context: { data_subject: 'cleo', phone: '1' }, want: ['cleo'] },
    { name: 'the resource before the actor', resource_id: 'user:bob', context: { phone: '1' }, want: ['user:bob'] },
    { name: 'the actor', actor: 'user:alice', context: { phone: '1' }, want: ['user:alice'] },
    { name: 'nobody', context: { phone: '1' }, want: [UNATTRIBUTED] },
    {
      name: 'all that it names besides',
      actor: 'user:alice',
      context: { phone: `call ${ANNA}`, note: `of ${ANNA}` },
      want: ['user:alice', ANNA],
    },
  ])('seals a value for $name', ({ want, ...overrides }) => {
    const book = bookOfSubjects()
    const { name: _, ...event } = overrides
    const result = sealed(eventOf(event), book)
    const value = result.context?.['note'] ?? result.context?.['phone']
    expect(isSealedValue(value) ? value.subjects : []).toEqual(want.map((name) => book.idOf(name)))
  })

  it('lists whom only `before` and `after` name, so that a search for them finds the event', () => {
    const book = bookOfSubjects()
    const result = sealed(
      eventOf({ actor: 'user:alice', before: { user: 'user:bob', n: 1 }, after: { user: 'cleo' } }),
      book,
    )
    expect(result.context).toEqual({ 'signet:sealed': { subjects: [book.idOf('user:bob'), book.idOf('cleo')] } })
    expect(openEvent(result, TENANT, book.without()).event).not.toHaveProperty('context')
  })

  it('is unreadable without the key of any of its people, and says whose is missing', () => {
    const book = bookOfSubjects()
    const event = eventOf({ actor: 'user:alice', context: { note: `tell ${ANNA}`, n: 1 }, resource: `/u/${ANNA}` })
    const result = sealed(event, book)
    const opened = openEvent(result, TENANT, book.without(ANNA))
    expect(opened.event.actor).toBe('user:alice')
    expect(opened.event.context?.['n']).toBe(1)
    expect(canonicalize(opened.event)).not.toContain(ANNA)
    expect(opened.missing.map(({ path }) => path)).toEqual(['/context/note', '/resource'])
    const none = openEvent(result, TENANT, () => undefined)
    expect(none.missing.map(({ path }) => path)).toEqual(['/actor', '/context/note', '/resource'])
    expect(none.missing[1]?.subjects).toEqual([book.idOf('user:alice'), book.idOf(ANNA)])
  })

  it('does not open a value that was moved to another event, place or tenant', () => {
    const book = bookOfSubjects()
    const result = sealed(eventOf({ context: { phone: '+1', fax: 'x' } }), book)
    const phone = result.context?.['phone']
    const moved = [
      { event: { ...result, event_id: randomUUID() }, tenant: TENANT },
      { event: { ...result, context: { ...result.context, fax: phone } }, tenant: TENANT },
      { event: result, tenant: 'globex' },
    ]
    for (const { event, tenant } of moved) {
      const { missing } = openEvent(event, tenant, book.without())
      expect(missing.map(({ path }) => path)).toContain('/context/fax')
    }
  })

  it('never names more people than it may', () => {
    const users = Array.from({ length: 100 }, (_, n) => `user:${n}`)
    const draft = draftSealing(eventOf({ context: { users } }), RULES)
    expect(draft?.names.size).toBeLessThanOrEqual(17)
    expect(canonicalize(sealed(eventOf({ context: { users } })))).not.toContain('user:')
    const crowded = sealed(eventOf({ resource: `/${users.map((_, n) => `p${n}@example.com`).join('/')}` }))
    expect(crowded.resource).toBe(HIDDEN_RESOURCE)
  })

  it('refuses a context that pretends to be sealed', () => {
    expect(() => draftSealing(eventOf({ context: { 'signet:sealed': {} } }), RULES)).toThrow(
      expect.objectContaining({ code: 'AUDIT_EVENT_INVALID' }),
    )
  })

  it('goes by the setting, too', () => {
    const rules = sealRules({
      version: 1,
      services: ['batch/*', 'cron'],
      plain: ['ip'],
      personal: ['badge no'],
      identifiers: ['clerk'],
      resource_types: ['tenant-user'],
    })
    for (const actor of ['batch/x', 'cron']) expect(draftSealing(eventOf({ actor }), rules)).toBeNull()
    expect(draftSealing(eventOf({ context: { ip: '10.1.1.1' } }), rules)).toBeNull()
    const book = bookOfSubjects()
    const result = sealed(
      eventOf({ context: { badge_no: 7, Clerk: 'carl' }, resource_type: 'tenant user', resource_id: '9' }),
      book,
      rules,
    )
    expect(result.context?.['Clerk']).toBe(`subject:${book.idOf('carl')}`)
    expect(result.resource_id).toBe(`subject:${book.idOf('9')}`)
    expect(isSealedValue(result.context?.['badge_no'])).toBe(true)
  })

  it.each([
    { file: { version: 2 }, want: /version/ },
    { file: { version: 1, services: ['a*b'] }, want: /services/ },
    { file: { version: 1, people: [] }, want: /people/ },
  ])('refuses the setting $file', ({ file, want }) => {
    expect(() => checkPersonalFile(file, 'the file')).toThrow(want)
  })

  const word = fc.oneof(
    fc.constantFrom(ANNA, 'user:alice', 'bob', 'anna%40example.com', 'service:x', ''),
    fc.string({ maxLength: 12 }).map((text) => text.toWellFormed()),
  )
  const json = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom(null, true, 0, 3.5),
      word,
      fc.array(tie('value'), { maxLength: 4 }),
      fc.dictionary(fc.oneof(word, fc.constantFrom('phone', 'email', 'user', 'note', 'a~b/c')), tie('value'), {
        maxKeys: 4,
        noNullPrototype: true,
      }),
    ),
  })).value
  it('seals and opens whatever an event can hold', () => {
    fc.assert(
      fc.property(word, word, word, json, json, fc.option(json), (actor, resource, id, before, after, note) => {
        const book = bookOfSubjects()
        const event = eventOf({
          actor: actor === '' ? 'anonymous' : actor,
          resource: `/${resource}`,
          ...(id === '' ? {} : { resource_id: id }),
          before: before as null,
          after: after as null,
          ...(note === null ? {} : { context: { note } }),
        })
        const result = sealed(event, book)
        const text = canonicalize(result)
        for (const name of [ANNA, 'user:alice', 'anna%40example.com'])
          if (event.actor === name || name !== 'user:alice') expect(text).not.toContain(name)
        const opened = openEvent(result, TENANT, book.without())
        expect(opened.missing).toEqual([])
        // A name comes back as `canonicalName` has it.
        const plain = (one: AuditEvent): string =>
          canonicalize(one).replaceAll('\\u0000', '\u2400').normalize('NFC').toLowerCase()
        expect(plain(opened.event)).toBe(plain(event))
      }),
      { numRuns: 500 },
    )
  })
})

it.each(['bob@corp', 'bob@10.0.0.1', '@bob', 'CORP\\bob@host', 'bob%40corp'])(
  'seals the name «%s» where a name stands, though it is no address',
  (name) => {
    const book = bookOfSubjects()
    const event = eventOf({ actor: 'anna', context: { user: name, users: ['x', name] } })
    const shown = sealed(event, book)
    expect(JSON.stringify(shown)).not.toContain('bob')
    expect(openEvent(shown, TENANT, book.without()).event).toEqual(event)
  },
)

describe('what is too much to be sealed value by value', () => {
  const nested = (depth: number): object => (depth === 0 ? { ip: '10.0.0.1' } : [nested(depth - 1)])
  const asRecord = (event: AuditEvent) =>
    sealRecord({
      v: 1,
      event,
      producer_id: 'p',
      received_at: event.timestamp_utc,
      session: null,
      spool_seq: null,
      stamp_hash: null,
    })

  it.each([
    { what: 'personal values', after: Array.from({ length: 50_000 }, () => ({ ip: 1 })) },
    { what: 'names', after: { users: Array.from({ length: 50_000 }, (_, index) => `u${index}`) } },
    { what: 'addresses', after: Array.from({ length: 50_000 }, (_, index) => `a@b.c${index}`) },
  ])('keeps a record of many $what no larger than what came', ({ after }) => {
    const book = bookOfSubjects()
    const event = eventOf({ actor: 'anna', after })
    const shown = sealed(event, book)
    expect(canonicalize(shown).length).toBeLessThan(1.5 * canonicalize(event).length + 2_000)
    expect(isSealedValue(shown.after)).toBe(true)
    expect(openEvent(shown, TENANT, book.without()).event).toEqual(event)
    expect(openEvent(shown, TENANT, book.without('anna')).missing.map(({ path }) => path)).toContain('/after')
  })

  it('seals such a part for everybody whom it names, wherever', () => {
    const book = bookOfSubjects()
    const after = [...Array.from({ length: MAX_VALUES }, () => ({ ip: 1 })), { user: 'bob' }]
    const shown = sealed(eventOf({ actor: 'anna', after }), book)
    expect(shown.after).toMatchObject({ subjects: [book.idOf('anna'), book.idOf('bob')] })
  })

  it.each([50, 57, 58, 59, 60])('makes a record that reads back, %i deep', (depth) => {
    const book = bookOfSubjects()
    const event = eventOf({ actor: 'anna', after: nested(depth), context: { nested: nested(depth - 1) } })
    // What can be received can be recorded.
    expect(openRecord(asRecord(event)).event).toEqual(event)
    const shown = sealed(event, book)
    expect(openRecord(asRecord(shown)).event).toEqual(shown)
    expect(openEvent(shown, TENANT, book.without()).event).toEqual(event)
  })

  it.each([
    { what: 'a member named as a person', context: { 'anna@example.com': 1 } },
    { what: 'too many values', context: { list: Array.from({ length: MAX_VALUES + 1 }, () => ({ ip: 1 })) } },
  ])('leaves readable which regulations a context names that is sealed whole: $what', ({ context }) => {
    const book = bookOfSubjects()
    const event = eventOf({ context: { ...context, regulations: ['SOX', 'HIPAA'] } })
    const shown = sealed(event, book)
    expect(Object.keys(shown.context ?? {}).toSorted()).toEqual(['regulations', SEALED_MEMBER])
    expect(shown.context?.['regulations']).toEqual(['SOX', 'HIPAA'])
    expect(openEvent(shown, TENANT, book.without()).event).toEqual(event)
  })
})
