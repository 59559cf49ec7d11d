import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange, headerValues } from '#test/support/http-exchange.ts'
import { digestOf, startProxyFixture, subjectOf, verifyAnswer, type ProxyFixture } from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
})
afterAll(() => fixture.stop())

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
)

describe('where the stamp goes', () => {
  test.each([
    { name: 'an object', type: 'application/json', body: '{"a":1, "b":[1,2]}\n', wantEmbedded: true },
    { name: 'an empty object', type: 'application/json; charset=utf-8', body: ' { } ', wantEmbedded: true },
    {
      name: 'an object with white space and numbers as written',
      type: 'application/json',
      body: '{\n "n": 1.0e+2, "x": "\\u00e9é" \n}\r\n',
      wantEmbedded: true,
    },
    { name: 'a structured suffix', type: 'application/vnd.acme.report+json', body: '{"a":1}', wantEmbedded: true },
    {
      name: 'a nested _compliance, which stays',
      type: 'application/json',
      body: '{"inner":{"_compliance":{"x":1}}}',
      wantEmbedded: true,
    },
    { name: 'an array', type: 'application/json', body: '[{"a":1},2]', wantEmbedded: false },
    { name: 'a string', type: 'application/json', body: '"_compliance"', wantEmbedded: false },
    { name: 'a number', type: 'application/json', body: '17', wantEmbedded: false },
    { name: 'CSV', type: 'text/csv', body: 'a,b\r\n1,"x, y"\r\n', wantEmbedded: false },
    { name: 'HTML', type: 'text/html; charset=utf-8', body: '<!doctype html><title>é</title>', wantEmbedded: false },
    { name: 'an image', type: 'image/png', body: PNG, wantEmbedded: false },
    { name: 'an empty body', type: 'text/plain', body: '', wantEmbedded: false },
    { name: 'JSON that says it is text', type: 'text/plain', body: '{"a":1}', wantEmbedded: false },
    { name: 'no media type', type: undefined, body: '{"a":1}', wantEmbedded: false },
  ])('$name', async ({ type, body, wantEmbedded }) => {
    const bytes = Buffer.from(body)
    fixture.upstream.answer = (_request, response) => {
      if (type !== undefined) response.setHeader('content-type', type)
      response.end(bytes)
    }
    const answer = await exchange(`${fixture.stack.external}/thing?q=1`)
    expect(answer.status).toBe(200)
    const mediaType = type?.split(';')[0] ?? ''
    const verified = verifyAnswer(fixture.stack, answer, subjectOf(fixture.stack, { target: '/thing?q=1', mediaType }))
    expect(verified.embedded).toBe(wantEmbedded)
    expect(verified.payload.equals(bytes)).toBe(true)
    expect(verified.stamp.integrity).toMatchObject({
      payload_digest: digestOf(bytes),
      payload_length: bytes.length,
      canonicalization: 'bytes',
    })
    expect(verified.stamp).toMatchObject({
      data_classification: 'public',
      approval_status: 'approved',
      regulatory_compliance: ['NONE'],
    })
    expect(headerValues(answer, 'link')).toEqual([`</.well-known/signet/stamps/${verified.hash}>; rel="describedby"`])
    expect(Number(answer.headers['content-length'])).toBe(answer.body.length)
    if (!wantEmbedded) expect(answer.body.equals(bytes)).toBe(true)
  })

  test.each([
    { method: 'GET', status: 404, body: '{"error":"none"}' },
    { method: 'GET', status: 500, body: '{"error":"broken"}' },
    { method: 'GET', status: 301, body: '{}' },
    { method: 'POST', status: 201, body: '{"id":7}' },
    { method: 'PUT', status: 200, body: '{"id":7}' },
    { method: 'PATCH', status: 409, body: '{"id":7}' },
    { method: 'DELETE', status: 200, body: '{"id":7}' },
    { method: 'OPTIONS', status: 200, body: '{"id":7}' },
    { method: 'PROPFIND', status: 207, body: '{"id":7}' },
    { method: 'QUERY', status: 200, body: '{"id":7}' },
  ])('$method answered with $status', async ({ method, status, body }) => {
    fixture.upstream.answer = (_request, response) => {
      response.writeHead(status, { 'content-type': 'application/json', location: '/else' }).end(body)
    }
    const answer = await exchange(`${fixture.stack.external}/things/7`, {
      method,
      ...(method === 'POST' ? { body: 'sent' } : {}),
    })
    expect(answer.status).toBe(status)
    expect(answer.headers['location']).toBe('/else')
    const verified = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/things/7', method, status, mediaType: 'application/json' }),
    )
    expect(verified.payload.toString()).toBe(body)
    const seen = fixture.upstream.seen.at(-1)
    expect(seen?.method).toBe(method)
    if (method === 'POST') expect(seen?.body.toString()).toBe('sent')
  })

  test.each([
    { method: 'HEAD', status: 200 },
    { method: 'GET', status: 204 },
  ])('$method $status: the stamp covers the empty payload', async ({ method, status }) => {
    fixture.upstream.answer = (_request, response) => {
      response
        .writeHead(status, status === 204 ? {} : { 'content-type': 'application/json', 'content-length': 7 })
        .end()
    }
    const answer = await exchange(`${fixture.stack.external}/h`, { method })
    expect(answer.status).toBe(status)
    expect(answer.headers['content-length']).toBeUndefined()
    const mediaType = status === 204 ? '' : 'application/json'
    const verified = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/h', method, status, mediaType }),
    )
    expect(verified.stamp.integrity.payload_length).toBe(0)
  })

  test('no-transform: the body stays, the header has the stamp', async () => {
    fixture.upstream.answer = (_request, response) => {
      response
        .writeHead(200, { 'content-type': 'application/json', 'cache-control': 'max-age=5, no-transform' })
        .end('{"a":1}')
    }
    const answer = await exchange(`${fixture.stack.external}/n`)
    expect(answer.body.toString()).toBe('{"a":1}')
    const verified = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/n', mediaType: 'application/json' }),
    )
    expect(verified.embedded).toBe(false)
  })

  test('a stamp moved to another target, status, method or channel does not verify', async () => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
    const answer = await exchange(`${fixture.stack.external}/a?x=1`)
    const subject = subjectOf(fixture.stack, { target: '/a?x=1', mediaType: 'application/json' })
    expect(verifyAnswer(fixture.stack, answer, subject).subjectChecked).toBe(true)
    for (const wrong of [
      { target_digest: digestOf('/a') },
      { status: 201 },
      { method: 'POST' },
      { channel: 'internal' as const },
      { tenant: 'globex' },
      { media_type: 'text/plain' },
    ]) {
      expect(() => verifyAnswer(fixture.stack, answer, { ...subject, ...wrong })).toThrow(/belongs to another response/)
    }
    const flipped = Buffer.from(answer.body)
    flipped[2] = (flipped[2] as number) ^ 1
    expect(() => verifyAnswer(fixture.stack, { ...answer, body: flipped }, subject)).toThrow(/not what was stamped/)
  })

  test('the internal channel is said in the stamp', async () => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
    const answer = await exchange(`${fixture.stack.internal}/i`)
    verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/i', mediaType: 'application/json', channel: 'internal' }),
    )
  })

  test('event and stamp belong together', async () => {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
    const answer = await exchange(`${fixture.stack.external}/customers/7?token=secret`)
    const { stamp, hash } = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/customers/7?token=secret', mediaType: 'application/json' }),
    )
    const [event] = await fixture.events(stamp.data_lineage.request_id)
    expect(event).toMatchObject({
      context: { decision_id: stamp.policy.decision_id },
      event_type: 'egress.completed',
      trace_id: stamp.data_lineage.trace_id,
      action: 'stamp',
      stage: 'publish',
      outcome: 'allowed',
      resource: '/customers/7',
      stamp_hash: hash,
    })
    // The stamp is public: who reads it must not learn the id of an event and record another one under it first.
    expect(event?.event_id).not.toBe(stamp.policy.decision_id)
    const line = fixture.ledger.recorded.find(({ eventId }) => eventId === event?.event_id)?.line ?? ''
    expect(line).not.toContain('secret')
    expect((JSON.parse(line) as { stamp: unknown }).stamp).toEqual(stamp)
  })
})

describe('the header budget', () => {
  test('past it the header has the hash alone, and the link still leads to the stamp', async () => {
    const assets = Array.from({ length: 60 }, (_, i) => `urn:asset:${i}@${digestOf(String(i))}`)
    fixture.upstream.answer = (_request, response) => {
      response
        .writeHead(200, { 'content-type': 'text/csv', 'signet-lineage-source-assets': assets.join(', ') })
        .end('a,b\n')
    }
    const answer = await exchange(`${fixture.stack.external}/big.csv`)
    const hash = answer.headers['compliance-stamp'] as string
    expect(hash).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(answer.headers['link']).toContain(hash)
    const stamp = await exchange(`${fixture.stack.external}/.well-known/signet/stamps/${hash}`)
    expect(digestOf(stamp.body)).toBe(hash)
    expect(
      (JSON.parse(stamp.body.toString()) as { data_lineage: { source_assets: string[] } }).data_lineage.source_assets,
    ).toEqual(assets)
  })
})
