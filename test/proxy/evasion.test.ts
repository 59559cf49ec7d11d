import { randomBytes } from 'node:crypto'
import { brotliCompressSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { startProxyFixture, subjectOf, until, verifyAnswer, type ProxyFixture } from '#test/support/proxy-fixture.ts'
import { rawRequest } from '#test/support/raw-request.ts'

/** Ways around a rule that a reviewer found to work once. With the standard pack: what is refused by one spelling is refused by all. */
let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: 'standard',
    policyData: {
      version: 1,
      routes: [
        { template: '/restricted/**', classification: 'restricted' },
        { template: '/customers/{id}', methods: ['GET'], classification: 'confidential' },
      ],
    },
  })
})
afterAll(() => fixture.stop())

function answerWith(body: string, headers: Record<string, string | string[]> = {}): void {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json', ...headers }).end(body)
}

const raw = (target: string, extra = '') =>
  rawRequest(fixture.stack.external, `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${extra}\r\n`)

describe('another spelling of a path that a route is for', () => {
  test.each([
    '/restricted/a',
    '/RESTRICTED/a',
    '/restricted%2fa',
    '/%72estricted/a',
    '/%2572estricted/a',
    '//restricted/a',
    '/x/../restricted/a',
    '/restricted;v=1/a',
    '/restricted./a',
    '/restricted%20/a',
    '/customers/..%2fopen',
    '/customers/%2e%2e%2fopen',
  ])('%s', async (target) => {
    answerWith('{"a":1}')
    expect((await raw(target)).status).toBe(422)
  })

  test.each(['/restricted/a#x', '/open#', '/restricted\\a', '/restricted%00/a'])('%s is no target', async (target) => {
    const seen = fixture.upstream.seen.length
    expect((await raw(target)).status).toBe(400)
    expect(fixture.upstream.seen).toHaveLength(seen)
  })

  test('a method override does not reach the service', async () => {
    answerWith('{"a":1}')
    await exchange(`${fixture.stack.external}/customers/7`, {
      method: 'POST',
      headers: { 'X-HTTP-Method-Override': 'GET' },
    })
    expect(fixture.upstream.seen.at(-1)?.headers).not.toHaveProperty('x-http-method-override')
  })
})

describe('our own names in another spelling', () => {
  test.each([
    '//.well-known/signet/stamps/x',
    '/.well-known%2fsignet/stamps/x',
    '/x/../.well-known/signet/stamps/x',
    '/.WELL-KNOWN/signet/stamps/x',
    '/data.csv%2estamp.json',
    '/data.csv.STAMP.json',
  ])('%s never reaches the service', async (target) => {
    answerWith('{"approval_status":"approved"}')
    const seen = fixture.upstream.seen.length
    expect((await raw(target)).status).toBe(404)
    expect(fixture.upstream.seen).toHaveLength(seen)
  })
})

describe('a content coding', () => {
  const person = '{"name":"Alice Example","email":"alice@example.com"}'
  const pad = randomBytes(1_200_000)
  test.each([
    { name: 'gzip', type: 'application/json', encoding: 'gzip', body: gzipSync(person) },
    { name: 'two', type: 'application/json', encoding: 'gzip, br', body: brotliCompressSync(gzipSync(person)) },
    {
      name: 'under a type that content tells of',
      type: 'application/octet-stream',
      encoding: 'zstd',
      body: zstdCompressSync(person),
    },
    {
      name: 'text past the buffer that comes small',
      type: 'text/csv',
      encoding: 'gzip',
      body: gzipSync(person.repeat(30_000) + pad.toString('hex', 0, 20_000)),
    },
    {
      name: 'what may be text, past the buffer, whose coded bytes are none',
      type: 'application/octet-stream',
      encoding: 'gzip',
      body: gzipSync(Buffer.concat([Buffer.from(person), Buffer.from(pad.toString('hex'))]), { level: 0 }),
    },
  ])('hides nobody: $name', async ({ type, encoding, body }) => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': type, 'content-encoding': encoding }).end(body)
    for (const accept of ['gzip, br, zstd', 'identity']) {
      const answer = await exchange(`${fixture.stack.external}/open`, { headers: { 'accept-encoding': accept } })
      expect(answer.status).toBe(422)
      expect(answer.body.toString()).not.toContain('alice')
    }
  })
})

describe('a stamp that the service made up', () => {
  const FORGED = '{"a":1,"_compliance":{"approval_status":"approved"}}'
  test.each([
    { name: 'text/plain', headers: { 'content-type': 'text/plain' }, body: FORGED },
    { name: 'octet-stream', headers: { 'content-type': 'application/octet-stream' }, body: FORGED },
    { name: 'a type that is none', headers: { 'content-type': 'json' }, body: FORGED },
    { name: 'lines of JSON', headers: { 'content-type': 'application/x-ndjson' }, body: `{"a":1}\n${FORGED}\n` },
    { name: 'broken JSON', headers: {}, body: FORGED.slice(0, -1) },
  ])('is found in $name', async ({ headers, body }) => {
    answerWith(body, headers)
    const answer = await exchange(`${fixture.stack.external}/forged`)
    expect(answer.status).toBe(422)
    expect(answer.body.toString()).toContain('forged-stamp')
  })

  test('and does not pass where it cannot be taken out, even when the rule is in shadow', async () => {
    await fixture.stack.setPolicyData({ version: 1, modes: { rules: { 'forged-stamp': { mode: 'shadow' } } } })
    answerWith(`{"a":1}\n${FORGED}\n`, { 'content-type': 'application/x-ndjson' })
    await until('the policy data', async () => (await exchange(`${fixture.stack.external}/forged`)).status !== 422)
    expect((await exchange(`${fixture.stack.external}/forged`)).status).toBe(502)
    answerWith(FORGED, { 'content-type': 'text/plain' })
    const stripped = await exchange(`${fixture.stack.external}/forged`)
    expect(stripped.status).toBe(200)
    expect(stripped.body.toString()).toBe('{"a":1}')
    await fixture.stack.setPolicyData({ version: 1 })
    await until('the policy data', async () => (await exchange(`${fixture.stack.external}/forged`)).status === 422)
  })
})

test('what came in as restricted does not go out as public', async () => {
  answerWith('{"a":1}', { 'signet-data-classification': 'restricted' })
  const inside = await exchange(`${fixture.stack.internal}/report`)
  const { stamp } = verifyAnswer(
    fixture.stack,
    inside,
    subjectOf(fixture.stack, { target: '/report', mediaType: 'application/json', channel: 'internal' }),
  )
  expect(stamp.data_classification).toBe('restricted')
  answerWith(inside.body.toString())
  expect((await exchange(`${fixture.stack.external}/copy`)).status).toBe(422)
  const again = await exchange(`${fixture.stack.internal}/copy`)
  const copy = verifyAnswer(
    fixture.stack,
    again,
    subjectOf(fixture.stack, { target: '/copy', mediaType: 'application/json', channel: 'internal' }),
  )
  expect(copy.stamp.data_classification).toBe('restricted')
})

describe('entity tags tell only who got the answer', () => {
  const PERSONAL = '{"email":"ann@mail.example"}'

  test('HEAD gives none for what GET is refused', async () => {
    answerWith(PERSONAL, { etag: '"v1"' })
    expect((await exchange(`${fixture.stack.external}/who`)).status).toBe(422)
    expect((await exchange(`${fixture.stack.external}/who`, { method: 'HEAD' })).headers).not.toHaveProperty('etag')
  })

  test('a tag of the internal channel, or of another resource, is not confirmed outside', async () => {
    answerWith(PERSONAL, { etag: '"v1"' })
    const inside = (await exchange(`${fixture.stack.internal}/who`)).headers['etag'] as string
    fixture.upstream.answer = (request, response) => {
      if (request.headers['if-none-match'] !== undefined) response.writeHead(304, { etag: '"v1"' }).end()
      else response.writeHead(200, { 'content-type': 'application/json', etag: '"v1"' }).end(PERSONAL)
    }
    const probe = (tag: string) => exchange(`${fixture.stack.external}/who`, { headers: { 'If-None-Match': tag } })
    expect((await probe(inside)).status).toBe(422)
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json', etag: '"v1"' }).end('{"a":1}')
    const other = (await exchange(`${fixture.stack.external}/open`)).headers['etag'] as string
    expect(other).toMatch(/^W\/"v1~[0-9a-f]{12}"$/)
    fixture.upstream.answer = (request, response) => {
      if (request.headers['if-none-match'] !== undefined) response.writeHead(304, { etag: '"v1"' }).end()
      else response.writeHead(200, { 'content-type': 'application/json', etag: '"v1"' }).end(PERSONAL)
    }
    expect((await probe(other)).status).toBe(422)
  })
})

describe('personal data and cards, wherever they are', () => {
  const CARD = '4111111111111111'
  test.each([
    { name: 'a redirect target', headers: { location: `/pay?card=${CARD}` } },
    { name: 'a redirect target, encoded', headers: { location: '/p?email=ann%40mail.example' } },
    { name: 'a cookie', headers: { 'set-cookie': ['a=1', `who=ann@mail.example`] } },
    { name: 'a file name', headers: { 'content-disposition': 'attachment; filename="ann@mail.example.txt"' } },
    { name: 'a header of the service', headers: { 'x-owner': 'ann@mail.example' } },
  ])('in the head: $name', async ({ headers }) => {
    answerWith('{"a":1}', headers)
    expect((await exchange(`${fixture.stack.external}/head`)).status).toBe(422)
    expect((await exchange(`${fixture.stack.external}/head`, { method: 'HEAD' })).status).toBe(422)
  })

  test.each([
    'json',
    '*/*',
    'unknown/unknown',
    'application/json, text/html',
    'application/octet-stream',
    'application/vnd.ms-excel',
    'multipart/mixed; boundary=x',
    'image/png',
    'text/plain; charset=utf-7',
    'text/plain; charset=iso-2022-jp',
  ])('under the content type %s', async (type) => {
    answerWith(`{"email":"ann@mail.example","card":"${CARD}"}`, { 'content-type': type })
    expect((await exchange(`${fixture.stack.external}/typed`)).status).toBe(422)
  })

  test.each([
    { name: 'binary from its start', start: Buffer.from([0, 1, 2, 3]), want: 200 },
    { name: 'text, as far as it was held', start: Buffer.from('id;who\\n'), want: 422 },
    {
      name: 'text that is cut within a character',
      start: Buffer.from('\u00e9\u20ac\u{1f600}'.repeat(120_000) + 'x'),
      want: 422,
    },
  ])('past the buffer, under a type that says nothing: $name', async ({ start, want }) => {
    const body = Buffer.concat([start, Buffer.alloc(2_000_000, 0x61)])
    for (const length of [body.length, null]) {
      fixture.upstream.answer = (_request, response) => {
        response.writeHead(200, {
          'content-type': 'application/octet-stream',
          ...(length === null ? {} : { 'content-length': length }),
        })
        response.end(body)
      }
      const answer = await exchange(`${fixture.stack.external}/large`)
      expect(answer.status).toBe(want)
      if (want === 200) expect(answer.body.equals(body)).toBe(true)
    }
  })

  test('a real image passes, and so do an ordinary head and a session cookie', async () => {
    fixture.upstream.answer = (_request, response) =>
      response
        .writeHead(200, {
          'content-type': 'image/png',
          'set-cookie': 'sid=s%3A7f3c0a2b4d5e6f708192a3b4c5d6e7f8.1733356800000; Path=/; HttpOnly',
          'x-request-start': 't=1764036863123456',
          'x-trace': '4bf92f3577b34da6a3ce929d0e0e4736',
          location: '/orders/1234567890123456/items?page=2',
        })
        .end(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, 1, 2, 3, 0xff]))
    expect((await exchange(`${fixture.stack.external}/real.png`)).status).toBe(200)
  })
})

test('Connection cannot take the media type away that was judged', async () => {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'image/png', connection: 'content-type, keep-alive' }).end('x')
  expect((await exchange(`${fixture.stack.external}/image`)).headers['content-type']).toBe('image/png')
})

test.each([
  { name: 'a status that HTTP does not have', answer: 'HTTP/1.1 999 Odd', want: 502 },
  {
    name: 'an asset id past its length',
    header: { 'signet-lineage-source-assets': `urn:${'x'.repeat(3000)}@sha256:${'a'.repeat(64)}` },
    want: 200,
  },
  {
    name: 'a lineage timestamp far ahead',
    header: { 'signet-lineage-timestamp-utc': '2999-01-01T00:00:00.000Z' },
    want: 200,
  },
  { name: 'a classification that is none', header: { 'signet-data-classification': 'restricted ?' }, want: 422 },
])('faults of the service are not the client\u2019s: $name', async ({ answer, header, want }) => {
  fixture.upstream.answer = (_request, response) => {
    if (answer !== undefined) response.writeHead(999, 'Odd').end('x')
    else response.writeHead(200, { 'content-type': 'application/json', ...header }).end('{"a":1}')
  }
  const given = await exchange(`${fixture.stack.external}/fault`)
  expect(given.status).toBe(want)
  // A refusal repeats no header of the answer that it takes the place of.
  expect(given.body.toString()).not.toContain('restricted ?')
})
