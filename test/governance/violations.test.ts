import { createHmac } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { superviseAction } from '#sdk/supervise-action.ts'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

const SECRET = 'whsec_of_a_test'
type Violation = { id: string; rule: string; severity: string; summary: string; state: string }
type Customer = { id?: string; metadata: Record<string, string> }

let stack: GovernanceStack
let folder: string
let billing: Server
/** What the billing system knows; `mood`: how it behaves. */
const customers = new Map<string, Customer>()
const payments = new Map<string, object>()
let mood: 'well' | 'hangs' | 'fails' = 'well'
let asked = 0

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'signet-violations-'))
  billing = createServer((request, response) => {
    asked += 1
    const [, kind, id = ''] = /^\/v1\/(customers|payment_intents)\/([^/]+)$/.exec(request.url ?? '') ?? []
    if (request.headers.authorization !== 'Bearer sk_test') return response.writeHead(401).end('{}')
    if (mood === 'hangs') return undefined
    if (mood === 'fails') return response.writeHead(500).end('{}')
    const found = kind === 'customers' ? customers.get(id) : payments.get(id)
    if (found === undefined) return response.writeHead(404).end('{}')
    return response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ id, ...found }))
  })
  await new Promise<void>((resolve) => billing.listen(0, '127.0.0.1', resolve))
  const [secrets, key] = [path.join(folder, 'stripe.json'), path.join(folder, 'billing.key')]
  await writeFile(secrets, JSON.stringify({ acme: SECRET }))
  await writeFile(key, 'sk_test\n')
  stack = await startGovernanceStack({
    env: {
      SIGNET_GOVERNANCE_STRIPE_SECRETS_FILE: secrets,
      SIGNET_GOVERNANCE_BILLING_URL: `http://127.0.0.1:${(billing.address() as AddressInfo).port}`,
      SIGNET_GOVERNANCE_BILLING_KEY_FILE: key,
    },
  })
  for (const [kind, key_, value] of [
    ['tier', 'gold', { models: ['m1'], features: ['export'] }],
    ['account', 'c1', { tier: 'gold' }],
    ['billing', 'c1', { tokens_granted: 100 }],
    ['voice_budget', 'c1', { minutes: 10 }],
    ['stripe_record', 'pi_1', { amount: 500, currency: 'eur', status: 'succeeded' }],
    [
      'supervision',
      's1',
      { agent_id: 'robot', action: 'mail', approved_by: 'ines', valid_until: '2099-01-01T00:00:00Z' },
    ],
    ['api_contract', encodeURIComponent('GET /users/{id}'), { statuses: [200, 404], fields: ['id', 'name'] }],
  ] as const)
    expect((await call('PUT', `/api/compliance/reference/${kind}/${key_}`, value)).status).toBe(200)
  await mode('off')
})
afterAll(async () => {
  await stack?.stop()
  billing?.closeAllConnections()
  billing?.close()
  await rm(folder, { recursive: true, force: true })
})

const call = (method: string, url: string, body?: unknown, token?: string): Promise<Called> =>
  stack.call('acme', method, url, body, token)
const mode = async (value: string): Promise<void> => {
  expect((await call('PUT', '/api/compliance/resolution-settings', { mode: value })).body).toMatchObject({
    mode: value,
  })
}
async function report(source: string, eventType: string, details: object): Promise<Violation[]> {
  const answer = await call('POST', '/api/compliance/event', { source, eventType, details })
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  return answer.body.violations
}
const rules = (violations: readonly Violation[]): string[] =>
  violations.map(({ rule, severity }) => `${rule} ${severity}`)
const state = async (id: string): Promise<{ state: string; resolution: { detail?: string } | null }> =>
  (await call('GET', `/api/compliance/violations/${id}`)).body
const attempts = async (id: string): Promise<{ outcome: string; strategy: string; detail: string }[]> =>
  (await call('GET', `/api/compliance/violations/${id}/attempts`)).body.items
const becomes = (id: string, want: string) =>
  expect.poll(async () => (await state(id)).state, { timeout: 60_000, interval: 300 }).toBe(want)

function stripeEvent(object: object, secret = SECRET, at = Date.now()): { payload: string; signature: string } {
  const payload = JSON.stringify({ type: 'payment_intent.succeeded', data: { object } })
  const seconds = Math.floor(at / 1_000)
  const v1 = createHmac('sha256', secret).update(`${seconds}.${payload}`).digest('hex')
  return { payload, signature: `t=${seconds},v1=${v1}` }
}
const PAID = { id: 'pi_1', amount: 500, currency: 'eur', status: 'succeeded' }

describe('an event is judged by what is recorded', () => {
  it.each([
    { what: 'a model of the tier', event: ['ai_model', 'use', { client_id: 'c1', model: 'm1' }], want: [] },
    {
      what: 'a model of none',
      event: ['ai_model', 'use', { client_id: 'c1', model: 'm9', authorized: true }],
      want: ['unauthorized_model_usage high'],
    },
    {
      what: 'a model of a client that nobody knows',
      event: ['ai_model', 'use', { client_id: 'c9', model: 'm1' }],
      want: ['unauthorized_model_usage high'],
    },
    {
      what: 'a model of an event that says nothing',
      event: ['ai_model', 'use', {}],
      want: ['unauthorized_model_usage high'],
    },
    { what: 'tokens that are paid', event: ['billing', 'token_usage', { client_id: 'c1', tokens: 60 }], want: [] },
    {
      what: 'tokens that are not, with those before',
      event: ['billing', 'token_usage', { client_id: 'c1', tokens: 60 }],
      want: ['invalid_token_flow medium'],
    },
    { what: 'minutes within the budget', event: ['voice', 'call', { client_id: 'c1', minutes: 10 }], want: [] },
    {
      what: 'minutes beyond it',
      event: ['voice', 'call', { client_id: 'c1', minutes: 1 }],
      want: ['voice_usage_without_budget medium'],
    },
    {
      what: 'minutes of a client without one',
      event: ['voice', 'call', { client_id: 'c2', minutes: 1 }],
      want: ['voice_usage_without_budget medium'],
    },
    {
      what: 'a feature of the tier',
      event: ['activity', 'feature_used', { client_id: 'c1', feature: 'export' }],
      want: [],
    },
    {
      what: 'a feature of none',
      event: ['permission', 'feature_used', { client_id: 'c1', feature: 'delete' }],
      want: ['tier_policy_violation medium'],
    },
    {
      what: 'a supervised agent',
      event: ['maos', 'agent_action', { agent_id: 'robot', action: 'mail', supervision_id: 's1' }],
      want: [],
    },
    {
      what: 'an agent that does something else',
      event: ['deep_agent', 'agent_action', { agent_id: 'robot', action: 'pay', supervision_id: 's1' }],
      want: ['maos_supervision_bypass critical'],
    },
    {
      what: 'an agent that names what is not there',
      event: ['maos', 'agent_action', { agent_id: 'robot', action: 'mail', supervision_id: 's9', supervised: true }],
      want: ['maos_supervision_bypass critical'],
    },
    {
      what: 'an API as registered',
      event: ['api', 'api_response', { method: 'GET', route: '/users/{id}', status: 200, fields: ['id', 'name'] }],
      want: [],
    },
    {
      what: 'an API that says more',
      event: [
        'api',
        'api_response',
        { method: 'GET', route: '/users/{id}', status: 200, fields: ['id', 'name', 'ssn'] },
      ],
      want: ['api_endpoint_integrity high'],
    },
    {
      what: 'an API that nobody registered',
      event: ['api', 'api_response', { method: 'GET', route: '/x', status: 200, fields: [] }],
      want: ['api_endpoint_integrity high'],
    },
    { what: 'anything else', event: ['activity', 'login', { actor: 'x' }], want: [] },
  ] as const)('$what', async ({ event: [source, type, details], want }) => {
    expect(rules(await report(source, type, details))).toEqual(want)
  })
  it.each([
    { what: 'as recorded', object: PAID, want: [] },
    { what: 'of another amount', object: { ...PAID, amount: 900 }, want: ['stripe_event_mismatch high'] },
    { what: 'that is not recorded', object: { ...PAID, id: 'pi_9' }, want: ['stripe_event_mismatch high'] },
  ])('a payment $what', async ({ object, want }) => {
    expect(rules(await report('stripe', 'payment', stripeEvent(object)))).toEqual(want)
  })
  it.each([
    { what: 'by another secret', details: () => stripeEvent(PAID, 'whsec_other') },
    { what: 'that is old', details: () => stripeEvent(PAID, SECRET, Date.now() - 3_600_000) },
    {
      what: 'over another payload',
      details: () => ({ ...stripeEvent(PAID), payload: stripeEvent({ ...PAID, amount: 1 }).payload }),
    },
    { what: 'that is none', details: () => ({ payload: '{}', signature: 'valid' }) },
  ])('a payment with a signature $what', async ({ details }) => {
    const [violation] = await report('stripe', 'payment', details())
    expect(violation).toMatchObject({
      rule: 'stripe_event_mismatch',
      summary: 'the signature of the event does not verify',
    })
  })
  it('of an actor who reads as much as ever, and then very much more', async () => {
    for (let n = 0; n < 12; n++)
      expect(await report('data_access', 'read', { actor: 'analyst', records: 100 + (n % 3) })).toEqual([])
    expect(rules(await report('data_access', 'read', { actor: 'analyst', records: 5_000 }))).toEqual([
      'unusual_client_data_activity medium',
    ])
    expect(rules(await report('data_access', 'read', { actor: 'newcomer', records: 5_000 }))).toEqual([
      'unusual_client_data_activity medium',
    ])
  })
  it('one after the other, also when they come at once', async () => {
    await call('PUT', '/api/compliance/reference/billing/c7', { tokens_granted: 100 })
    const found = await Promise.all(
      Array.from({ length: 8 }, () => report('billing', 'token_usage', { client_id: 'c7', tokens: 30 })),
    )
    expect(found.filter((violations) => violations.length > 0)).toHaveLength(5)
  })
  it.each([
    { what: 'a source that is none', body: { source: 'weather', eventType: 'x', details: {} }, status: 400 },
    {
      what: 'a member that is not known',
      body: { source: 'api', eventType: 'x', details: {}, resolved: true },
      status: 400,
    },
    { what: 'U+0000', body: { source: 'api', eventType: 'x', details: { a: '\u0000' } }, status: 400 },
    { what: 'too much', body: { source: 'api', eventType: 'x', details: { a: 'x'.repeat(70_000) } }, status: 413 },
  ])('$what is refused', async ({ body, status }) => {
    expect((await call('POST', '/api/compliance/event', body)).status).toBe(status)
  })
  it.each([
    { kind: 'tier', value: { models: 'm1' } },
    { kind: 'supervision', value: { agent_id: 'a' } },
    { kind: 'billing', value: { tokens_granted: -1 } },
    { kind: 'stripe_record', value: {} },
  ])('a record of kind $kind that is none is refused', async ({ kind, value }) => {
    expect(await call('PUT', `/api/compliance/reference/${kind}/x`, value)).toMatchObject({
      status: 400,
      body: { code: 'REQUEST_INVALID' },
    })
  })
})

describe('superviseAction', () => {
  const supervisor = () => ({ url: stack.process().url, token: () => stack.token('acme') })
  const action = { source: 'maos', agentId: 'robot', action: 'mail', approvedBy: 'ines', validForMs: 60_000 } as const
  it('lets an agent act under a record that is there before, and reports it', async () => {
    let during: unknown
    const done = await superviseAction(supervisor(), action, async (id) => {
      during = (await call('GET', '/api/compliance/reference/supervision?limit=1000')).body.items.find(
        (one: { key: string }) => one.key === id,
      )
      return 'sent'
    })
    expect(done).toMatchObject({ result: 'sent', violations: [] })
    expect(during).toMatchObject({ value: { agent_id: 'robot', action: 'mail', approved_by: 'ines' } })
  })
  it('reports also what failed, and throws what it threw', async () => {
    const before = (await call('GET', '/api/compliance/stats')).body.totalEvents
    await expect(
      superviseAction(supervisor(), action, () => Promise.reject(new Error('no mail server'))),
    ).rejects.toThrow('no mail server')
    expect((await call('GET', '/api/compliance/stats')).body.totalEvents).toBe(before + 1)
  })
  it('lets nobody act whose record is not taken', async () => {
    let acted = false
    const act = (): Promise<void> => {
      acted = true
      return Promise.resolve()
    }
    await expect(superviseAction({ ...supervisor(), token: () => 'sgn_none' }, action, act)).rejects.toThrow(
      /answered 401/,
    )
    await expect(superviseAction({ ...supervisor(), url: 'http://127.0.0.1:9' }, action, act)).rejects.toThrow(
      /does not answer/,
    )
    await expect(superviseAction(supervisor(), { ...action, validForMs: 10 }, act)).rejects.toThrow(RangeError)
    expect(acted).toBe(false)
  })
})

describe('violations', () => {
  it('are listed by severity, and counted', async () => {
    const { items } = (await call('GET', '/api/compliance/violations?limit=1000')).body
    const ranks = items.map(({ severity }: Violation) => ['critical', 'high', 'medium', 'low'].indexOf(severity))
    expect(ranks).toEqual(ranks.toSorted((a: number, b: number) => a - b))
    const { body } = await call('GET', '/api/compliance/stats')
    expect(body).toMatchObject({
      unresolvedCount: items.length,
      totalViolations: items.length,
      bySeverity: { critical: 2, low: 0 },
    })
    expect(body.totalEvents).toBeGreaterThan(items.length)
    const pages: string[] = []
    for (let cursor: string | null = ''; cursor !== null;) {
      const page: Called = await call(
        'GET',
        `/api/compliance/violations?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      pages.push(...page.body.items.map(({ id }: Violation) => id))
      cursor = page.body.next_cursor
    }
    expect(pages).toEqual(items.map(({ id }: Violation) => id))
  })
  it('are resolved by a person once the rule finds them no more, or with a reason although it does', async () => {
    const [violation] = await report('ai_model', 'use', { client_id: 'c3', model: 'm1' })
    const url = `/api/compliance/resolve/${violation?.id}`
    const early = await call('POST', url, { comment: 'fine' })
    expect(early).toMatchObject({ status: 409 })
    expect(early.body.detail).toMatch(/unauthorized_model_usage still finds it/)
    await call('PUT', '/api/compliance/reference/account/c3', { tier: 'gold' })
    expect((await call('POST', url, { comment: 'c3 has bought gold' })).body).toMatchObject({
      state: 'resolved',
      resolved_by: 'admin@acme.example',
      resolution: { by: 'person', still_found: false },
    })
    expect(await call('POST', url, { comment: 'again' })).toMatchObject({ status: 409 })
    const [other] = await report('ai_model', 'use', { client_id: 'c4', model: 'm1' })
    expect(
      (await call('POST', `/api/compliance/resolve/${other?.id}`, { comment: 'a test', override: true })).body,
    ).toMatchObject({
      state: 'resolved',
      resolution: { override: true, still_found: true },
    })
  })
  it('are nobody else’s, by no route', async () => {
    const [violation] = await report('ai_model', 'use', { client_id: 'c5', model: 'm1' })
    const other = (method: string, url: string, body?: unknown) => stack.call('globex', method, url, body)
    for (const [method, url, body] of [
      ['GET', `/api/compliance/violations/${violation?.id}`, undefined],
      ['GET', `/api/compliance/violations/${violation?.id}/attempts`, undefined],
      ['POST', `/api/compliance/resolve/${violation?.id}`, { comment: 'x', override: true }],
      ['DELETE', '/api/compliance/reference/account/c1', undefined],
    ] as const)
      expect([method, url, (await other(method, url, body)).status]).toEqual([method, url, 404])
    expect((await other('GET', '/api/compliance/violations')).body.items).toEqual([])
    expect((await other('GET', '/api/compliance/reference/account')).body.items).toEqual([])
    expect((await other('GET', '/api/compliance/stats')).body).toMatchObject({ totalEvents: 0, totalViolations: 0 })
    // Another tenant's records judge nothing here: c1 is known to acme alone.
    const answer = await other('POST', '/api/compliance/event', {
      source: 'ai_model',
      eventType: 'use',
      details: { client_id: 'c1', model: 'm1' },
    })
    expect(answer.body.violations).toHaveLength(1)
    // And acme's secret signs nothing of globex.
    const stripe = await other('POST', '/api/compliance/event', {
      source: 'stripe',
      eventType: 'payment',
      details: stripeEvent(PAID),
    })
    expect(stripe.body.violations[0]).toMatchObject({ summary: 'the signature of the event does not verify' })
  })
})

describe('resolved by Signet itself', () => {
  it('off does nothing; dry says what it would do, once; on does it', async () => {
    const user = await newUser('reader')
    const [violation] = await report('data_access', 'read', { actor: 'reader@acme.example', records: 9_000 })
    const id = violation?.id ?? ''
    await mode('dry_run')
    await expect.poll(async () => (await attempts(id)).length, { timeout: 60_000 }).toBe(1)
    expect((await attempts(id))[0]).toMatchObject({
      strategy: 'permission-reset',
      outcome: 'would_act',
      detail: expect.stringMatching(/would end 1 tokens of reader@acme.example/),
    })
    expect((await call('GET', '/api/v1/session', undefined, user.token)).status).toBe(200)
    await mode('on')
    await becomes(id, 'resolved')
    expect((await call('GET', '/api/v1/session', undefined, user.token)).status).toBe(401)
    expect((await state(id)).resolution).toMatchObject({
      by: 'system',
      strategy: 'permission-reset',
      evidence: { revoked: 1, left: 0 },
    })
    const events = (await stack.events('acme', '&actor=system/resolver')).filter(
      ({ resource }) => resource === `violations/${id}`,
    )
    expect(events.map(({ event_type }) => event_type)).toEqual([
      'governance.intent',
      'governance.outcome',
      'governance.intent',
      'governance.outcome',
    ])
  })
  it('a report does not shut out an administrator', async () => {
    const [violation] = await report('data_access', 'read', { actor: 'admin@acme.example', records: 9_000 })
    const id = violation?.id ?? ''
    await expect.poll(async () => (await attempts(id)).at(-1)?.outcome, { timeout: 60_000 }).toBe('not_resolved')
    expect((await attempts(id)).at(-1)?.detail).toMatch(/is an administrator: a person has to decide/)
    expect((await call('GET', '/api/v1/session')).status).toBe(200)
  })
  it('billing: the record becomes what the billing system says, and it is closed only if that resolves it', async () => {
    customers.set('c10', { metadata: { tokens_granted: '500' } })
    customers.set('c11', { metadata: { tokens_granted: '5' } })
    const [good] = await report('billing', 'token_usage', { client_id: 'c10', tokens: 50 })
    const [bad] = await report('billing', 'token_usage', { client_id: 'c11', tokens: 50 })
    await becomes(good?.id ?? '', 'resolved')
    expect((await call('GET', '/api/compliance/reference/billing?cursor=c0')).body.items).toContainEqual(
      expect.objectContaining({ key: 'c10', value: { tokens_granted: 500 }, updated_by: 'system/resolver' }),
    )
    await expect
      .poll(async () => (await attempts(bad?.id ?? '')).at(-1)?.outcome, { timeout: 60_000 })
      .toBe('not_resolved')
    expect((await state(bad?.id ?? '')).state).toBe('open')
  })
  it('a payment and a tier come right by the same', async () => {
    payments.set('pi_20', { amount: 700, currency: 'eur', status: 'succeeded' })
    customers.set('c12', { metadata: { tier: 'gold' } })
    const [payment] = await report(
      'stripe',
      'payment',
      stripeEvent({ id: 'pi_20', amount: 700, currency: 'eur', status: 'succeeded' }),
    )
    const [tier] = await report('activity', 'feature_used', { client_id: 'c12', feature: 'export' })
    await becomes(payment?.id ?? '', 'resolved')
    await becomes(tier?.id ?? '', 'resolved')
  })
  it('records are put back as they were, but not where somebody changed them since', async () => {
    for (const client of ['c20', 'c21']) {
      customers.set(client, { metadata: { voice_minutes: '60' } })
      await call('PUT', `/api/compliance/reference/voice_budget/${client}`, { minutes: 1 })
      const [violation] = await report('voice', 'call', { client_id: client, minutes: 5 })
      const id = violation?.id ?? ''
      await becomes(id, 'resolved')
      if (client === 'c21') await call('PUT', `/api/compliance/reference/voice_budget/${client}`, { minutes: 90 })
      const tried = (await attempts(id)).at(-1) as unknown as { id: string }
      const undone = await call('POST', `/api/compliance/attempts/${tried.id}/undo`, { comment: 'not agreed' })
      const { items } = (await call('GET', '/api/compliance/reference/voice_budget?cursor=c2&limit=1000')).body
      const minutes = items.find(({ key }: { key: string }) => key === client)?.value.minutes
      expect([client, undone.status, minutes]).toEqual(client === 'c20' ? [client, 200, 1] : [client, 409, 90])
      expect((await state(id)).state).toBe(client === 'c20' ? 'open' : 'resolved')
    }
  })
  it('a forged payment does not, whatever the billing system says', async () => {
    const [forged] = await report(
      'stripe',
      'payment',
      stripeEvent({ id: 'pi_20', amount: 700, currency: 'eur', status: 'succeeded' }, 'whsec_other'),
    )
    await expect.poll(async () => (await attempts(forged?.id ?? '')).length, { timeout: 60_000 }).toBeGreaterThan(0)
    expect((await state(forged?.id ?? '')).state).toBe('open')
  })
  it.each([
    { what: 'that hangs', before: () => (mood = 'hangs'), want: /does not answer/ },
    { what: 'that fails', before: () => (mood = 'fails'), want: /answered 500/ },
    {
      what: 'that answers about another client',
      before: () => customers.set('c13', { id: 'c10', metadata: { voice_minutes: '100' } }),
      want: /about another customer/,
    },
  ])('a billing system $what resolves nothing', async ({ before, want }) => {
    before()
    const [violation] = await report('voice', 'call', { client_id: 'c13', minutes: 1 })
    const id = violation?.id ?? ''
    await expect.poll(async () => (await attempts(id)).at(-1)?.outcome, { timeout: 60_000 }).toBe('failed')
    expect((await attempts(id)).at(-1)?.detail).toMatch(want)
    expect((await state(id)).state).toBe('open')
    mood = 'well'
    customers.delete('c13')
  })
  it('is tried again, less and less often, and not for ever', async () => {
    const [violation] = await report('voice', 'call', { client_id: 'c14', minutes: 1 })
    const id = violation?.id ?? ''
    for (let round = 1; round <= 6; round++) {
      await expect.poll(async () => (await attempts(id)).length, { timeout: 60_000 }).toBe(round)
      await stack.query(
        `UPDATE signet.resolution_attempts SET created_at = created_at - interval '1 day' WHERE violation_id = '${id}'`,
        'acme',
      )
      await mode('on')
    }
    const before = asked
    await mode('on')
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    expect((await attempts(id)).length).toBe(6)
    expect(asked).toBe(before)
  })
  it('an agent without supervision is contained at once, and closed by a person only', async () => {
    const account = (await call('POST', '/api/v1/service-accounts', { name: 'rogue' })).body.id
    const token = (await call('POST', '/api/v1/tokens', { name: 'x', service_account_id: account, expires_in_days: 1 }))
      .body.token
    const [violation] = await report('maos', 'agent_action', {
      agent_id: 'rogue',
      action: 'pay',
      supervision_id: 'none',
    })
    const id = violation?.id ?? ''
    await becomes(id, 'contained')
    expect((await call('GET', '/api/v1/session', undefined, token)).status).toBe(401)
    expect((await call('GET', `/api/v1/service-accounts/${account}`)).body).toMatchObject({ state: 'disabled' })
    expect((await call('GET', '/api/compliance/violations')).body.items.map((one: Violation) => one.id)).toContain(id)
    expect(
      (await call('POST', `/api/compliance/resolve/${id}`, { comment: 'retired', override: true })).body,
    ).toMatchObject({ state: 'resolved' })
  })
  it('an endpoint that cannot be looked at waits for a person, who closes it once its contract is registered', async () => {
    const [violation] = await report('api', 'api_response', {
      method: 'GET',
      route: '/orders',
      status: 200,
      fields: ['id'],
    })
    const id = violation?.id ?? ''
    await expect
      .poll(async () => (await attempts(id)).at(-1), { timeout: 60_000 })
      .toMatchObject({
        strategy: 'workflow-repair',
        outcome: 'waiting',
        detail: expect.stringMatching(/not registered/),
      })
    await call('PUT', `/api/compliance/reference/api_contract/${encodeURIComponent('GET /orders')}`, {
      statuses: [200],
      fields: ['id'],
    })
    expect((await call('POST', `/api/compliance/resolve/${id}`, { comment: 'registered' })).body).toMatchObject({
      state: 'resolved',
      resolution: { still_found: false },
    })
  })
})

async function newUser(name: string): Promise<{ id: string; token: string }> {
  const email = `${name}@acme.example`
  const { id } = (await call('POST', '/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
  const session = await stack.call(
    'acme',
    'POST',
    '/api/v1/session',
    { tenant: 'acme', email, password: FIRST_PASSWORD },
    null,
  )
  return { id, token: session.body.token }
}
