import { expect, test } from 'vitest'
import { encodeCursor, parseLogsQuery, parseStampQuery, parseVerifyQuery } from './query.ts'

test('an empty query is the newest page', () => {
  expect(parseLogsQuery({})).toEqual({
    limit: 100,
    order: 'desc',
    bound: null,
    count: false,
    from: null,
    to: null,
    equals: [],
    words: null,
  })
})

test('filters become columns, with U+0000 as the columns have it', () => {
  expect(
    parseLogsQuery({
      actor: 'a\0',
      stage: 'publish',
      limit: '7',
      cursor: encodeCursor(42),
      from: '2026-01-01T00:00:00.000Z',
    }),
  ).toEqual({
    limit: 7,
    order: 'desc',
    bound: 42,
    count: false,
    words: null,
    from: '2026-01-01T00:00:00.000Z',
    to: null,
    equals: [
      ['actor', 'a\u2400'],
      ['stage', 'publish'],
    ],
  })
})

test('whose stamp it has to be', () => {
  expect(parseStampQuery({})).toEqual({ producerId: null })
  expect(parseStampQuery({ producer_id: 'demo/api' })).toEqual({ producerId: 'demo/api' })
  for (const query of [{ producer_id: '' }, { producer_id: ['a', 'b'] }, { other: 'a' }])
    expect(() => parseStampQuery(query)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
})

test.each([
  { query: { limit: '0' }, wantIn: 'limit' },
  { query: { limit: '1001' }, wantIn: 'limit' },
  { query: { limit: '-1' }, wantIn: 'limit' },
  { query: { limit: ['1', '2'] }, wantIn: 'limit' },
  { query: { cursor: 'AAAA' }, wantIn: 'cursor' },
  { query: { cursor: encodeCursor(0) }, wantIn: 'cursor' },
  { query: { cursor: Buffer.from("v1:1' OR true").toString('base64url') }, wantIn: 'cursor' },
  { query: { cursor: encodeCursor(5), order: 'asc' }, wantIn: 'other order' },
  { query: { cursor: encodeCursor(5, 'asc') }, wantIn: 'other order' },
  { query: { q: '-- !' }, wantIn: 'q' },
  { query: { to: '2026-02-30T00:00:00.000Z' }, wantIn: 'to' },
  { query: { stage: 'nowhere' }, wantIn: 'stage' },
  { query: { tenant: 'globex' }, wantIn: 'not known' },
])('$query is refused', ({ query, wantIn }) => {
  expect(() => parseLogsQuery(query)).toThrow(wantIn)
})

test.each([
  { query: {}, want: { fromSeq: 1, toSeq: null, traceId: null, checkpoint: null } },
  { query: { from_seq: '0', to_seq: '9' }, want: { fromSeq: 1, toSeq: 9 } },
  {
    query: { checkpoint_seq: '3', checkpoint_hash: 'a'.repeat(64) },
    want: { checkpoint: { seq: 3, hash: 'a'.repeat(64) } },
  },
])('verify $query', ({ query, want }) => {
  expect(parseVerifyQuery(query)).toMatchObject(want)
})

test.each([
  { query: { from_seq: '5', to_seq: '4' } },
  { query: { from_seq: '1.5' } },
  { query: { checkpoint_seq: '5' } },
  { query: { from_seq: '1', trace_id: '0af7651916cd43dd8448eb211c80319c' } },
  { query: { nonsense: '1' } },
])('verify $query is refused', ({ query }) => {
  expect(() => parseVerifyQuery(query)).toThrow(expect.objectContaining({ code: 'REQUEST_INVALID' }))
})
