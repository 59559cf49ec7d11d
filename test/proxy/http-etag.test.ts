import { afterAll, beforeAll, expect, test } from 'vitest'
import { exchange } from '#test/support/http-exchange.ts'
import { PASS_RULE, refusingRule, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'

const RULES = [PASS_RULE, refusingRule('no-drafts', 'some approval in input.approvals\n\tapproval.id == "never"')]

let fixture: ProxyFixture
let tag = '"v1"'
beforeAll(async () => {
  fixture = await startProxyFixture({ rules: RULES })
  // A service that compares tags weakly, as RFC 9110 §13.1.2 asks, and writes only where If-Match has its strong tag.
  fixture.upstream.answer = ({ method, headers }, response) => {
    const known: string[] = (headers['if-none-match'] ?? '').match(/"[^"]*"/g) ?? []
    response.setHeader('etag', tag)
    if (method === 'GET' && known.includes(tag.replace(/^W\//, ''))) return response.writeHead(304).end()
    if (method === 'PUT' && headers['if-match'] !== undefined && headers['if-match'] !== tag)
      return response.writeHead(412).end()
    return response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
  }
})
afterAll(() => fixture.stop())

function get(headers: Record<string, string> = {}, target = '/doc') {
  return exchange(fixture.stack.external + target, { headers })
}

async function currentTag(): Promise<string> {
  return (await get()).headers['etag'] as string
}

test('an entity tag is weak and names the policy revision; a 304 has no stamp', async () => {
  const etag = await currentTag()
  expect(etag).toMatch(/^W\/"v1~[0-9a-f]{12}"$/)
  expect(await currentTag()).toBe(etag)
  const answer = await get({ 'if-none-match': etag })
  expect(answer.status).toBe(304)
  expect(answer.headers['etag']).toBe(etag)
  expect(answer.headers['compliance-stamp'] ?? answer.headers['link']).toBeUndefined()
  expect(answer.body.length).toBe(0)
  expect(fixture.upstream.seen.at(-1)?.headers['if-none-match']).toBe('"v1", W/"v1"')
  const event = await until(
    'the 304’s event',
    () => fixture.ledger.recorded.find(({ line }) => line.includes('"status":304')) ?? null,
  )
  expect(JSON.parse(event.line)).toMatchObject({
    event: { event_type: 'egress.completed', action: 'pass', stamp_hash: null },
  })
})

test.each(['"v1"', 'W/"v1"', '"other"', '*', 'W/"v1~000000000000"'])(
  'If-None-Match: %s does not revive anything',
  async (value) => {
    expect((await get({ 'if-none-match': value })).status).toBe(200)
  },
)

test('If-Match works with the tag that we gave, whatever revision it is of', async () => {
  const put = (ifMatch: string) =>
    exchange(`${fixture.stack.external}/doc`, { method: 'PUT', headers: { 'if-match': ifMatch }, body: 'x' })
  expect((await put(await currentTag())).status).toBe(200)
  expect((await put('W/"v1~000000000000"')).status).toBe(200)
  expect((await put('"other"')).status).toBe(412)
})

test('a weak tag of the service stays one, one with odd characters passes, a malformed one is dropped', async () => {
  for (const [upstream, want] of [
    ['W/"w"', /^W\/"w~[0-9a-f]{12}"$/],
    ['"a,b~c"', /^W\/"a,b~c~[0-9a-f]{12}"$/],
    ['unquoted', undefined],
  ] as const) {
    tag = upstream
    const etag = (await get()).headers['etag']
    if (want === undefined) expect(etag).toBeUndefined()
    else expect(etag).toMatch(want)
    if (etag !== undefined) expect((await get({ 'if-none-match': `"x", ${etag}` })).status).toBe(304)
  }
  tag = '"v1"'
})

test('new policy data, an expired approval and new rules make old tags count for nothing', async () => {
  const first = await currentTag()
  const approval = { id: 'short', resource: '/doc', version: '1', channel: 'external', approved_by: 'a' }
  await fixture.stack.setPolicyData({
    version: 1,
    approvals: [{ ...approval, expires_at: new Date(Date.now() + 4_000).toISOString() }],
  })
  const second = await until('new data', async () => {
    const etag = await currentTag()
    return etag !== first && etag
  })
  expect((await get({ 'if-none-match': first })).status).toBe(200)
  expect((await get({ 'if-none-match': second })).status).toBe(304)
  const third = await until('the approval to expire', async () => {
    const etag = await currentTag()
    return etag !== second && etag
  })
  expect((await get({ 'if-none-match': second })).status).toBe(200)
  await fixture.stack.publish([PASS_RULE, refusingRule('no-docs', 'input.request.path == "/doc"')], { sequence: 2 })
  const answer = await until('new rules', async () => {
    const found = await get({ 'if-none-match': third })
    return found.status === 422 && found
  })
  expect(answer.headers['etag']).toBeUndefined()
})

test('under shadow the tag is the service’s own', async () => {
  await fixture.stack.setPolicyData({ version: 1, modes: { tenants: { '*': { mode: 'shadow' } } } })
  await until('shadow', async () => (await currentTag()) === '"v1"')
  expect((await get({ 'if-none-match': '"v1"' })).status).toBe(304)
})
