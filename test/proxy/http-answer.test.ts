import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange, headerNames, headerValues } from '#test/support/http-exchange.ts'
import { rawRequest } from '#test/support/raw-request.ts'
import { startRawUpstream } from '#test/support/upstream.ts'
import {
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  subjectOf,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

/** What `docs/reference/http.md` says of answers under enforce. */
let fixture: ProxyFixture
let raw: Awaited<ReturnType<typeof startRawUpstream>>
let rawAnswer = ''
beforeAll(async () => {
  raw = await startRawUpstream((socket) => socket.end(rawAnswer, 'latin1'))
  fixture = await startProxyFixture()
})
afterAll(async () => {
  await fixture.stop()
  await raw.close()
})

function answerWith(headers: Record<string, string | string[]>, body = '{"a":1}', status = 200): void {
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(body)
}

test.each([
  'digest',
  'content-digest',
  'repr-digest',
  'content-md5',
  'signature',
  'signature-input',
  'alt-svc',
  'signet-data-classification',
  'proxy-authenticate',
  'keep-alive',
])('%s is removed', async (name) => {
  answerWith({ [name]: 'public', 'x-kept': '1' })
  const answer = await exchange(`${fixture.stack.external}/h`)
  expect(answer.status).toBe(200)
  expect(headerNames(answer)).not.toContain(name)
  expect(answer.headers['x-kept']).toBe('1')
})

test('fields that Connection names are removed, all others keep their order and number', async () => {
  answerWith({
    connection: 'close, X-Hop',
    'x-hop': '1',
    'set-cookie': ['a=1', 'b=2; Path=/'],
    'x-two': ['1', '2'],
    link: ['</a>; rel="x"', '</b>; rel="y"'],
  })
  const answer = await exchange(`${fixture.stack.external}/h`)
  expect(answer.headers['x-hop']).toBeUndefined()
  expect(headerValues(answer, 'set-cookie')).toEqual(['a=1', 'b=2; Path=/'])
  expect(headerValues(answer, 'x-two')).toEqual(['1', '2'])
  expect(headerValues(answer, 'link').slice(0, 2)).toEqual(['</a>; rel="x"', '</b>; rel="y"'])
})

test('Accept-Ranges becomes none, and is not invented', async () => {
  answerWith({ 'accept-ranges': 'bytes' })
  expect((await exchange(`${fixture.stack.external}/r`)).headers['accept-ranges']).toBe('none')
})

test.each([
  { name: 'without CORS nothing is exposed', headers: {}, want: undefined },
  { name: 'with CORS our fields are', headers: { 'access-control-allow-origin': '*' }, want: 'Compliance-Stamp, Link' },
  {
    name: 'beside the service’s own',
    headers: { 'access-control-expose-headers': 'X-A' },
    want: 'X-A, Compliance-Stamp, Link',
  },
  { name: 'a wildcard stays', headers: { 'access-control-expose-headers': '*' }, want: '*' },
])('CORS: $name', async ({ headers, want }) => {
  answerWith(headers)
  expect((await exchange(`${fixture.stack.external}/c`)).headers['access-control-expose-headers']).toBe(want)
})

test('bytes of a header beyond ASCII stay as they are', async () => {
  fixture.upstream.answer = (_request, response) => {
    response
      .writeHead(200, {
        'content-type': 'text/csv',
        'content-disposition': Buffer.from('attachment; filename="日本é.csv"').toString('latin1'),
      })
      .end('a\n')
  }
  const answer = await exchange(`${fixture.stack.external}/f`)
  expect(Buffer.from(String(answer.headers['content-disposition']), 'latin1').toString()).toBe(
    'attachment; filename="日本é.csv"',
  )
})

test('an HTTP/1.0 client gets no chunks and no trailers', async () => {
  answerWith({}, '[1]')
  const small = await rawRequest(fixture.stack.external, 'GET /o HTTP/1.0\r\n\r\n')
  expect(small.status).toBe(200)
  expect(small.headers['transfer-encoding']).toBeUndefined()
  expect(small.body.toString()).toBe('[1]')
  fixture.upstream.answer = (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/plain' })
    response.write('x'.repeat(1_500_000))
    response.end('end')
  }
  const large = await rawRequest(fixture.stack.external, 'GET /o HTTP/1.0\r\nTE: trailers\r\n\r\n')
  expect(large.headers['transfer-encoding']).toBeUndefined()
  expect(large.headers['trailer']).toBeUndefined()
  expect(large.body.length).toBe(1_500_003)
  expect(large.closed).toBe('end')
})

test('keep-alive: several exchanges on one connection, a body on the first', async () => {
  answerWith({}, '[1]')
  const answer = await rawRequest(
    fixture.stack.external,
    'POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
  )
  expect(answer.text.match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2)
  expect(fixture.upstream.seen.slice(-2).map(({ url }) => url)).toEqual(['/1', '/2'])
})

describe('with a service that speaks raw HTTP', () => {
  let own: ProxyFixture
  beforeAll(async () => {
    own = await startProxyFixture({ upstream: raw.url })
  })
  afterAll(() => own.stop())

  test.each([
    { name: '103 Early Hints', before: 'HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n' },
    { name: '102 Processing, twice', before: 'HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n' },
  ])('1xx answers are dropped: $name', async ({ before }) => {
    rawAnswer = `${before}HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}`
    const answer = await exchange(`${own.stack.external}/1xx`)
    expect(answer.status).toBe(200)
    expect(answer.headers['link']).not.toContain('preload')
    verifyAnswer(own.stack, answer, subjectOf(own.stack, { target: '/1xx', mediaType: 'application/json' }))
  })

  test('a 100 that nobody asked for breaks the exchange off: undici takes it for a fault', async () => {
    rawAnswer = 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'
    expect((await exchange(`${own.stack.external}/100`)).status).toBe(502)
  })

  test('trailers of the service are not passed on', async () => {
    rawAnswer =
      'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Leak\r\n\r\n2\r\nhi\r\n0\r\nX-Leak: secret\r\n\r\n'
    const answer = await exchange(`${own.stack.external}/t`, { headers: { te: 'trailers' } })
    expect(answer.body.toString()).toBe('hi')
    expect(answer.trailers).toEqual({})
    expect(answer.headers['trailer']).toBeUndefined()
  })

  test.each([
    { name: 'until the connection closes', rest: 'Connection: close\r\n\r\n{"a":1}' },
    { name: 'by HTTP/1.0', version: '1.0', rest: '\r\n{"a":1}' },
  ])('a body that ends $name', async ({ version = '1.1', rest }) => {
    rawAnswer = `HTTP/${version} 200 OK\r\nContent-Type: application/json\r\n${rest}`
    const answer = await exchange(`${own.stack.external}/close`)
    expect(
      verifyAnswer(
        own.stack,
        answer,
        subjectOf(own.stack, { target: '/close', mediaType: 'application/json' }),
      ).payload.toString(),
    ).toBe('{"a":1}')
  })

  test('a media type said twice cannot be judged', async () => {
    rawAnswer =
      'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}'
    const answer = await exchange(`${own.stack.external}/two`)
    expect(answer.status).toBe(502)
    expect(answer.body.toString()).not.toContain('"a"')
  })

  test.each([
    {
      name: 'Cache-Control',
      lines: 'Cache-Control: max-age=1\r\nCache-Control: no-transform',
      wantHeader: 'cache-control',
      want: 'max-age=1, no-transform',
    },
    { name: 'ETag', lines: 'ETag: "a"\r\nETag: "b"', wantHeader: 'etag', want: undefined },
    { name: 'Vary', lines: 'Vary: A\r\nVary: B', wantHeader: 'vary', want: 'A, B' },
  ])('$name said twice is joined or left out', async ({ lines, wantHeader, want }) => {
    rawAnswer = `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n${lines}\r\nContent-Length: 7\r\n\r\n{"a":1}`
    const answer = await exchange(`${own.stack.external}/twice`)
    expect(answer.status).toBe(200)
    expect(answer.headers[wantHeader]).toBe(want)
  })
})

describe('where a rule reads caller facts', () => {
  let own: ProxyFixture
  beforeAll(async () => {
    own = await startProxyFixture({
      rules: [PASS_RULE, refusingRule('no-guests', 'input.request.caller.subject == "guest"')],
      env: { SIGNET_TRUSTED_INGRESS: '127.0.0.0/8' },
    })
  })
  afterAll(() => own.stop())

  test.each([
    { name: 'no fields', headers: {}, wantCache: 'private', wantVary: 'Authorization' },
    {
      name: 'a shared cache',
      headers: { 'cache-control': 'public, max-age=60, s-maxage=600', vary: 'Accept' },
      wantCache: 'private, max-age=60',
      wantVary: 'Accept, Authorization',
    },
  ])('the answer is for that caller: $name', async ({ headers, wantCache, wantVary }) => {
    own.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json', ...headers }).end('{"a":1}')
    const answer = await exchange(`${own.stack.external}/c`, { headers: { 'signet-caller-subject': 'alice' } })
    expect(answer.headers).toMatchObject({ 'cache-control': wantCache, vary: wantVary })
    expect(own.upstream.seen.at(-1)?.headers['signet-caller-subject']).toBeUndefined()
    const guest = await exchange(`${own.stack.external}/c`, { headers: { 'signet-caller-subject': 'guest' } })
    expect(guest.status).toBe(422)
    const problem = JSON.parse(guest.body.toString()) as { request_id: string }
    expect((await own.events(problem.request_id))[0]?.actor).toBe('guest')
  })
})
