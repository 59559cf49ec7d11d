import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { startProxyFixture, subjectOf, until, verifyAnswer, type ProxyFixture } from '#test/support/proxy-fixture.ts'

const PLAIN = Buffer.from(JSON.stringify({ text: 'hello '.repeat(500) }))

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
})
afterAll(() => fixture.stop())

function answerWith(body: Buffer, encoding: string | string[]): void {
  fixture.upstream.answer = (_request, response) =>
    response
      .writeHead(
        200,
        [['content-type', 'application/json'], ...[encoding].flat().map((name) => ['content-encoding', name])].flat(),
      )
      .end(body)
}

const bomb = gzipSync(Buffer.alloc(200 * 1_048_576))

describe('an encoding that was not asked for', () => {
  test.each([
    { name: 'gzip', encoding: 'gzip', body: gzipSync(PLAIN) },
    { name: 'x-gzip, in capitals', encoding: 'X-GZIP', body: gzipSync(PLAIN) },
    { name: 'deflate', encoding: 'deflate', body: deflateSync(PLAIN) },
    { name: 'br', encoding: 'br', body: brotliCompressSync(PLAIN) },
    { name: 'zstd', encoding: 'zstd', body: zstdCompressSync(PLAIN) },
    { name: 'two layers', encoding: 'gzip, br', body: brotliCompressSync(gzipSync(PLAIN)) },
    { name: 'two layers in two fields', encoding: ['gzip', 'br'], body: brotliCompressSync(gzipSync(PLAIN)) },
    { name: 'identity', encoding: 'identity', body: PLAIN },
  ])('is removed: $name', async ({ encoding, body }) => {
    answerWith(body, encoding)
    const answer = await exchange(`${fixture.stack.external}/e`, {
      headers: { 'accept-encoding': 'gzip, br, zstd, deflate' },
    })
    expect(answer.status).toBe(200)
    if (encoding !== 'identity') expect(answer.headers['content-encoding']).toBeUndefined()
    const verified = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/e', mediaType: 'application/json' }),
    )
    expect(verified.payload.equals(PLAIN)).toBe(true)
    expect(verified.embedded).toBe(true)
  })

  test.each([
    { name: 'damaged', encoding: 'gzip', body: gzipSync(PLAIN).fill(0, 20, 40) },
    { name: 'cut short', encoding: 'gzip', body: gzipSync(PLAIN).subarray(0, -10) },
    { name: 'cut short, br', encoding: 'br', body: brotliCompressSync(PLAIN).subarray(0, -4) },
    { name: 'not what it says', encoding: 'zstd', body: gzipSync(PLAIN) },
    { name: 'unknown', encoding: 'compress', body: PLAIN },
    { name: 'a name of the prototype', encoding: 'constructor', body: PLAIN },
    { name: 'three layers', encoding: 'gzip, gzip, gzip', body: gzipSync(gzipSync(gzipSync(PLAIN))) },
    { name: 'a bomb', encoding: 'gzip', body: bomb },
    { name: 'a bomb in a bomb', encoding: 'gzip, gzip', body: gzipSync(bomb) },
    {
      name: 'past the buffer',
      encoding: 'identity, gzip',
      body: Buffer.concat([gzipSync(PLAIN), Buffer.alloc(2_000_000)]),
    },
  ])('is refused where it cannot be read: $name', async ({ encoding, body }) => {
    answerWith(body, encoding)
    const answer = await exchange(`${fixture.stack.external}/e`)
    expect(answer.status).toBe(502)
    const problem = JSON.parse(answer.body.toString()) as { code: string; request_id: string; upstream_status: number }
    expect(problem).toMatchObject({ code: 'UPSTREAM_INVALID', upstream_status: 200, request_effect: 'none' })
    const [event] = await fixture.events(problem.request_id)
    expect(event).toMatchObject({ event_type: 'egress.failed', outcome: 'error', stamp_hash: null })
  })
})

test('HEAD and 304 may name an encoding: there is nothing to read', async () => {
  answerWith(Buffer.alloc(0), 'compress')
  const answer = await exchange(`${fixture.stack.external}/e`, { method: 'HEAD' })
  expect(answer.status).toBe(200)
})

test('under shadow even what cannot be read passes as it came', async () => {
  await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { '*': { mode: 'shadow' } } } })
  const damaged = gzipSync(PLAIN).subarray(0, -10)
  for (const [encoding, body] of [
    ['gzip', damaged],
    ['compress', PLAIN],
    ['gzip', gzipSync(PLAIN)],
    ['gzip', Buffer.alloc(3_000_000, 1)],
  ] as const) {
    answerWith(body, encoding)
    const answer = await until('shadow', async () => {
      const found = await exchange(`${fixture.stack.external}/e`)
      return found.headers['content-encoding'] !== undefined && found
    })
    expect(answer.body.equals(body)).toBe(true)
    expect(answer.headers['content-encoding']).toBe(encoding)
  }
})
