import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { startProxyFixture, subjectOf, until, verifyAnswer, type ProxyFixture } from '#test/support/proxy-fixture.ts'

/**
 * Bodies that cannot be read, under the shipped pack: refused externally, as nobody can say what is in them; internally they pass,
 * stamped over exactly their bytes, since no rule is closed there.
 */
let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({ rules: 'standard' })
})
afterAll(() => fixture.stop())

const JSON_TYPE = 'application/json'
const EMAIL = 'alice.canary@example.net'
const nested = (levels: number, open: string, close: string): string => open.repeat(levels) + close.repeat(levels)

const UNREADABLE = [
  {
    name: 'invalid UTF-8',
    type: JSON_TYPE,
    body: Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]),
  },
  {
    name: 'an overlong encoding',
    type: JSON_TYPE,
    body: Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xc0, 0xaf]), Buffer.from('"}')]),
  },
  { name: 'UTF-16 LE', type: JSON_TYPE, body: Buffer.from(`{"email":"${EMAIL}"}`, 'utf16le') },
  { name: 'UTF-16 BE with BOM', type: JSON_TYPE, body: Buffer.from(`\ufeff{"email":"${EMAIL}"}`, 'utf16le').swap16() },
  { name: 'a byte order mark', type: JSON_TYPE, body: Buffer.from('\ufeff{"a":1}') },
  { name: 'truncated', type: JSON_TYPE, body: Buffer.from(`{"email":"${EMAIL}"`) },
  { name: 'truncated in a string', type: JSON_TYPE, body: Buffer.from('{"a":"b') },
  { name: '10,000 deep', type: JSON_TYPE, body: Buffer.from(nested(10_000, '[', ']')) },
  {
    name: '10,000 objects deep',
    type: JSON_TYPE,
    body: Buffer.from(`${'{"a":'.repeat(10_000)}1${'}'.repeat(10_000)}`),
  },
  { name: '10,000 deep and never closed', type: JSON_TYPE, body: Buffer.from('['.repeat(10_000)) },
  { name: 'something behind', type: JSON_TYPE, body: Buffer.from(`{"a":1}{"email":"${EMAIL}"}`) },
  { name: 'CSV that says it is JSON', type: JSON_TYPE, body: Buffer.from(`name,email\nAlice,${EMAIL}\n`) },
  { name: 'no JSON at all', type: JSON_TYPE, body: Buffer.alloc(0) },
  { name: 'NUL bytes', type: JSON_TYPE, body: Buffer.from('\0\0\0') },
  { name: 'invalid UTF-8 in CSV', type: 'text/csv', body: Buffer.from([0x61, 0x2c, 0xff, 0x0a]) },
  { name: 'UTF-16 in CSV', type: 'text/csv', body: Buffer.from(`name,email\nAlice,${EMAIL}\n`, 'utf16le') },
]

describe.each(UNREADABLE)('$name', ({ type, body }) => {
  test('is refused externally, passes internally', async () => {
    fixture.upstream.answer = (_request, response) => response.writeHead(200, { 'content-type': type }).end(body)
    const external = await exchange(`${fixture.stack.external}/b`)
    expect(external.status).toBe(422)
    const problem = JSON.parse(external.body.toString()) as { violations: { message: string }[]; request_id: string }
    expect(problem.violations.every(({ message }) => message.includes('could not be judged'))).toBe(true)
    expect(external.body.toString()).not.toContain('canary')
    const [event] = await fixture.events(problem.request_id)
    expect(event).toMatchObject({ event_type: 'egress.refused', outcome: 'denied' })

    const internal = await exchange(`${fixture.stack.internal}/b`)
    expect(internal.status).toBe(200)
    expect(internal.body.equals(body)).toBe(true)
    verifyAnswer(
      fixture.stack,
      internal,
      subjectOf(fixture.stack, { target: '/b', mediaType: type, channel: 'internal' }),
    )
  })
})

test.each([
  { name: '64 deep', body: `{"a":${nested(63, '[', ']')}}` },
  { name: 'huge numbers', body: '{"a":1e999,"b":123456789012345678901234567890.123456789,"c":-0,"d":5e-400}' },
  { name: 'a number of 100,000 digits', body: `{"a":${'9'.repeat(100_000)}}` },
  {
    name: '100,000 members',
    body: JSON.stringify(Object.fromEntries(Array.from({ length: 100_000 }, (_, i) => [`k${i}`, 'v'])))
      .slice(0, 1_048_000)
      .replace(/,[^,]*$/, '}'),
  },
  { name: 'lone surrogates, escaped', body: '{"a":"\\ud800"}' },
])('what is only odd passes, its bytes untouched: $name', async ({ body }) => {
  fixture.upstream.answer = (_request, response) => response.writeHead(200, { 'content-type': JSON_TYPE }).end(body)
  const answer = await exchange(`${fixture.stack.external}/b`)
  expect(answer.status).toBe(200)
  expect(
    verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/b', mediaType: JSON_TYPE }),
    ).payload.toString(),
  ).toBe(body)
})

test.each([
  { name: 'JSON that says it is text', type: 'text/plain' },
  { name: 'JSON that says nothing', type: undefined },
  { name: 'JSON that says it is an unknown type of text', type: 'text/x-unknown' },
])('a wrong content type hides nothing: $name', async ({ type }) => {
  fixture.upstream.answer = (_request, response) => {
    if (type !== undefined) response.setHeader('content-type', type)
    response.end(JSON.stringify({ email: EMAIL }))
  }
  const answer = await exchange(`${fixture.stack.external}/b`)
  expect(answer.status).toBe(422)
  expect(answer.body.toString()).toContain('external-approval')
})

describe('past the buffer', () => {
  const body = Buffer.from(JSON.stringify({ items: Array.from({ length: 50_000 }, () => 'x'.repeat(30)) }))

  test.each([
    { name: 'of known length', headers: { 'content-length': body.length } },
    { name: 'in chunks', headers: {} },
  ])('refused externally where rules would have to read it, passes internally: $name', async ({ headers }) => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': JSON_TYPE, ...headers }).end(body)
    const external = await exchange(`${fixture.stack.external}/large`)
    expect(external.status).toBe(422)
    expect(external.body.toString()).toContain('could not be judged')
    const internal = await exchange(`${fixture.stack.internal}/large`)
    expect(internal.status).toBe(200)
    expect(internal.body.equals(body)).toBe(true)
    expect(internal.headers['link']).toContain('/requests/')
  })

  test('a large file that no rule reads passes externally', async () => {
    const image = Buffer.alloc(3_000_000, 1)
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'image/png' }).end(image)
    const answer = await exchange(`${fixture.stack.external}/large.png`)
    expect(answer.status).toBe(200)
    expect(answer.body.equals(image)).toBe(true)
  })
})

test('the process is the same, and nothing is left in flight', async () => {
  expect(fixture.stack.child.exitCode).toBeNull()
  await until('nothing in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
  expect(await fixture.stack.sample('signet_buffered_bytes')).toBe(0)
  expect(fixture.stack.output()).not.toMatch(/"log.level":"(error|fatal)"/)
})
