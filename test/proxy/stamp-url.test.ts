import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import {
  digestOf,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture()
  fixture.upstream.answer = (request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ path: request.url }))
})
afterAll(() => fixture.stop())

async function stamped(target: string, channel: 'external' | 'internal' = 'external') {
  const answer = await exchange(`${fixture.stack[channel]}${target}`)
  return verifyAnswer(
    fixture.stack,
    answer,
    subjectOf(fixture.stack, { target, mediaType: 'application/json', channel }),
  )
}

function ask(path: string, channel: 'external' | 'internal' = 'external', method = 'GET'): Promise<HttpAnswer> {
  return exchange(`${fixture.stack[channel]}/.well-known/signet/${path}`, { method })
}

test('serves the exact bytes of the stamp, immutable, by hash and by request', async () => {
  const { hash, stamp } = await stamped('/a')
  const answer = await ask(`stamps/${hash}`)
  expect(answer.status).toBe(200)
  expect(digestOf(answer.body)).toBe(hash)
  expect(answer.headers).toMatchObject({ 'content-type': 'application/json', 'x-content-type-options': 'nosniff' })
  expect(answer.headers['cache-control']).toMatch(/immutable/)
  const byRequest = await ask(`requests/${stamp.data_lineage.request_id}`)
  expect(byRequest.body.equals(answer.body)).toBe(true)
  const head = await ask(`stamps/${hash}`, 'external', 'HEAD')
  expect(head).toMatchObject({ status: 200, body: Buffer.alloc(0) })
  const refused = await ask(`stamps/${hash}`, 'external', 'DELETE')
  expect(refused.status).toBe(405)
})

test('a stamp of one channel is not known on the other', async () => {
  const internal = await stamped('/i', 'internal')
  expect((await ask(`stamps/${internal.hash}`, 'internal')).status).toBe(200)
  expect((await ask(`stamps/${internal.hash}`)).status).toBe(404)
  expect((await ask(`requests/${internal.stamp.data_lineage.request_id}`)).status).toBe(404)
  const external = await stamped('/e')
  expect((await ask(`stamps/${external.hash}`, 'internal')).status).toBe(404)
})

test.each([
  { path: 'stamps/sha256:00', want: 400 },
  { path: `stamps/sha256:${'0'.repeat(64)}`, want: 404 },
  { path: `stamps/sha256:${'A'.repeat(64)}`, want: 400 },
  { path: 'requests/00000000-0000-7000-8000-000000000000', want: 404 },
  { path: 'requests/x', want: 400 },
  { path: '', want: 404 },
  { path: 'other', want: 404 },
  { path: 'stamps/a/b', want: 404 },
  { path: '%73tamps/x', want: 404 },
])('$path is answered with $want and never reaches the service', async ({ path, want }) => {
  const before = fixture.upstream.seen.length
  const answer = await exchange(`${fixture.stack.external}/.well-known/signet/${path}`)
  expect(answer.status).toBe(want)
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(fixture.upstream.seen.length).toBe(before)
})

describe('what is no longer in memory', () => {
  test('comes from the ledger, within tenant and channel', async () => {
    const { hash, stamp } = await stamped('/archived')
    const internal = await stamped('/archived', 'internal')
    const bytes = (await ask(`stamps/${hash}`)).body
    const internalBytes = (await ask(`stamps/${internal.hash}`, 'internal')).body
    await fixture.events(stamp.data_lineage.request_id)
    await fixture.events(internal.stamp.data_lineage.request_id)
    await fixture.stack.kill()
    fixture.stack = await fixture.stack.restart()
    await fixture.stack.ready()
    const { stamps, troubles } = fixture.ledger
    stamps.set(hash, bytes).set(stamp.data_lineage.request_id, bytes).set(internal.hash, internalBytes)

    expect((await ask(`stamps/${hash}`)).body.equals(bytes)).toBe(true)
    expect((await ask(`requests/${stamp.data_lineage.request_id}`)).body.equals(bytes)).toBe(true)
    expect((await ask(`stamps/${hash}`, 'internal')).status).toBe(404)
    expect((await ask(`stamps/${internal.hash}`)).status).toBe(404)
    expect((await ask(`stamps/sha256:${'1'.repeat(64)}`)).status).toBe(404)

    troubles.stamps.push({ kind: 'garbage', body: 'not a stamp' })
    expect((await ask(`stamps/sha256:${'2'.repeat(64)}`)).status).toBeGreaterThanOrEqual(500)
    stamps.set(`sha256:${'3'.repeat(64)}`, bytes)
    const lied = await ask(`stamps/sha256:${'3'.repeat(64)}`)
    expect(lied.status, 'a stamp with another hash than asked for').toBeGreaterThanOrEqual(404)
    await fixture.ledger.stop()
    expect((await ask(`stamps/sha256:${'4'.repeat(64)}`)).status).toBe(503)
    await fixture.ledger.restart()
    await until('the ledger is back', async () => (await ask(`stamps/${hash}`)).status === 200)
  })
})

describe('SIGNET_PUBLIC_BASE_URL', () => {
  test('makes the link absolute', async () => {
    await fixture.stack.kill()
    fixture.stack = await fixture.stack.restart({ SIGNET_PUBLIC_BASE_URL: 'https://api.example.com/base' })
    await fixture.stack.ready()
    const answer = await exchange(`${fixture.stack.external}/a`)
    expect(answer.headers['link']).toBe(
      `<https://api.example.com/base/.well-known/signet/stamps/${String(answer.headers['compliance-stamp'])}>; rel="describedby"`,
    )
  })
})
