import { afterAll, beforeAll, expect, test } from 'vitest'
import { verifyStamp } from '#core/stamp/verify.ts'
import { exchange } from '#test/support/http-exchange.ts'
import {
  digestOf,
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  subjectOf,
  until,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

const FILES: Record<string, { type: string; body: Buffer }> = {
  '/data.csv': { type: 'text/csv', body: Buffer.from('a,b\n1,2\n') },
  '/data.json': { type: 'application/json', body: Buffer.from('{"a":1}\n') },
  '/empty.txt': { type: 'text/plain', body: Buffer.alloc(0) },
  '/large.bin': { type: 'application/octet-stream', body: Buffer.alloc(3_000_000, 7) },
  '/data.csv.stamp.json': { type: 'application/json', body: Buffer.from('{"planted":true}') },
  '/secret.csv': { type: 'text/csv', body: Buffer.from('TOP,SECRET\n') },
}

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('no-secrets', 'startswith(input.request.path, "/secret")')],
  })
  fixture.upstream.answer = (request, response) => {
    const file = FILES[request.url.split('?')[0] as string]
    if (file === undefined) response.writeHead(404, { 'content-type': 'text/plain' }).end('no such file')
    else response.writeHead(200, { 'content-type': file.type }).end(file.body)
  }
})
afterAll(() => fixture.stop())

test.each([
  { target: '/data.csv', query: '' },
  { target: '/data.json', query: '' },
  { target: '/data.csv', query: '?v=2&x=%20' },
  { target: '/empty.txt', query: '' },
  { target: '/large.bin', query: '' },
])('the stamp of $target$query', async ({ target, query }) => {
  const file = FILES[target] as (typeof FILES)[string]
  const answer = await exchange(`${fixture.stack.external}${target}.stamp.json${query}`, {
    headers: { authorization: 'Bearer of-the-caller', 'if-none-match': '"x"', range: 'bytes=0-1' },
  })
  expect(answer.status).toBe(200)
  expect(answer.headers['content-type']).toBe('application/json')
  expect(answer.headers['cache-control']).toContain('private')
  const { hash, subjectChecked, stamp } = verifyStamp({
    stampBytes: answer.body,
    payload: file.body,
    keyring: fixture.stack.keyring,
    expected: subjectOf(fixture.stack, { target: target + query, mediaType: file.type }),
  })
  expect(subjectChecked).toBe(true)
  const seen = fixture.upstream.seen.at(-1)
  expect(seen?.url).toBe(target + query)
  expect(seen?.headers.authorization).toBe('Bearer of-the-caller')
  expect(seen?.headers['if-none-match'] ?? seen?.headers.range).toBeUndefined()
  const served = await exchange(`${fixture.stack.external}/.well-known/signet/stamps/${hash}`)
  expect(served.body.equals(answer.body)).toBe(true)
  const [event] = await fixture.events(stamp.data_lineage.request_id)
  expect(event).toMatchObject({ action: 'stamp', stamp_hash: digestOf(answer.body), resource: target })
})

test('HEAD has the head of the stamp, never of a file that the service has under that name', async () => {
  const answer = await exchange(`${fixture.stack.external}/data.csv.stamp.json`, { method: 'HEAD' })
  expect(answer.status).toBe(200)
  expect(answer.headers['link']).toContain('/.well-known/signet/stamps/')
  expect(answer.headers['compliance-stamp']).toBeUndefined()
  expect(fixture.upstream.seen.at(-1)?.url).toBe('/data.csv')
})

test.each([
  { target: '/none.csv.stamp.json', want: 404, wantCode: 'STAMP_MISSING' },
  { target: '/secret.csv.stamp.json', want: 422, wantCode: 'POLICY_DENIED' },
  { target: '/secret.csv.stamp.json?x', want: 422, wantCode: 'POLICY_DENIED' },
])('$target is refused with $want', async ({ target, want, wantCode }) => {
  const answer = await exchange(fixture.stack.external + target)
  expect(answer.status).toBe(want)
  expect(answer.headers['content-type']).toBe('application/problem+json')
  expect(JSON.parse(answer.body.toString())).toMatchObject({ code: wantCode, status: want })
  expect(answer.body.toString()).not.toMatch(/TOP|no such file/)
})

test('a bare /.stamp.json is a file like any other', async () => {
  const answer = await exchange(`${fixture.stack.external}/.stamp.json`)
  expect(answer.status).toBe(404)
  expect(answer.body.toString()).toBe('no such file')
})

test('a sidecar of a sidecar is the stamp of NAME.stamp.json upstream', async () => {
  const answer = await exchange(`${fixture.stack.external}/data.csv.stamp.json.stamp.json`)
  expect(answer.status).toBe(200)
  expect(fixture.upstream.seen.at(-1)?.url).toBe('/data.csv.stamp.json')
})

test('in shadow there are no sidecars: the service answers', async () => {
  await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { '*': { mode: 'shadow' } } } })
  const answer = await until('shadow', async () => {
    const found = await exchange(`${fixture.stack.external}/data.csv.stamp.json`)
    return found.headers['link'] === undefined && found
  })
  expect(answer.body.toString()).toBe('{"planted":true}')
})
