import { describe, expect, test } from 'vitest'
import { createSecretKey } from 'node:crypto'
import { incomingIfMatch, incomingIfNoneMatch, outgoingETag, tagMark } from './etag.ts'

const NOW = 'aaaaaaaaaaaa'
const OLD = 'bbbbbbbbbbbb'
const mark = (): string => NOW

describe('outgoingETag', () => {
  test.each([
    { upstream: '"x"', want: `W/"x~${NOW}"` },
    { upstream: 'W/"x"', want: `W/"x~${NOW}"` },
    { upstream: '""', want: `W/"~${NOW}"` },
    { upstream: '"a,b"', want: `W/"a,b~${NOW}"` },
    { upstream: 'x', want: null },
    { upstream: '"x', want: null },
    { upstream: '"a"b"', want: null },
  ])('$upstream', ({ upstream, want }) => {
    expect(outgoingETag(upstream, mark)).toBe(want)
  })
})

describe('incomingIfNoneMatch', () => {
  test.each([
    { name: 'a tag of now', value: `W/"x~${NOW}"`, safe: true, want: '"x", W/"x"' },
    { name: 'a tag of before is not confirmed', value: `W/"x~${OLD}"`, safe: true, want: null },
    { name: 'a tag that is not ours', value: '"x"', safe: true, want: null },
    { name: 'several', value: `"y", W/"x~${NOW}", W/"a,b~${NOW}"`, safe: true, want: '"x", W/"x", "a,b", W/"a,b"' },
    { name: 'any, safe method', value: '*', safe: true, want: null },
    { name: 'any, to create only what is not there', value: '*', safe: false, want: '*' },
    { name: 'a foreign tag on an unsafe method', value: '"x"', safe: false, want: '"x"' },
    { name: 'an old one on an unsafe method', value: `W/"x~${OLD}"`, safe: false, want: null },
    { name: 'rubbish', value: ',,"', safe: true, want: null },
  ])('$name', ({ value, safe, want }) => {
    expect(incomingIfNoneMatch(value, mark, safe)).toBe(want)
  })
})

describe('incomingIfMatch', () => {
  test.each([
    { value: `W/"x~${NOW}"`, want: '"x"' },
    { value: `W/"x~${OLD}", "y"`, want: '"x", "y"' },
    { value: '*', want: '*' },
    { value: '"plain~tilde"', want: '"plain~tilde"' },
  ])('$value', ({ value, want }) => {
    expect(incomingIfMatch(value)).toBe(want)
  })
})

describe('tagMark', () => {
  const key = createSecretKey(Buffer.alloc(32, 1))
  const scope = { channel: 'external', revision: 'r', method: 'GET', target: '/a' }

  test.each([
    { name: 'another channel', change: { channel: 'internal' } },
    { name: 'another revision', change: { revision: 's' } },
    { name: 'another method', change: { method: 'HEAD' } },
    { name: 'another target', change: { target: '/b' } },
  ])('a tag is not confirmed under $name', ({ change }) => {
    const tag = outgoingETag('"x"', tagMark(key, scope)) as string
    expect(incomingIfNoneMatch(tag, tagMark(key, scope), true)).toBe('"x", W/"x"')
    expect(incomingIfNoneMatch(tag, tagMark(key, { ...scope, ...change }), true)).toBeNull()
  })

  test('nor with another key', () => {
    const tag = outgoingETag('"x"', tagMark(key, scope)) as string
    expect(incomingIfNoneMatch(tag, tagMark(createSecretKey(Buffer.alloc(32, 2)), scope), true)).toBeNull()
  })
})
