import { createHash } from 'node:crypto'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { exchange, type HttpAnswer } from '#test/support/http-exchange.ts'
import {
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  subjectOf,
  until,
  verifyAnswer,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({
    rules: [PASS_RULE, refusingRule('no-x', 'startswith(input.request.path, "/x")')],
  })
})
afterAll(() => fixture.stop())
afterEach(() => useData({}))

let marker = 0
/** Puts policy data in force, and waits until it is. */
async function useData(data: Record<string, unknown>): Promise<void> {
  marker += 1
  const text = { version: 1, routes: [{ template: `/marker-${marker}` }], ...data }
  const digest = createHash('sha256').update(JSON.stringify(text)).digest('hex')
  await fixture.stack.setPolicyData(text)
  await until('policy data in force', () => fixture.stack.output().includes(digest))
}

const BODY = Buffer.from(' {"a" : 1, "_compliance":{"forged":true}} ')
const FIELDS = [
  'Content-Type',
  'application/json',
  'ETag',
  '"e1"',
  'Accept-Ranges',
  'bytes',
  'Content-Range',
  'bytes 0-9/40',
  'Vary',
  'Accept-Encoding',
  'Cache-Control',
  'max-age=1',
  'Set-Cookie',
  'a=1',
  'Set-Cookie',
  'b=2',
  'Digest',
  'sha-256=x',
  'Alt-Svc',
  'h3=":443"',
  'Last-Modified',
  'Wed, 25 Nov 2026 01:00:00 GMT',
  'Date',
  'Wed, 25 Nov 2026 01:00:00 GMT',
  'Content-Length',
  String(BODY.length),
]

/** Without what frames the connection. */
function fieldsOf(answer: HttpAnswer): string[] {
  const pairs: string[] = []
  for (let i = 0; i < answer.rawHeaders.length; i += 2) {
    const name = (answer.rawHeaders[i] as string).toLowerCase()
    if (name !== 'connection' && name !== 'keep-alive') pairs.push(`${name}: ${answer.rawHeaders[i + 1]}`)
  }
  return pairs.sort()
}

describe.each(['shadow', 'off'])('a tenant under %s', (mode) => {
  test.each([
    { name: 'a whole answer', target: '/x/1', status: 206, fields: FIELDS, body: BODY, method: 'GET' },
    { name: 'HEAD', target: '/x/1', status: 200, fields: FIELDS, body: Buffer.alloc(0), method: 'HEAD' },
    {
      name: 'a 304',
      target: '/x/1',
      status: 304,
      fields: ['ETag', '"e1"', 'Date', 'x'],
      body: Buffer.alloc(0),
      method: 'GET',
    },
    {
      name: 'a large answer',
      target: '/x/1',
      status: 200,
      fields: ['Content-Type', 'text/plain', 'Date', 'x', 'Content-Length', '3000000'],
      body: Buffer.alloc(3_000_000, 'z'),
      method: 'GET',
    },
    {
      name: 'a file named .stamp.json',
      target: '/x.stamp.json',
      status: 200,
      fields: FIELDS,
      body: BODY,
      method: 'GET',
    },
  ])('nothing changes: $name', async ({ target, status, fields, body, method }) => {
    fixture.upstream.answer = (_request, response) => response.writeHead(status, fields).end(body)
    const direct = await exchange(fixture.upstream.url + target, { method })
    await useData({ modes: { tenants: { acme: { mode } } } })
    const through = await exchange(fixture.stack.external + target, { method })
    expect(through.status).toBe(direct.status)
    expect(fieldsOf(through)).toEqual(fieldsOf(direct))
    expect(through.body.equals(direct.body)).toBe(true)
    expect(await fixture.stack.sample('stamps_missing_total{tenant="acme",reason="flag"}')).toBe(0)
  })

  test('what is audited', async () => {
    await useData({ modes: { tenants: { '*': { mode } } } })
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    const shadow = 'signet_shadow_violations_total{tenant="acme",rule="no-x"}'
    const before = { counted: await fixture.stack.sample(shadow), recorded: fixture.ledger.recorded.length }
    expect((await exchange(`${fixture.stack.external}/x/${mode}`)).status).toBe(200)
    if (mode === 'off') {
      expect(await fixture.stack.sample(shadow)).toBe(before.counted)
      expect(fixture.stack.output()).not.toContain('/x/off')
    } else {
      expect(await fixture.stack.sample(shadow)).toBe(before.counted + 1)
      const found = await until(
        'the event',
        () => fixture.ledger.recorded.find(({ line }) => line.includes('/x/shadow')) ?? null,
      )
      expect(JSON.parse(found.line)).toMatchObject({
        event: {
          event_type: 'egress.decided',
          action: 'pass',
          outcome: 'denied',
          stamp_hash: null,
          context: { mode: 'shadow', violations: ['no-x'] },
        },
      })
    }
  })
})

describe('a rule’s mode', () => {
  test.each([
    { mode: 'enforce', wantStatus: 422, wantShadow: undefined },
    { mode: 'shadow', wantStatus: 200, wantShadow: ['no-x'] },
    { mode: 'off', wantStatus: 200, wantShadow: undefined },
  ])('$mode governs its own violations only: the answer is stamped', async ({ mode, wantStatus, wantShadow }) => {
    await useData({ modes: { rules: { 'no-x': { mode } } } })
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    const answer = await exchange(`${fixture.stack.external}/x`)
    expect(answer.status).toBe(wantStatus)
    if (wantStatus !== 200) return
    const { stamp } = verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/x', mediaType: 'application/json' }),
    )
    const [event] = await fixture.events(stamp.data_lineage.request_id)
    expect(event?.context?.['shadow_violations']).toEqual(wantShadow)
  })
})

describe('percentages', () => {
  const ROUNDS = 300
  async function statuses(target: string): Promise<Record<string, number>> {
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    const count: Record<string, number> = {}
    for (let i = 0; i < ROUNDS; i += 20) {
      const answers = await Promise.all(Array.from({ length: 20 }, () => exchange(fixture.stack.external + target)))
      for (const answer of answers) {
        const kind =
          answer.status === 422 ? 'refused' : answer.headers['compliance-stamp'] === undefined ? 'unstamped' : 'stamped'
        count[kind] = (count[kind] ?? 0) + 1
      }
    }
    return count
  }

  test.each([
    {
      name: 'a rule at 30 %',
      data: { modes: { rules: { 'no-x': { mode: 'enforce', percentage: 30 } } } },
      kind: 'refused',
      rest: 'stamped',
      want: 0.3,
    },
    {
      name: 'a tenant at 70 %',
      data: { modes: { tenants: { acme: { mode: 'enforce', percentage: 70 } }, rules: { 'no-x': { mode: 'off' } } } },
      kind: 'stamped',
      rest: 'unstamped',
      want: 0.7,
    },
  ])('$name', async ({ data, kind, rest, want }) => {
    await useData(data)
    const count = await statuses('/x')
    // Five standard deviations: a chance of one in a million to be wrong.
    const spread = 5 * Math.sqrt((want * (1 - want)) / ROUNDS)
    expect((count[kind] ?? 0) / ROUNDS).toBeGreaterThan(want - spread)
    expect((count[kind] ?? 0) / ROUNDS).toBeLessThan(want + spread)
    expect((count[kind] ?? 0) + (count[rest] ?? 0)).toBe(ROUNDS)
  })

  test.each([
    { percentage: 0, want: 'stamped' },
    { percentage: 100, want: 'refused' },
  ])('$percentage % is all or nothing', async ({ percentage, want }) => {
    await useData({ modes: { rules: { 'no-x': { mode: 'enforce', percentage } } } })
    expect(await statuses('/x')).toEqual({ [want]: ROUNDS })
  })
})

describe('flags', () => {
  test.each([
    { name: 'a whole answer', type: 'application/json', body: Buffer.from('{"a":1}') },
    { name: 'a stream', type: 'text/plain', body: Buffer.alloc(2_000_000, 'x') },
  ])('compliance.stamps.v1 off: decided and audited, unstamped, counted: $name', async ({ type, body }) => {
    await useData({ flags: { 'compliance.stamps.v1': false } })
    fixture.upstream.answer = (_request, response) => response.writeHead(200, { 'content-type': type }).end(body)
    const name = 'stamps_missing_total{tenant="acme",reason="flag"}'
    const before = await fixture.stack.sample(name)
    const answer = await exchange(`${fixture.stack.external}/a`, { headers: { te: 'trailers' } })
    expect(answer.status).toBe(200)
    expect(answer.body.equals(body)).toBe(true)
    expect(
      answer.headers['compliance-stamp'] ??
        answer.headers['link'] ??
        answer.headers['trailer'] ??
        answer.trailers['compliance-stamp'],
    ).toBeUndefined()
    expect(await fixture.stack.sample(name)).toBe(before + 1)
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(422)
    const requestId = fixture.upstream.seen.at(-2)?.headers['x-request-id'] as string
    const events = await fixture.events(requestId)
    expect(events.at(-1)).toMatchObject({
      event_type: expect.stringMatching(/^egress\.(completed|decided)$/) as unknown,
      stamp_hash: null,
    })
  })

  test('audit.enhanced.v1 off: stamped, no events', async () => {
    await useData({ flags: { 'audit.enhanced.v1': false } })
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    const answer = await exchange(`${fixture.stack.external}/unaudited`)
    verifyAnswer(
      fixture.stack,
      answer,
      subjectOf(fixture.stack, { target: '/unaudited', mediaType: 'application/json' }),
    )
    await useData({})
    await exchange(`${fixture.stack.external}/audited`)
    await until('the next event', () => fixture.ledger.recorded.some(({ line }) => line.includes('"/audited"')))
    expect(fixture.ledger.recorded.some(({ line }) => line.includes('/unaudited'))).toBe(false)
  })
})

describe('policy data that does not fit', () => {
  test.each([
    { name: 'not JSON', text: '{' },
    { name: 'a misspelt member', text: { version: 1, rutes: [] } },
    {
      name: 'an approval of anything',
      text: {
        version: 1,
        approvals: [
          { id: 'a', resource: '/', channel: 'external', approved_by: 'x', expires_at: '2099-01-01T00:00:00Z' },
        ],
      },
    },
    { name: 'another version', text: { version: 2 } },
  ])('$name: the former stays, and it is counted', async ({ text }) => {
    await useData({ modes: { rules: { 'no-x': { mode: 'off' } } } })
    const before = await fixture.stack.sample('signet_policy_data_errors_total')
    await fixture.stack.setPolicyData(text)
    await until('the error', async () => (await fixture.stack.sample('signet_policy_data_errors_total')) > before)
    fixture.upstream.answer = (_request, response) =>
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    expect((await exchange(`${fixture.stack.external}/x`)).status).toBe(200)
  })
})
