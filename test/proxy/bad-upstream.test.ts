import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import { rawRequest } from '#test/support/raw-request.ts'
import { PASS_RULE, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'
import { startRawUpstream } from '#test/support/upstream.ts'

/** A service that says what it should not, or nothing. */
let fixture: ProxyFixture
let raw: Awaited<ReturnType<typeof startRawUpstream>>
let say: (socket: Socket, head: string) => void = () => {}
beforeAll(async () => {
  raw = await startRawUpstream((socket, head) => say(socket, head))
  fixture = await startProxyFixture({
    upstream: raw.url,
    rules: [PASS_RULE],
    env: { SIGNET_UPSTREAM_HEADERS_TIMEOUT_MS: '1500', SIGNET_UPSTREAM_BODY_TIMEOUT_MS: '1500' },
  })
})
afterAll(async () => {
  await fixture.stop()
  await raw.close()
})

const HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n'

type Problem = {
  code: string
  request_id: string
  request_effect: string
  upstream_status: number | null
  violations: unknown[]
}

async function expectProblem(answer: HttpAnswer, status: number, code: string): Promise<Problem> {
  expect(answer.status).toBe(status)
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(answer.headers['cache-control']).toBe('no-store')
  expect(answer.body.toString()).not.toContain('CANARY')
  const problem = JSON.parse(answer.body.toString()) as Problem
  expect(problem).toMatchObject({ code, violations: [] })
  const [event] = await fixture.events(problem.request_id)
  expect(event).toMatchObject({
    event_type: 'egress.failed',
    action: 'fail',
    outcome: 'error',
    stamp_hash: null,
    context: { error: code },
  })
  return problem
}

describe('before anything has left', () => {
  test.each([
    { name: 'no HTTP at all', bytes: 'SSH-2.0-OpenSSH_9.7\r\n' },
    { name: 'a broken status line', bytes: 'HTTP/1.1 abc\r\n\r\n' },
    { name: 'a broken header', bytes: `${HEAD}X\r\n\r\nCANARY` },
    { name: 'obs-fold', bytes: `${HEAD}X-A: 1\r\n CANARY\r\nContent-Length: 2\r\n\r\n{}` },
    {
      name: 'a length and chunks',
      bytes: `${HEAD}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
    },
    { name: 'two lengths', bytes: `${HEAD}Content-Length: 2\r\nContent-Length: 8\r\n\r\n{}CANARY` },
    { name: 'a broken chunk size', bytes: `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n` },
    { name: 'a body cut short of its length', bytes: `${HEAD}Content-Length: 100\r\n\r\n{"CANARY":1}` },
    { name: 'chunks without an end', bytes: `${HEAD}Transfer-Encoding: chunked\r\n\r\nc\r\n{"CANARY":1}\r\n` },
    {
      name: 'a header flood',
      bytes: `${HEAD}${`X-A: ${'a'.repeat(1000)}\r\n`.repeat(100)}Content-Length: 2\r\n\r\n{}`,
    },
    {
      name: '101 out of nowhere',
      bytes: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nCANARY',
    },
    { name: 'nothing but a 1xx', bytes: 'HTTP/1.1 103 Early Hints\r\n\r\n' },
    { name: 'a closed connection', bytes: '' },
    { name: 'half a head', bytes: 'HTTP/1.1 200 OK\r\nContent-' },
  ])('$name: 502', async ({ bytes }) => {
    say = (socket) => socket.end(bytes, 'latin1')
    await expectProblem(await exchange(`${fixture.stack.external}/bad`), 502, 'UPSTREAM_INVALID')
  })

  test.each([
    { name: 'at once', first: '' },
    { name: 'in the middle of the body', first: `${HEAD}Content-Length: 100\r\n\r\n{"CANARY":1` },
  ])('a reset $name: 502', async ({ first }) => {
    say = (socket) => {
      if (first === '') socket.resetAndDestroy()
      else socket.write(first, () => setTimeout(() => socket.resetAndDestroy(), 50))
    }
    await expectProblem(await exchange(`${fixture.stack.external}/reset`), 502, 'UPSTREAM_INVALID')
  })

  test.each([
    { name: 'no answer', first: '' },
    { name: 'a body that does not go on', first: `${HEAD}Content-Length: 100\r\n\r\n{"CANARY":1` },
  ])('$name in time: 504', async ({ first }) => {
    say = (socket) => void (first !== '' && socket.write(first))
    const problem = await expectProblem(await exchange(`${fixture.stack.external}/slow`), 504, 'UPSTREAM_TIMEOUT')
    expect(problem.upstream_status).toBe(first === '' ? null : 200)
  })

  test.each([
    { method: 'GET', first: '', want: 'none' },
    { method: 'POST', first: '', want: 'unknown' },
    { method: 'POST', first: `${HEAD}Content-Length: 9\r\n\r\nx`, want: 'completed' },
    { method: 'POST', first: `HTTP/1.1 500 E\r\nContent-Length: 9\r\n\r\nx`, want: 'unknown' },
  ])('what became of the request: $method', async ({ method, first, want }) => {
    say = (socket) => socket.end(first)
    const answer = await exchange(`${fixture.stack.external}/effect`, {
      method,
      ...(method === 'POST' ? { body: 'hello' } : {}),
    })
    expect((await expectProblem(answer, 502, 'UPSTREAM_INVALID')).request_effect).toBe(want)
  })

  test('an idle connection that the service closed is not noticed by the client', async () => {
    let count = 0
    say = (socket) => {
      count += 1
      if (count === 2) socket.destroy()
      else socket.write(`${HEAD}Content-Length: 2\r\n\r\n{}`)
    }
    expect((await exchange(`${fixture.stack.external}/1`)).status).toBe(200)
    expect((await exchange(`${fixture.stack.external}/2`)).status).toBe(200)
    expect(count).toBe(3)
  })

  test('a GET with a body is not sent twice', async () => {
    let count = 0
    say = (socket) => {
      count += 1
      socket.destroy()
    }
    const answer = await exchange(`${fixture.stack.external}/once`, {
      method: 'GET',
      headers: { 'content-length': 5 },
      body: 'hello',
    })
    await expectProblem(answer, 502, 'UPSTREAM_INVALID')
    expect(count).toBe(1)
  })
})

describe('a service that answers before it has read the request', () => {
  const BODY = Buffer.alloc(20_000_000, 'x')

  test.each([
    { name: 'and closes', end: true },
    { name: 'and leaves the connection open', end: false },
  ])('$name: the client gets the answer', async ({ end }) => {
    say = (socket) => {
      const answer =
        `HTTP/1.1 413 Payload Too Large\r\nContent-Type: application/json\r\nContent-Length: 13\r\n${end ? 'Connection: close\r\n' : ''}\r\n{"error":"no"}`.slice(
          0,
          -1,
        )
      if (end) socket.end(answer)
      else socket.write(answer)
    }
    const answer = await exchange(`${fixture.stack.external}/upload`, { method: 'POST', body: BODY })
    expect(answer.status).toBe(413)
    expect(answer.headers['compliance-stamp']).toBeDefined()
  })

  test('and breaks off: 502, on a connection that stays usable', async () => {
    say = (socket, head) => {
      if (head.startsWith('POST')) socket.resetAndDestroy()
      else socket.end(`${HEAD}Content-Length: 2\r\n\r\n{}`)
    }
    const body = 'x'.repeat(300_000)
    const answer = await rawRequest(
      fixture.stack.external,
      `POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    )
    expect(answer.text).toMatch(/^HTTP\/1\.1 502 [\s\S]*HTTP\/1\.1 200 OK/)
  })
})

describe('after the first byte has left', () => {
  const FIRST = Buffer.alloc(1_200_000, 'y')
  test.each([
    { name: 'a reset', next: (socket: Socket) => socket.resetAndDestroy(), wantError: 'UPSTREAM_INVALID' },
    { name: 'an end before the end', next: (socket: Socket) => socket.end(), wantError: 'UPSTREAM_INVALID' },
    { name: 'a broken chunk', next: (socket: Socket) => socket.end('zz\r\n'), wantError: 'UPSTREAM_INVALID' },
    { name: 'nothing more', next: () => {}, wantError: 'UPSTREAM_TIMEOUT' },
  ])('$name cuts the answer, which is audited and never stamped', async ({ next, wantError }) => {
    say = (socket) => {
      socket.write(
        `HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n${FIRST.length.toString(16)}\r\n`,
      )
      socket.write(FIRST)
      socket.write('\r\n')
      setTimeout(() => next(socket), 300)
    }
    const missing = await fixture.stack.sample('stamps_missing_total{tenant="acme",reason="aborted"}')
    const answer = await exchange(`${fixture.stack.external}/stream`, { headers: { te: 'trailers' } })
    expect(answer.status).toBe(200)
    expect(answer.complete).toBe(false)
    expect(answer.trailers).toEqual({})
    const requestId = /requests\/([0-9a-f-]+)/.exec(String(answer.headers['link']))?.[1] as string
    const [, aborted] = await fixture.events(requestId, 2)
    expect(aborted).toMatchObject({
      event_type: 'egress.aborted',
      action: 'abort',
      outcome: 'error',
      stamp_hash: null,
      context: { error: wantError },
    })
    expect(await fixture.stack.sample('stamps_missing_total{tenant="acme",reason="aborted"}')).toBe(missing + 1)
    expect((await exchange(`${fixture.stack.external}/.well-known/signet/requests/${requestId}`)).status).toBe(404)
  })

  test('a client that takes nothing is cut off', async () => {
    let closed = false
    say = (socket) => {
      socket.once('close', () => (closed = true))
      socket.write('HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 500000000\r\n\r\n')
      const more = (): void => {
        while (!socket.destroyed && socket.write(FIRST));
      }
      socket.on('drain', more)
      more()
    }
    const { hostname, port } = new URL(fixture.stack.external)
    const { connect } = await import('node:net')
    const client = connect(Number(port), hostname)
    client.on('error', () => {})
    client.pause()
    client.write('GET /stalled HTTP/1.1\r\nHost: x\r\n\r\n')
    await until('the exchange', async () => (await fixture.stack.sample('signet_in_flight')) === 1)
    await until(
      'the exchange to be cut',
      async () => closed && (await fixture.stack.sample('signet_in_flight')) === 0,
      20_000,
    )
    client.destroy()
  })
})

test('a service that cannot be reached: 502, also for a request with a body; it recovers', async () => {
  await raw.close()
  for (const options of [{}, { method: 'POST', body: 'x'.repeat(500_000) }, { method: 'POST', body: 'small' }]) {
    const problem = await expectProblem(
      await exchange(`${fixture.stack.external}/down`, options),
      502,
      'UPSTREAM_UNREACHABLE',
    )
    expect(problem).toMatchObject({ request_effect: 'none', upstream_status: null })
  }
  expect(await fixture.stack.sample('signet_upstream_errors_total{code="UPSTREAM_UNREACHABLE"}')).toBe(3)
})

test('the process is the same, and nothing is left in flight', async () => {
  expect(fixture.stack.child.exitCode).toBeNull()
  await until('nothing in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
  expect(await fixture.stack.sample('signet_buffered_bytes')).toBe(0)
})
