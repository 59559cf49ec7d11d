import type { OutgoingHttpHeaders } from 'node:http'
import {
  brotliCompressSync,
  brotliDecompressSync,
  deflateSync,
  gunzipSync,
  gzipSync,
  inflateSync,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { exchange, headerValues, type HttpAnswer } from '#test/support/http-exchange.ts'
import {
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

const PLAIN = Buffer.from(JSON.stringify({ text: 'hello '.repeat(500) }))
const TABLE = Buffer.from('name,value\n' + 'a,1\n'.repeat(400))

/** What is no JSON has no body to read. */
const OPEN = 'mode: enforce, undecidable: {external: open, internal: open}'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('no-secrets', 'input.response.body.secret == true', OPEN)],
  })
})
afterAll(() => fixture.stop())

type Sent = { type?: string; headers?: Record<string, string | string[]>; status?: number }

function answerWith(body: Buffer, encoding: string | string[] | null, sent: Sent = {}): void {
  const coding = encoding === null ? {} : ({ 'content-encoding': encoding } as OutgoingHttpHeaders)
  fixture.upstream.answer = (_request, response) =>
    response
      .writeHead(sent.status ?? 200, { 'content-type': sent.type ?? 'application/json', ...coding, ...sent.headers })
      .end(body)
}

function ask(accept: string | null, options: { method?: string; target?: string; headers?: object } = {}) {
  const headers = { ...(accept === null ? {} : { 'accept-encoding': accept }), ...options.headers }
  return exchange(`${fixture.stack.external}${options.target ?? '/e'}`, { method: options.method ?? 'GET', headers })
}

/** As a client does that takes every coding. */
function decoded(answer: HttpAnswer): HttpAnswer {
  const encoding = answer.headers['content-encoding']
  if (encoding === undefined) return answer
  const decode = DECODERS[encoding as keyof typeof DECODERS]
  return { ...answer, body: decode(answer.body) }
}
const DECODERS = { gzip: gunzipSync, deflate: inflateSync, br: brotliDecompressSync, zstd: zstdDecompressSync }

function verified(answer: HttpAnswer, mediaType = 'application/json') {
  return verifyAnswer(fixture.stack, decoded(answer), subjectOf(fixture.stack, { target: '/e', mediaType }))
}

describe('an answer in a content coding', () => {
  test.each([
    { name: 'gzip', accept: 'gzip', encoding: 'gzip', body: gzipSync(PLAIN), want: 'gzip' },
    { name: 'x-gzip, in capitals', accept: 'gzip', encoding: 'X-GZIP', body: gzipSync(PLAIN), want: 'gzip' },
    { name: 'deflate', accept: 'deflate', encoding: 'deflate', body: deflateSync(PLAIN), want: 'deflate' },
    { name: 'br', accept: 'br', encoding: 'br', body: brotliCompressSync(PLAIN), want: 'br' },
    { name: 'zstd', accept: 'zstd', encoding: 'zstd', body: zstdCompressSync(PLAIN), want: 'zstd' },
    { name: 'the one of several', accept: 'br, gzip;q=0.1', encoding: 'gzip', body: gzipSync(PLAIN), want: 'gzip' },
    { name: 'any', accept: '*', encoding: 'br', body: brotliCompressSync(PLAIN), want: 'br' },
    {
      name: 'two layers',
      accept: 'br, gzip',
      encoding: 'gzip, br',
      body: brotliCompressSync(gzipSync(PLAIN)),
      want: 'br',
    },
    {
      name: 'two layers in two fields',
      accept: 'gzip',
      encoding: ['gzip', 'br'],
      body: brotliCompressSync(gzipSync(PLAIN)),
      want: 'gzip',
    },
    { name: 'not for who takes none', accept: null, encoding: 'gzip', body: gzipSync(PLAIN), want: undefined },
    { name: 'not for who excludes it', accept: 'gzip;q=0', encoding: 'gzip', body: gzipSync(PLAIN), want: undefined },
    { name: 'another for who takes that', accept: 'gzip;q=0, br', encoding: 'gzip', body: gzipSync(PLAIN), want: 'br' },
    { name: 'plain stays plain', accept: 'gzip, br', encoding: null, body: PLAIN, want: undefined },
    { name: 'identity', accept: 'gzip', encoding: 'identity', body: PLAIN, want: undefined },
    {
      name: 'plain, which is excluded',
      accept: 'gzip;q=0.5, br;q=0.2, identity;q=0',
      encoding: null,
      body: PLAIN,
      want: 'gzip',
    },
  ])('$name', async ({ accept, encoding, body, want }) => {
    answerWith(body, encoding, { headers: { 'content-length': String(body.length) } })
    const answer = await ask(accept)
    expect(answer.status).toBe(200)
    expect(headerValues(answer, 'content-encoding')).toEqual(want === undefined ? [] : [want])
    expect(answer.headers['content-length']).toBe(String(answer.body.length))
    const isPlain = encoding === null || encoding === 'identity'
    expect(answer.headers['vary']).toBe(isPlain && want === undefined ? undefined : 'Accept-Encoding')
    const { payload, embedded } = verified(answer)
    expect(payload.equals(PLAIN)).toBe(true)
    expect(embedded).toBe(true)
  })

  test('the service is asked for what the client takes and we can read', async () => {
    answerWith(PLAIN, null)
    for (const [accept, want] of [
      [null, 'identity'],
      ['gzip, deflate, br;q=0.9, zstd, compress', 'zstd, br;q=0.9, gzip'],
      ['*;q=0', 'identity'],
    ] as const) {
      await ask(accept)
      expect(fixture.upstream.seen.at(-1)?.headers['accept-encoding']).toBe(want)
    }
  })

  test('where the stamp is in the header, the content is coded anew: nothing leaves that was not looked at', async () => {
    // RFC 1952 §2.3.1: a comment, which decoders pass over.
    const coded = gzipSync(TABLE)
    const withComment = Buffer.concat([
      coded.subarray(0, 3),
      Buffer.from([0x10]),
      coded.subarray(4, 10),
      Buffer.from('CANARY\0'),
      coded.subarray(10),
    ])
    expect(gunzipSync(withComment).equals(TABLE)).toBe(true)
    answerWith(withComment, 'gzip', { type: 'text/csv' })
    const answer = await ask('gzip')
    expect(answer.headers['content-encoding']).toBe('gzip')
    expect(answer.body.includes('CANARY')).toBe(false)
    const { payload, embedded } = verified(answer, 'text/csv')
    expect(payload.equals(TABLE)).toBe(true)
    expect(embedded).toBe(false)
  })

  test('no-transform: as it came, in its coding, also for who does not take it', async () => {
    const coded = gzipSync(PLAIN, { level: 9 })
    answerWith(coded, 'gzip', { headers: { 'cache-control': 'no-transform' } })
    for (const accept of ['gzip', null]) {
      const answer = await ask(accept)
      expect(answer.headers['content-encoding']).toBe('gzip')
      expect(answer.headers['content-length']).toBe(String(coded.length))
      expect(answer.body.equals(coded)).toBe(true)
      expect(verified(answer).embedded).toBe(false)
    }
  })

  test('no-transform does not keep what is taken out', async () => {
    answerWith(gzipSync('{"a":1,"_compliance":{"forged":true}}'), 'gzip', {
      headers: { 'cache-control': 'no-transform' },
    })
    const answer = decoded(await ask('gzip'))
    expect(answer.body.toString()).toBe('{"a":1}')
  })

  test('what is judged is the content', async () => {
    const secret = JSON.stringify({ secret: true, pad: 'CANARY'.repeat(50) })
    for (const [encoding, body] of [
      ['gzip', gzipSync(secret)],
      ['gzip, zstd', zstdCompressSync(gzipSync(secret))],
    ] as const) {
      answerWith(body, encoding)
      const answer = await ask('gzip, zstd')
      expect(answer.status).toBe(422)
      expect(answer.headers['content-encoding']).toBeUndefined()
      expect(answer.body.toString()).not.toContain('CANARY')
    }
  })

  test('an empty body under the name of a coding is an empty body', async () => {
    answerWith(Buffer.alloc(0), 'gzip', { type: 'text/csv' })
    const answer = await ask('gzip')
    expect(answer.status).toBe(200)
    expect(answer.headers['content-encoding']).toBeUndefined()
    expect(answer.headers['content-length']).toBe('0')
  })

  test('a HEAD says what GET would be in, and not how long', async () => {
    answerWith(Buffer.alloc(0), 'gzip', { headers: { 'content-length': '123', vary: 'Origin' } })
    const answer = await ask('gzip', { method: 'HEAD' })
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({ 'content-encoding': 'gzip', vary: 'Origin, Accept-Encoding' })
    expect(answer.headers['content-length']).toBeUndefined()
    const plain = await ask(null, { method: 'HEAD' })
    expect(plain.headers['content-encoding']).toBeUndefined()
    answerWith(Buffer.alloc(0), 'compress')
    expect((await ask('gzip', { method: 'HEAD' })).status).toBe(200)
  })

  test('one entity tag for all codings, weak; a 304 varies as its answer does', async () => {
    fixture.upstream.answer = (request, response) => {
      if (request.headers['if-none-match'] !== undefined) response.writeHead(304, { etag: '"v1"' }).end()
      else
        response
          .writeHead(200, { 'content-type': 'application/json', 'content-encoding': 'gzip', etag: '"v1"' })
          .end(gzipSync(PLAIN))
    }
    const coded = await ask('gzip')
    const plain = await ask(null)
    const tag = String(coded.headers['etag'])
    expect(tag).toMatch(/^W\/"v1~[0-9a-f]{12}"$/)
    expect(plain.headers['etag']).toBe(tag)
    const confirmed = await ask('gzip', { headers: { 'if-none-match': tag } })
    expect(confirmed.status).toBe(304)
    expect(confirmed.headers).toMatchObject({ etag: tag, vary: 'Accept-Encoding' })
    expect(confirmed.headers['content-encoding']).toBeUndefined()
  })

  test('a sidecar is of the content, and plain itself', async () => {
    answerWith(gzipSync(TABLE), 'gzip', { type: 'text/csv' })
    const sidecar = await ask('gzip', { target: '/e.stamp.json' })
    expect(fixture.upstream.seen.at(-1)?.headers['accept-encoding']).toBe('identity')
    expect(sidecar.headers['content-encoding']).toBeUndefined()
    const stamp = JSON.parse(sidecar.body.toString()) as { integrity: { payload_length: number } }
    expect(stamp.integrity.payload_length).toBe(TABLE.length)
  })
})

describe('is refused where it cannot be read', () => {
  const bomb = gzipSync(Buffer.alloc(50 * 1_048_576))
  beforeEach(() => until('nothing held', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0))

  test.each([
    { name: 'damaged', encoding: 'gzip', body: gzipSync(PLAIN).fill(0, 20, 40), reason: 'damaged' },
    { name: 'cut short', encoding: 'gzip', body: gzipSync(PLAIN).subarray(0, -10), reason: 'damaged' },
    { name: 'cut short, br', encoding: 'br', body: brotliCompressSync(PLAIN).subarray(0, -4), reason: 'damaged' },
    { name: 'not what it says', encoding: 'zstd', body: gzipSync(PLAIN), reason: 'damaged' },
    {
      name: 'more behind it',
      encoding: 'br',
      body: Buffer.concat([brotliCompressSync(PLAIN), PLAIN]),
      reason: 'damaged',
    },
    { name: 'unknown', encoding: 'compress', body: PLAIN, reason: 'unknown' },
    { name: 'a name of the prototype', encoding: 'constructor', body: PLAIN, reason: 'unknown' },
    { name: 'three layers', encoding: 'gzip, gzip, gzip', body: gzipSync(gzipSync(gzipSync(PLAIN))), reason: 'layers' },
    { name: 'a bomb', encoding: 'gzip', body: bomb, reason: 'bomb' },
    { name: 'a bomb in a bomb', encoding: 'gzip, gzip', body: gzipSync(bomb), reason: 'bomb' },
  ])('$name', async ({ encoding, body, reason }) => {
    const sample = `signet_coding_refusals_total{reason="${reason}"}`
    const before = await fixture.stack.sample(sample)
    answerWith(body, encoding)
    const answer = await ask('gzip, br, zstd')
    expect(answer.status).toBe(502)
    const problem = JSON.parse(answer.body.toString()) as { request_id: string }
    expect(problem).toMatchObject({
      code: reason === 'bomb' ? 'DECOMPRESSION_LIMIT' : 'UPSTREAM_INVALID',
      upstream_status: 200,
      request_effect: 'none',
    })
    const [event] = await fixture.events(problem.request_id)
    expect(event).toMatchObject({ event_type: 'egress.failed', outcome: 'error', stamp_hash: null })
    expect(await fixture.stack.sample(sample)).toBe(before + 1)
  })

  test('a part of a coded content', async () => {
    answerWith(gzipSync(PLAIN).subarray(0, 50), 'gzip', { status: 206, headers: { 'content-range': 'bytes 0-49/90' } })
    const answer = await ask('gzip', { headers: { range: 'bytes=0-49' } })
    expect(fixture.upstream.seen.at(-1)?.headers.range).toBeUndefined()
    expect(answer.status).toBe(502)
  })
})

test('under shadow all of it passes as it came', async () => {
  await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { '*': { mode: 'shadow' } } } })
  const damaged = gzipSync(PLAIN).subarray(0, -10)
  for (const [encoding, body] of [
    ['gzip', damaged],
    ['compress', PLAIN],
    ['gzip', gzipSync(PLAIN)],
    ['gzip', gzipSync(Buffer.alloc(30_000_000))],
    ['gzip', Buffer.alloc(3_000_000, 1)],
  ] as const) {
    answerWith(body, encoding)
    const answer = await until('shadow', async () => {
      const found = await ask('br')
      return found.headers['compliance-stamp'] === undefined && found.status === 200 && found
    })
    expect(answer.body.equals(body)).toBe(true)
    expect(answer.headers['content-encoding']).toBe(encoding)
    expect(fixture.upstream.seen.at(-1)?.headers['accept-encoding']).toBe('br')
  }
})
