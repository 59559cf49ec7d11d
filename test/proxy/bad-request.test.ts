import net from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { rawRequest } from '#test/support/raw-request.ts'
import { startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
})
afterAll(() => fixture.stop())

async function send(request: string) {
  const before = fixture.upstream.seen.length
  const answer = await rawRequest(fixture.stack.external, Buffer.from(request, 'latin1'), 3_000)
  return { answer, asked: fixture.upstream.seen.slice(before) }
}

describe('what is not well-formed is refused, and never reaches the service', () => {
  test.each([
    {
      name: 'Content-Length and Transfer-Encoding',
      request:
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
    },
    {
      name: 'Transfer-Encoding and Content-Length',
      request:
        'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
    },
    {
      name: 'two lengths',
      request:
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nabcdGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n',
    },
    {
      name: 'the same length twice',
      request: 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\nConnection: close\r\n\r\nabcd',
    },
    { name: 'a list of lengths', request: 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nabcd' },
    { name: 'a signed length', request: 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nabcd' },
    {
      name: 'a length that overflows',
      request: `POST / HTTP/1.1\r\nHost: x\r\nContent-Length: ${'9'.repeat(30)}\r\n\r\nabcd`,
    },
    {
      name: 'an unknown transfer coding',
      request: 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n',
    },
    {
      name: 'chunked that is not last',
      request: 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n',
    },
    {
      name: 'a broken chunk size',
      request: 'POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n',
    },
    { name: 'obs-fold', request: 'GET / HTTP/1.1\r\nHost: x\r\nX-A: 1\r\n folded\r\nConnection: close\r\n\r\n' },
    { name: 'a space before the colon', request: 'GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 5\r\n\r\nhello' },
    { name: 'bare line feeds', request: 'GET / HTTP/1.1\nHost: x\nConnection: close\n\n' },
    { name: 'a bare carriage return in a value', request: 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\rb\r\n\r\n' },
    { name: 'NUL in a value', request: 'GET / HTTP/1.1\r\nHost: x\r\nX-A: a\0b\r\n\r\n' },
    { name: 'a header without a name', request: 'GET / HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n' },
    { name: 'no Host', request: 'GET / HTTP/1.1\r\nConnection: close\r\n\r\n' },
    { name: 'two Hosts', request: 'GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n' },
    { name: 'an unknown method', request: 'SMUGGLE / HTTP/1.1\r\nHost: x\r\n\r\n' },
    { name: 'a lower-case method', request: 'get / HTTP/1.1\r\nHost: x\r\n\r\n' },
    { name: 'a space in the target', request: 'GET /a b HTTP/1.1\r\nHost: x\r\n\r\n' },
    { name: 'no target', request: 'GET HTTP/1.1\r\nHost: x\r\n\r\n' },
    { name: 'a target that is no path', request: 'GET a/b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' },
    { name: 'a broken escape in the target', request: 'GET /%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' },
    { name: 'another protocol', request: 'GET / HTTP/3.7\r\nHost: x\r\n\r\n' },
    { name: 'HTTP/2 out of nowhere', request: 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' },
    { name: 'TLS', request: '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' },
    { name: 'noise', request: '\xff\xfe\xfd\r\n\r\n' },
  ])('$name', async ({ request }) => {
    const { answer, asked } = await send(request)
    expect(asked.map(({ url }) => url)).toEqual([])
    expect(answer.closed).not.toBe('timeout')
    expect(answer.status === 0 || (answer.status >= 400 && answer.status < 500), answer.statusLine).toBe(true)
    expect(answer.text).not.toContain('"a":1')
  })
})

describe('what is odd is passed on as one request', () => {
  test.each([
    {
      name: 'a body on GET',
      request:
        'GET /one HTTP/1.1\r\nHost: x\r\nContent-Length: 31\r\nConnection: close\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n',
    },
    { name: 'escapes and dots', request: 'GET /one/%2e%2e/..;/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' },
    { name: 'two slashes', request: 'GET //evil.example/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' },
    {
      name: 'a target of 16 KB',
      request: `GET /${'a'.repeat(16_000)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    },
    { name: 'an empty value', request: 'GET /one HTTP/1.1\r\nHost: x\r\nX-A:\r\nConnection: close\r\n\r\n' },
  ])('$name', async ({ request }) => {
    const { answer, asked } = await send(request)
    expect(asked).toHaveLength(1)
    expect(asked[0]?.url).toBe(request.split(' ')[1])
    expect(answer.status).toBe(200)
  })
})

describe('header floods', () => {
  test.each([
    { name: 'one large field', fields: `X-A: ${'a'.repeat(40_000)}\r\n` },
    { name: 'many fields', fields: 'X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1_500) },
    { name: 'a large target', fields: '', target: `/${'a'.repeat(40_000)}` },
  ])('are answered with 431: $name', async ({ fields, target = '/' }) => {
    const { answer, asked } = await send(`GET ${target} HTTP/1.1\r\nHost: x\r\n${fields}\r\n`)
    expect(asked).toHaveLength(0)
    expect(answer.status).toBe(431)
    expect(answer.headers['content-type']).toEqual(['application/problem+json'])
  })
})

test('a pipelined request that is not well-formed does not disturb the answer before it', async () => {
  const { answer, asked } = await send('GET /first HTTP/1.1\r\nHost: x\r\n\r\nBROKEN\r\n\r\n')
  expect(asked.length).toBeLessThanOrEqual(1)
  expect(answer.text.match(/HTTP\/1\.1 /g)?.length ?? 0).toBeLessThanOrEqual(2)
  expect(answer.closed).not.toBe('timeout')
})

describe('a client that goes away', () => {
  test.each([
    { name: 'before the service answers', request: 'GET /gone HTTP/1.1\r\nHost: x\r\n\r\n' },
    { name: 'in the middle of its body', request: 'POST /gone HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc' },
  ])('$name: the service is let go', async ({ request }) => {
    const { hostname, port } = new URL(fixture.stack.external)
    const socket = net.connect(Number(port), hostname)
    socket.on('error', () => {})
    fixture.upstream.answer = () => {}
    socket.write(request)
    await until('the exchange to begin', async () => (await fixture.stack.sample('signet_in_flight')) === 1)
    socket.resetAndDestroy()
    await until('the exchange to end', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
  })
})

test('a request that does not arrive in time is answered with 408', async () => {
  await fixture.stack.kill()
  fixture.stack = await fixture.stack.restart({ SIGNET_REQUEST_TIMEOUT_MS: '1000' })
  await fixture.stack.ready()
  const answer = await rawRequest(
    fixture.stack.external,
    'POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc',
    45_000,
  )
  expect(answer.closed).not.toBe('timeout')
  expect(answer.status).toBe(408)
}, 60_000)

test('the process answers, and nothing is left in flight', async () => {
  expect((await exchange(`${fixture.stack.external}/end`)).status).toBe(200)
  await until('nothing in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
  expect(fixture.stack.child.exitCode).toBeNull()
})
