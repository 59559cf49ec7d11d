import fc from 'fast-check'
import { expect, test } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import type { JsonValue } from '#core/json/value.ts'
import { scrubRecord } from './scrub.ts'

const CARD = '4111111111111111'
const scrub = (context: JsonValue) => {
  const { value, scrubbed } = scrubRecord({ v: 1, event: { context } })
  return { context: (value as { event: { context: JsonValue } }).event.context, scrubbed }
}

test.each<{ name: string; context: JsonValue; want: JsonValue; wantKinds: string[] }>([
  {
    name: 'a password',
    context: { password: 'hunter2' },
    want: { password: '[scrubbed: field]' },
    wantKinds: ['field'],
  },
  {
    name: 'a name in camel case',
    context: { clientSecret: 'x' },
    want: { clientSecret: '[scrubbed: field]' },
    wantKinds: ['field'],
  },
  {
    name: 'a name with dashes',
    context: { 'X-Api-Key': ['x'] },
    want: { 'X-Api-Key': '[scrubbed: field]' },
    wantKinds: ['field'],
  },
  { name: 'a number', context: { pin: 1234 }, want: { pin: '[scrubbed: field]' }, wantKinds: ['field'] },
  {
    name: 'nothing',
    context: { token: null, password: '', has_secret: true },
    want: { token: null, password: '', has_secret: true },
    wantKinds: [],
  },
  {
    name: 'names that only look so',
    context: { key_id: 'k', token_count: 3, span: 's' },
    want: { key_id: 'k', token_count: 3, span: 's' },
    wantKinds: [],
  },
  {
    name: 'a header in a text',
    context: { a: 'Authorization: Bearer abcdefgh.12345678' },
    want: { a: 'Authorization: Bearer [scrubbed: token]' },
    wantKinds: ['token'],
  },
  { name: 'a JWT', context: ['x eyJhbGciOi.eyJzdWIiOi.c2ln y'], want: ['x [scrubbed: token] y'], wantKinds: ['token'] },
  {
    name: 'a URL',
    context: { url: 'postgres://u:p4ss@db/x' },
    want: { url: 'postgres://u:[scrubbed: password]@db/x' },
    wantKinds: ['password'],
  },
  {
    name: 'a query',
    context: { url: '/x?api_key=abc123&y=1' },
    want: { url: '/x?api_key=[scrubbed: password]&y=1' },
    wantKinds: ['password'],
  },
  {
    name: 'JSON in a text',
    context: { s: '{"password":"a b"}' },
    want: { s: '{"password":[scrubbed: password]}' },
    wantKinds: ['password'],
  },
  {
    name: 'a key',
    context: { k: '-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----!' },
    want: { k: '[scrubbed: private-key]!' },
    wantKinds: ['private-key'],
  },
  {
    name: 'an access key',
    context: { k: 'id AKIAIOSFODNN7EXAMPLE.' },
    want: { k: 'id [scrubbed: token].' },
    wantKinds: ['token'],
  },
  {
    name: 'a card',
    context: { n: `pays ${CARD}, thanks` },
    want: { n: 'pays [scrubbed: payment-card], thanks' },
    wantKinds: ['payment-card'],
  },
  {
    name: 'a card in groups',
    context: { n: '4111 1111 1111 1111' },
    want: { n: '[scrubbed: payment-card]' },
    wantKinds: ['payment-card'],
  },
  {
    name: 'a card as a number',
    context: { n: Number(CARD) },
    want: { n: '[scrubbed: payment-card]' },
    wantKinds: ['payment-card'],
  },
  {
    name: 'a card in other digits',
    context: { n: 'x ４１１１１１１１１１１１１１１１' },
    want: { n: '[scrubbed: payment-card]' },
    wantKinds: ['payment-card'],
  },
  {
    name: 'no card',
    context: { n: '4111111111111112', when: 1767225600000 },
    want: { n: '4111111111111112', when: 1767225600000 },
    wantKinds: [],
  },
  {
    name: 'a UUID with the digits of a card',
    context: { id: '41111111-1111-1111-8111-123456789abc' },
    want: { id: '41111111-1111-1111-8111-123456789abc' },
    wantKinds: [],
  },
  {
    name: 'a card beside a UUID',
    context: { id: `01234567-89ab-4def-8abc-123456789abc pays ${CARD}` },
    want: { id: '01234567-89ab-4def-8abc-123456789abc pays [scrubbed: payment-card]' },
    wantKinds: ['payment-card'],
  },
  {
    name: 'a card as a name',
    context: { [CARD]: 1 },
    want: { '[scrubbed: payment-card]': 1 },
    wantKinds: ['payment-card'],
  },
  {
    name: 'two names that become one',
    context: { '4111111111111111': 1, '5500005555555559': 2 },
    want: { '[scrubbed: payment-card]': 1, '[scrubbed: payment-card]+': 2 },
    wantKinds: ['payment-card', 'payment-card'],
  },
])('$name', ({ context, want, wantKinds }) => {
  const { context: got, scrubbed } = scrub(context)
  expect(canonicalize(got)).toBe(canonicalize(want))
  expect(scrubbed.map(({ kind }) => kind)).toEqual(wantKinds)
})

test('says where, without the secret, and leaves identifiers alone', () => {
  const record = {
    v: 1,
    received_at: '2026-01-01T00:00:00.000Z',
    event: {
      trace_id: '41111111111111111111111111111111',
      resource: '/login?token=abc',
      before: { [CARD]: { 'a/b': 'password=x' } },
    },
  }
  const { value, scrubbed } = scrubRecord(record)
  expect(scrubbed).toEqual([
    { kind: 'password', path: '/event/resource' },
    { kind: 'payment-card', path: '/event/before/[scrubbed: payment-card]' },
    { kind: 'password', path: '/event/before/[scrubbed: payment-card]/a~1b' },
  ])
  expect(value).toMatchObject({ event: { trace_id: record.event.trace_id } })
})

test('any record keeps its canonical form, and one without secrets its bytes', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (context) => {
      const record = { v: 1, event: { context: context as JsonValue } }
      const { value, scrubbed } = scrubRecord(record)
      expect(() => canonicalize(value)).not.toThrow()
      if (scrubbed.length === 0) expect(value).toBe(record)
    }),
  )
})

test.each(['a:', 'password=', '://a', 'eyJ', '1 ', '-----BEGIN PRIVATE KEY-----', '"password":"', 'a://:'])(
  'a text of nothing but %j takes no time',
  (part) => {
    const startedAt = performance.now()
    scrub({ text: part.repeat(Math.ceil(500_000 / part.length)) })
    expect(performance.now() - startedAt).toBeLessThan(5_000)
  },
)
