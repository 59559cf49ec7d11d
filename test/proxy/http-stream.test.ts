import http from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { verifyStamp } from '#core/stamp/verify.ts'
import { parseStampHeader } from '#core/stamp/header.ts'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import { digestOf, startProxyFixture, subjectOf, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

const MIB = 1_048_576
const LARGE = Buffer.alloc(8 * MIB, 'abcdefghij')

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
})
afterAll(() => fixture.stop())

function requestIdOf(answer: HttpAnswer): string {
  const match = /^<\/\.well-known\/signet\/requests\/([0-9a-f-]{36})>; rel="describedby"$/.exec(
    String(answer.headers['link']),
  )
  if (match === null) throw new Error(`link: ${String(answer.headers['link'])}`)
  return match[1] as string
}

describe('a body past the buffer', () => {
  test.each([
    { name: 'in chunks', headers: {}, te: undefined },
    { name: 'in chunks, for who reads trailers', headers: {}, te: 'trailers' },
    { name: 'of known length', headers: { 'content-length': LARGE.length }, te: undefined },
    {
      name: 'of known length, for who reads trailers',
      headers: { 'content-length': LARGE.length },
      te: 'deflate;q=0.5, trailers',
    },
  ])('$name', async ({ headers, te }) => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json', etag: '"s"', ...headers }).end(LARGE)
    const answer = await exchange(`${fixture.stack.external}/large?x`, { headers: te === undefined ? {} : { te } })
    expect(answer.status).toBe(200)
    expect(answer.complete).toBe(true)
    expect(answer.body.equals(LARGE)).toBe(true)
    expect(answer.headers['compliance-stamp']).toBeUndefined()
    if (te === undefined) {
      expect(answer.headers['trailer']).toBeUndefined()
      expect(answer.headers['content-length']).toBe(headers['content-length']?.toString())
    } else {
      expect(answer.headers['content-length']).toBeUndefined()
    }
    const requestId = requestIdOf(answer)
    const stamp = await exchange(`${fixture.stack.external}/.well-known/signet/requests/${requestId}`)
    const { hash, subjectChecked } = verifyStamp({
      stampBytes: stamp.body,
      payload: LARGE,
      keyring: fixture.stack.keyring,
      expected: subjectOf(fixture.stack, { target: '/large?x', mediaType: 'application/json' }),
    })
    expect(subjectChecked).toBe(true)
    if (te !== undefined) {
      const trailer = parseStampHeader(String(answer.trailers['compliance-stamp']))
      expect(trailer.hash).toBe(hash)
      expect(trailer.stampBytes?.equals(stamp.body)).toBe(true)
    }
    const events = await fixture.events(requestId, 2)
    expect(events.map(({ event_type, stamp_hash }) => [event_type, stamp_hash])).toEqual([
      ['egress.decided', null],
      ['egress.completed', hash],
    ])
  })

  test.each([
    { name: 'exactly the buffer', length: MIB, wantWhole: true },
    { name: 'one byte more', length: MIB + 1, wantWhole: false },
  ])('$name', async ({ length, wantWhole }) => {
    const body = Buffer.alloc(length, 'x')
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'text/plain' }).end(body)
    const answer = await exchange(`${fixture.stack.external}/edge`)
    expect(answer.headers['compliance-stamp'] !== undefined).toBe(wantWhole)
    expect(digestOf(answer.body)).toBe(digestOf(body))
  })

  test('before it has passed there is no stamp to be had', async () => {
    let finish = (): void => {}
    fixture.upstream.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/plain' })
      response.write(Buffer.alloc(2 * MIB, 'x'))
      finish = () => response.end('end')
    }
    const { response, done } = await open(`${fixture.stack.external}/slow`)
    const requestId = requestIdOf({ headers: response.headers } as HttpAnswer)
    expect((await exchange(`${fixture.stack.external}/.well-known/signet/requests/${requestId}`)).status).toBe(404)
    const [decided] = await fixture.events(requestId)
    expect(decided?.event_type).toBe('egress.decided')
    finish()
    await done()
    await until(
      'the stamp',
      async () => (await exchange(`${fixture.stack.external}/.well-known/signet/requests/${requestId}`)).status === 200,
    )
  })

  test('a client that takes its time holds the service back, and gets everything', async () => {
    const body = Buffer.alloc(24 * MIB, 'y')
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'text/plain' }).end(body)
    const { response } = await open(`${fixture.stack.external}/slow-client`)
    response.pause()
    await new Promise((resolve) => setTimeout(resolve, 300))
    let length = 0
    response.on('data', (chunk: Buffer) => (length += chunk.length))
    response.resume()
    await new Promise((resolve) => response.once('close', resolve))
    expect(length).toBe(body.length)
    expect(fixture.stack.output()).not.toContain('MaxListenersExceeded')
  })
})

describe('server-sent events', () => {
  test('pass piece by piece, without delay', async () => {
    let write = (_text: string): void => {}
    let end = (): void => {}
    fixture.upstream.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
      response.flushHeaders()
      write = (text) => response.write(text)
      end = () => response.end()
    }
    const { response, done } = await open(`${fixture.stack.external}/events`, { te: 'trailers' })
    const requestId = requestIdOf({ headers: response.headers } as HttpAnswer)
    let got = ''
    response.on('data', (chunk: Buffer) => (got += chunk.toString()))
    for (let i = 0; i < 5; i += 1) {
      const startedAt = performance.now()
      write(`data: ${i}\n\n`)
      await until(`event ${i}`, () => got.endsWith(`data: ${i}\n\n`), 2_000)
      expect(performance.now() - startedAt).toBeLessThan(500)
    }
    end()
    await done()
    expect(parseStampHeader(String(response.trailers['compliance-stamp'])).hash).toMatch(/^sha256:/)
    expect((await fixture.events(requestId, 2)).map(({ event_type }) => event_type)).toEqual([
      'egress.decided',
      'egress.completed',
    ])
  })

  test('a client that leaves is audited, and the service is let go', async () => {
    let closed = false
    fixture.upstream.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.write('data: 1\n\n')
      response.once('close', () => (closed = true))
    }
    const { response } = await open(`${fixture.stack.external}/leave`)
    const requestId = requestIdOf({ headers: response.headers } as HttpAnswer)
    await new Promise((resolve) => response.once('data', resolve))
    response.destroy()
    await until('the service to be let go', () => closed)
    const [, aborted] = await fixture.events(requestId, 2)
    expect(aborted).toMatchObject({
      event_type: 'egress.aborted',
      action: 'abort',
      outcome: 'error',
      stamp_hash: null,
      context: { error: 'CLIENT_GONE', payload_length: 9 },
    })
  })
})

test('nothing is left in flight', async () => {
  await until('no exchange in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
  expect(await fixture.stack.sample('signet_buffered_bytes')).toBe(0)
})

function open(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ response: http.IncomingMessage; done: () => Promise<void> }> {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { headers, agent: false }, (response) => {
      response.on('error', () => {})
      resolve({
        response,
        done: () =>
          new Promise((finished) => {
            response.once('close', finished)
            response.resume()
          }),
      })
    })
    request.once('error', reject)
  })
}
