import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ServerResponse } from 'node:http'
import { exchange } from '#test/support/http-exchange.ts'
import { startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    env: { SIGNET_MAX_IN_FLIGHT: '4', SIGNET_BUFFER_TOTAL_BYTES: '1048576', SIGNET_BUFFER_BYTES: '1048576' },
  })
})
afterAll(() => fixture.stop())

test('more exchanges than may be under way get 503 and are audited; the others are not disturbed', async () => {
  const waiting: ServerResponse[] = []
  fixture.upstream.answer = (_request, response) => void waiting.push(response)
  const under = Array.from({ length: 4 }, () => exchange(`${fixture.stack.external}/slow`))
  await until('four under way', () => waiting.length === 4)
  const refused = await exchange(`${fixture.stack.external}/one-more`, { method: 'POST', body: 'hello' })
  expect(refused.status).toBe(503)
  expect(refused.headers['retry-after']).toMatch(/^\d+$/)
  const problem = JSON.parse(refused.body.toString()) as { code: string; request_id: string; request_effect: string }
  expect(problem).toMatchObject({ code: 'OVERLOADED', request_effect: 'none' })
  expect((await fixture.events(problem.request_id))[0]).toMatchObject({
    event_type: 'egress.failed',
    context: { error: 'OVERLOADED' },
  })
  expect(waiting).toHaveLength(4)
  // The platform's own paths are not part of it.
  expect((await fetch(`${fixture.stack.admin}/livez`)).status).toBe(200)
  for (const response of waiting) response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  expect((await Promise.all(under)).map(({ status }) => status)).toEqual([200, 200, 200, 200])
  expect((await exchange(`${fixture.stack.admin}/livez`)).status).toBe(200)
})

test('more bytes than may be held get 503; what is held is given back', async () => {
  const waiting: ServerResponse[] = []
  fixture.upstream.answer = (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    response.write(Buffer.alloc(700_000, ' '))
    waiting.push(response)
  }
  const first = exchange(`${fixture.stack.external}/held`)
  await until('the first to be held', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 700_000)
  const second = await exchange(`${fixture.stack.external}/held`)
  expect(second.status).toBe(503)
  expect(second.headers['retry-after']).toMatch(/^\d+$/)
  waiting[0]?.end('{}')
  expect((await first).status).toBe(200)
  await until('all to be given back', async () => (await fixture.stack.sample('signet_buffered_bytes')) === 0)
})

test('hundreds at once: each gets 200 or 503, and then all is as before', async () => {
  fixture.upstream.answer = (_request, response) => {
    setTimeout(() => response.writeHead(200, { 'content-type': 'application/json' }).end('{}'), 20)
  }
  const answers = await Promise.all(Array.from({ length: 300 }, () => exchange(`${fixture.stack.external}/many`)))
  const counts = {
    ok: answers.filter(({ status }) => status === 200).length,
    busy: answers.filter(({ status }) => status === 503).length,
  }
  expect(counts.ok + counts.busy).toBe(300)
  expect(counts.ok).toBeGreaterThan(3)
  expect(counts.busy).toBeGreaterThan(0)
  await until('nothing in flight', async () => (await fixture.stack.sample('signet_in_flight')) === 0)
  expect((await exchange(`${fixture.stack.external}/after`)).status).toBe(200)
  expect(fixture.stack.child.exitCode).toBeNull()
})
