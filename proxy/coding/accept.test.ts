import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { acceptedCodings } from './accept.ts'
import { answerCoding, PLAIN } from './answer-coding.ts'
import { CODINGS, codingsOf, type Coding } from './coding.ts'

describe('acceptedCodings', () => {
  test.each([
    { value: undefined, want: {}, identity: true, upstream: 'identity' },
    { value: '', want: {}, identity: true, upstream: 'identity' },
    { value: 'identity', want: {}, identity: true, upstream: 'identity' },
    { value: 'gzip', want: { gzip: 1 }, identity: true, upstream: 'gzip' },
    { value: 'X-GZip', want: { gzip: 1 }, identity: true, upstream: 'gzip' },
    {
      value: 'deflate, gzip, br, zstd',
      want: { deflate: 1, gzip: 1, br: 1, zstd: 1 },
      identity: true,
      upstream: 'zstd, br, gzip',
    },
    { value: 'deflate', want: { deflate: 1 }, identity: true, upstream: 'identity' },
    {
      value: 'br;q=0.8 , gzip ; q=0.5',
      want: { br: 0.8, gzip: 0.5 },
      identity: true,
      upstream: 'br;q=0.8, gzip;q=0.5',
    },
    { value: 'br;q=0,gzip', want: { gzip: 1 }, identity: true, upstream: 'gzip' },
    { value: '*', want: { zstd: 1, br: 1, gzip: 1, deflate: 1 }, identity: true, upstream: 'zstd, br, gzip' },
    {
      value: 'gzip;q=0, *;q=0.5',
      want: { zstd: 0.5, br: 0.5, deflate: 0.5 },
      identity: true,
      upstream: 'zstd;q=0.5, br;q=0.5',
    },
    { value: 'gzip, *;q=0', want: { gzip: 1 }, identity: false, upstream: 'gzip' },
    { value: '*;q=0, identity', want: {}, identity: true, upstream: 'identity' },
    { value: '*;q=0', want: {}, identity: false, upstream: 'identity' },
    { value: 'gzip, identity;q=0', want: { gzip: 1 }, identity: false, upstream: 'gzip' },
    { value: 'identity;q=0.000', want: {}, identity: false, upstream: 'identity' },
    { value: 'gzip;q=2', want: {}, identity: true, upstream: 'identity' },
    { value: 'gzip;q=0.1234', want: {}, identity: true, upstream: 'identity' },
    { value: 'gzip;level=9', want: {}, identity: true, upstream: 'identity' },
    { value: 'gzip;q=0, gzip', want: {}, identity: true, upstream: 'identity' },
    { value: 'compress, dcb, constructor, __proto__', want: {}, identity: true, upstream: 'identity' },
  ])('$value', ({ value, want, identity, upstream }) => {
    const none = { zstd: 0, br: 0, gzip: 0, deflate: 0 }
    expect(acceptedCodings(value)).toEqual({ weights: { ...none, ...want }, identity, upstream })
  })

  test('never asks the service for what the client does not take, whatever it says', () => {
    const item = fc.tuple(
      fc.constantFrom<string[]>('gzip', 'br', 'zstd', 'deflate', 'identity', '*', 'x-gzip', 'compress', ' ', '\u0000'),
      fc.constantFrom('', ';q=0', ';q=0.5', ';q=1', ';q=', ';q=1;q=0', ' ; Q=0.001'),
    )
    fc.assert(
      fc.property(fc.oneof(fc.array(item, { maxLength: 80 }), fc.string()), (items) => {
        const value = typeof items === 'string' ? items : items.map((parts) => parts.join('')).join(',')
        const { weights, upstream } = acceptedCodings(value)
        const asked = upstream.split(', ').map((part) => part.split(';')[0])
        for (const name of asked) if (name !== 'identity') expect(weights[name as Coding]).toBeGreaterThan(0)
        expect(upstream).toMatch(/^[a-z0-9;=., ]+$/)
      }),
    )
  })
})

describe('codingsOf', () => {
  test.each([
    { value: '', want: [] },
    { value: 'identity', want: [] },
    { value: 'Identity, identity', want: [] },
    { value: 'gzip', want: ['gzip'] },
    { value: 'GZIP ,, br', want: ['gzip', 'br'] },
    { value: 'x-gzip', want: ['gzip'] },
  ])('$value', ({ value, want }) => {
    expect(codingsOf(value)).toEqual(want)
  })

  test.each([
    { value: 'compress', want: 'unknown' },
    { value: 'constructor', want: 'unknown' },
    { value: 'gzip;q=1', want: 'unknown' },
    { value: '*', want: 'unknown' },
    { value: 'gzip, gzip, gzip', want: 'layers' },
    { value: 'gzip, gzip, aws-chunked', want: 'unknown' },
  ])('refuses $value', ({ value, want }) => {
    expect(() => codingsOf(value)).toThrow(expect.objectContaining({ reason: want, code: 'UPSTREAM_INVALID' }))
  })
})

describe('answerCoding', () => {
  test.each([
    { stated: undefined, accept: undefined, want: PLAIN },
    { stated: undefined, accept: 'gzip, br', want: PLAIN },
    { stated: 'identity', accept: 'gzip', want: PLAIN },
    { stated: undefined, accept: 'gzip;q=0.5, br, identity;q=0', want: { received: [], leaves: 'br', taken: false } },
    { stated: undefined, accept: '*;q=0', want: { received: [], leaves: null, taken: false } },
    { stated: 'gzip', accept: 'gzip;q=0.1, br', want: { received: ['gzip'], leaves: 'gzip', taken: true } },
    { stated: 'gzip', accept: undefined, want: { received: ['gzip'], leaves: null, taken: false } },
    {
      stated: 'gzip',
      accept: 'br;q=0.5, deflate;q=0.7',
      want: { received: ['gzip'], leaves: 'deflate', taken: false },
    },
    { stated: 'gzip', accept: 'gzip;q=0, *', want: { received: ['gzip'], leaves: 'zstd', taken: false } },
    { stated: 'gzip, br', accept: 'gzip, br', want: { received: ['gzip', 'br'], leaves: 'br', taken: true } },
    { stated: 'gzip, br', accept: 'gzip', want: { received: ['gzip', 'br'], leaves: 'gzip', taken: false } },
  ])('$stated for $accept', ({ stated, accept, want }) => {
    expect(answerCoding(stated, 200, acceptedCodings(accept))).toEqual(want)
  })

  test('a part of a coded content cannot be decoded', () => {
    expect(() => answerCoding('gzip', 206, acceptedCodings('gzip'))).toThrow(
      expect.objectContaining({ reason: 'partial' }),
    )
    expect(answerCoding(undefined, 206, acceptedCodings('gzip'))).toBe(PLAIN)
  })

  test('nothing leaves in a coding that the client excludes', () => {
    const weight = fc.constantFrom('', ';q=0', ';q=0.3')
    const accept = fc.tuple(
      ...CODINGS.map((coding) =>
        fc.option(
          weight.map((q) => coding + q),
          { nil: 'x' },
        ),
      ),
    )
    fc.assert(
      fc.property(accept, fc.subarray([...CODINGS], { maxLength: 2 }), (items, received) => {
        const accepted = acceptedCodings(items.join(','))
        const { leaves, taken } = answerCoding(received.join(','), 200, accepted)
        if (leaves !== null) expect(accepted.weights[leaves]).toBeGreaterThan(0)
        if (taken) for (const coding of received) expect(accepted.weights[coding]).toBeGreaterThan(0)
      }),
    )
  })
})
