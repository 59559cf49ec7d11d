import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { rawRequest } from '#test/support/raw-request.ts'
import {
  digestOf,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

/** What `docs/reference/http.md` says of requests, line by line. */
let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
})
afterAll(() => fixture.stop())

function seen() {
  const last = fixture.upstream.seen.at(-1)
  if (last === undefined) throw new Error('the service was not asked')
  return last
}

async function sent(headers: Record<string, string | string[]>, target = '/r') {
  const answer = await exchange(fixture.stack.external + target, { headers })
  expect(answer.status).toBe(200)
  return seen().headers
}

function expectFields(found: NodeJS.Dict<string | string[]>, want: NodeJS.Dict<string>): void {
  expect(Object.fromEntries(Object.keys(want).map((name) => [name, found[name]]))).toEqual(want)
}

describe('under enforce', () => {
  test.each([
    {
      name: 'Accept-Encoding',
      headers: { 'accept-encoding': 'gzip, deflate, x' },
      want: { 'accept-encoding': 'gzip' },
    },
    {
      name: 'Range',
      headers: { range: 'bytes=0-1', 'if-range': '"x"' },
      want: { range: undefined, 'if-range': undefined },
    },
    {
      name: 'If-Modified-Since',
      headers: { 'if-modified-since': 'Wed, 25 Nov 2026 01:00:00 GMT' },
      want: { 'if-modified-since': undefined },
    },
    {
      name: 'If-None-Match of another revision',
      headers: { 'if-none-match': 'W/"x~0123456789ab", "y"' },
      want: { 'if-none-match': undefined },
    },
    { name: 'If-None-Match: *', headers: { 'if-none-match': '*' }, want: { 'if-none-match': undefined } },
    { name: 'If-Match', headers: { 'if-match': 'W/"x~0123456789ab", "y"' }, want: { 'if-match': '"x", "y"' } },
    { name: 'If-Match: *', headers: { 'if-match': '*' }, want: { 'if-match': '*' } },
    {
      name: 'hop-by-hop fields',
      headers: { te: 'trailers', 'keep-alive': 'x', 'proxy-authorization': 'x', 'proxy-connection': 'x', upgrade: 'x' },
      want: {
        te: undefined,
        'keep-alive': undefined,
        'proxy-authorization': undefined,
        'proxy-connection': undefined,
        upgrade: undefined,
      },
    },
    {
      name: 'fields that Connection names',
      headers: { connection: 'close, X-Secret', 'x-secret': '1', 'x-kept': '2' },
      want: { 'x-secret': undefined, 'x-kept': '2' },
    },
    {
      name: 'Signet-*',
      headers: { 'signet-caller-subject': 'root', 'Signet-Anything': 'x' },
      want: { 'signet-caller-subject': undefined, 'signet-anything': undefined },
    },
    {
      name: 'X-Forwarded-*',
      headers: { 'x-forwarded-for': '192.0.2.7', 'x-forwarded-proto': 'gopher' },
      want: { 'x-forwarded-for': '192.0.2.7, 127.0.0.1', 'x-forwarded-proto': 'http' },
    },
    {
      name: 'everything else',
      headers: { authorization: 'Bearer x', cookie: 'a=1; b=2', 'x-custom': 'ä', accept: 'a/b' },
      want: { authorization: 'Bearer x', cookie: 'a=1; b=2', 'x-custom': 'ä', accept: 'a/b' },
    },
  ])('$name', async ({ headers, want }) => {
    expectFields(await sent(headers), want)
  })

  test('X-Request-Id and traceparent are ours; a client’s trace is not continued', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    const answer = await exchange(`${fixture.stack.external}/t`, { headers: { traceparent, 'x-request-id': 'mine' } })
    const { stamp } = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/t', mediaType: 'application/json' }),
    )
    expect(seen().headers['x-request-id']).toBe(stamp.data_lineage.request_id)
    expect(seen().headers['traceparent']).toMatch(new RegExp(`^00-${stamp.data_lineage.trace_id}-[0-9a-f]{16}-01$`))
    expect(stamp.data_lineage.trace_id).not.toBe('0af7651916cd43dd8448eb211c80319c')
  })

  test('who asks is nobody’s own claim: without a trusted ingress everybody is anonymous', async () => {
    const answer = await exchange(`${fixture.stack.external}/who`, { headers: { 'signet-caller-subject': 'root' } })
    const { stamp } = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/who', mediaType: 'application/json' }),
    )
    expect((await fixture.events(stamp.data_lineage.request_id))[0]?.actor).toBe('anonymous')
  })

  test('on the internal channel a client’s trace is continued', async () => {
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
    await exchange(`${fixture.stack.internal}/t`, { headers: { traceparent } })
    expect(seen().headers['traceparent']).toMatch(
      /^00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/,
    )
    await exchange(`${fixture.stack.internal}/t`, {
      headers: { traceparent: '00-00000000000000000000000000000000-b7ad6b7169203331-01' },
    })
    expect(seen().headers['traceparent']).toMatch(/^00-(?!0{32})[0-9a-f]{32}-/)
  })

  test('Expect: 100-continue is answered here', async () => {
    const answer = await rawRequest(
      fixture.stack.external,
      'POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody',
    )
    expect(answer.text).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
    expect(seen()).toMatchObject({ method: 'POST', body: Buffer.from('body') })
    expect(seen().headers.expect).toBeUndefined()
  })

  test('an absolute-form target is sent in origin form, and stamped as that', async () => {
    const answer = await rawRequest(
      fixture.stack.external,
      'GET http://other.example/abs?q=1 HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n',
    )
    expect(answer.status).toBe(200)
    expect(seen().url).toBe('/abs?q=1')
    expect(answer.text).toContain(digestOf('/abs?q=1'))
  })

  test('an absolute-form target cannot step around the reserved prefix', async () => {
    const before = fixture.upstream.seen.length
    const answer = await rawRequest(
      fixture.stack.external,
      'GET http://x/.well-known/signet/other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    )
    expect(answer.status).toBe(404)
    expect(fixture.upstream.seen.length).toBe(before)
  })

  test('OPTIONS * is refused: it asks about no resource of the service', async () => {
    const answer = await rawRequest(
      fixture.stack.external,
      'OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    )
    expect(answer.status).toBe(400)
    expect(answer.headers['content-type']).toEqual(['application/problem+json'])
  })

  test('Upgrade is not passed on, CONNECT is refused', async () => {
    const answer = await rawRequest(
      fixture.stack.external,
      'GET /u HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n',
    )
    expect(answer.status).toBe(200)
    expect(seen().headers.upgrade).toBeUndefined()
    const before = fixture.upstream.seen.length
    const connect = await rawRequest(fixture.stack.external, 'CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n')
    expect(connect.status).not.toBe(200)
    expect(fixture.upstream.seen.length).toBe(before)
  })

  test.each([
    {
      name: 'Content-Length',
      request: 'POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello',
    },
    {
      name: 'chunked',
      request:
        'POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: t\r\n\r\n',
    },
  ])('a request body passes whole: $name', async ({ request }) => {
    expect((await rawRequest(fixture.stack.external, request)).status).toBe(200)
    expect(seen().body.toString()).toBe('hello')
  })

  test('a large request body passes whole', async () => {
    const body = Buffer.alloc(5_000_000, 'x')
    expect((await exchange(`${fixture.stack.external}/big`, { method: 'POST', body })).status).toBe(200)
    expect(seen().body.equals(body)).toBe(true)
  })
})

test('under shadow and off, conditions, ranges and encodings pass', async () => {
  const headers = {
    'accept-encoding': 'gzip',
    range: 'bytes=0-1',
    'if-range': '"x"',
    'if-none-match': '"y"',
    'if-modified-since': 'z',
    'if-match': '"m"',
  }
  for (const mode of ['shadow', 'off']) {
    await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { acme: { mode } } } })
    await until(mode, async () => (await sent(headers)).range === 'bytes=0-1')
    expectFields(await sent({ ...headers, 'signet-caller-subject': 'root', te: 'trailers' }), {
      ...headers,
      'signet-caller-subject': undefined,
      te: undefined,
    })
  }
})
