import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

let stack: GovernanceStack
let service: Server
let origin = ''
/** What the service's endpoints answer. */
const answers = new Map<string, { status: number; body: string }>()

beforeAll(async () => {
  service = createServer((request, response) => {
    const { status, body } = answers.get(request.url ?? '') ?? { status: 404, body: '{}' }
    response.writeHead(status, { 'content-type': 'application/json' }).end(body)
  })
  await new Promise<void>((resolve) => service.listen(0, '127.0.0.1', resolve))
  origin = `http://127.0.0.1:${(service.address() as AddressInfo).port}`
  stack = await startGovernanceStack({
    env: {
      SIGNET_GOVERNANCE_OBSERVE_ORIGINS: `acme=${origin}`,
      SIGNET_GOVERNANCE_OBSERVE_NETWORKS: '127.0.0.0/8',
    },
  })
  await settings({ mode: 'on' })
})
afterAll(async () => {
  await stack?.stop()
  service?.closeAllConnections()
  service?.close()
})

const call = (method: string, url: string, body?: unknown, token?: string): Promise<Called> =>
  stack.call('acme', method, url, body, token)
async function settings(body: object): Promise<void> {
  const answer = await call('PUT', '/api/compliance/resolution-settings', body)
  expect(answer.status, JSON.stringify(answer.body)).toBe(200)
}
async function report(source: string, eventType: string, details: object): Promise<string | undefined> {
  const answer = await call('POST', '/api/compliance/event', { source, eventType, details })
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  return answer.body.violations[0]?.id
}
type Attempt = {
  id: string
  outcome: string
  detail: string
  strategy: string
  can_undo: boolean
  evidence: Record<string, unknown>
}
const attempts = async (id: string): Promise<Attempt[]> =>
  (await call('GET', `/api/compliance/violations/${id}/attempts`)).body.items
async function tried(id: string, times = 1): Promise<Attempt> {
  await expect
    .poll(async () => (await attempts(id)).length, { timeout: 90_000, interval: 200 })
    .toBeGreaterThanOrEqual(times)
  return (await attempts(id))[times - 1]!
}
/** As if days had passed since it was tried; then it is tried again. */
async function later(id: string): Promise<void> {
  await stack.query(
    `UPDATE signet.resolution_attempts SET created_at = created_at - interval '2 days' WHERE violation_id = '${id}'`,
    'acme',
  )
  await settings({ mode: 'on' })
}
const stateOf = async (id: string): Promise<string> =>
  (await call('GET', `/api/compliance/violations/${id}`)).body.state
const becomes = (id: string, want: string) =>
  expect.poll(() => stateOf(id), { timeout: 90_000, interval: 200 }).toBe(want)
type Workflow = { id: string; name: string; status: string; kind: string; requested_by: string; description: string }
const workflows = async (name: string): Promise<Workflow[]> =>
  (await call('GET', '/api/v1/compliance/workflows?limit=1000')).body.items.filter((one: Workflow) => one.name === name)
const held = async (value: string): Promise<{ id: string; method: string; kind: string }[]> =>
  (await call('GET', '/api/compliance/blocks?limit=1000')).body.items.filter(
    (one: { value: string; state: string }) => one.value === value && one.state === 'held',
  )

describe('an endpoint that answers otherwise than registered', () => {
  async function register(route: string, fields: string[]): Promise<void> {
    const url = `/api/compliance/reference/api_contract/${encodeURIComponent(`GET ${route}`)}`
    const answer = await call('PUT', url, { statuses: [200], fields, observe_url: `${origin}${route}` })
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
  }
  const differs = async (route: string, fields: string[]): Promise<string> =>
    (await report('api', 'api_response', { method: 'GET', route, status: 200, fields })) ?? ''

  it('is work for people, held back at the proxies, and over only once it was seen to answer as registered', async () => {
    await settings({ mode: 'on', block_endpoints: true })
    await register('/users', ['id', 'name'])
    answers.set('/users', { status: 200, body: '[{"id": 1, "name": "x", "ssn": "y"}]' })
    const id = await differs('/users', ['id', 'name', 'ssn'])
    const first = await tried(id)
    expect(first).toMatchObject({ strategy: 'workflow-repair', outcome: 'waiting', can_undo: true })
    expect(first.evidence).toMatchObject({ status: 200, fields: ['id', 'name', 'ssn'] })
    const [workflow] = await workflows('Repair: GET /users')
    expect(workflow).toMatchObject({ status: 'in_review', kind: 'review', requested_by: 'system/resolver' })
    const { items } = (await call('GET', `/api/v1/compliance/tasks?workflow_id=${workflow?.id}`)).body
    expect(items).toMatchObject([{ status: 'open', title: expect.stringMatching(/not registered: ssn/) }])
    expect(await held('/users')).toMatchObject([{ kind: 'route', method: 'GET' }])
    // A report that all is well is not a look.
    expect(
      await report('api', 'api_response', { method: 'GET', route: '/users', status: 200, fields: ['id', 'name'] }),
    ).toBe(undefined)
    expect(await call('POST', `/api/compliance/resolve/${id}`, { comment: 'they say' })).toMatchObject({ status: 409 })
    await later(id)
    expect(await tried(id, 2)).toMatchObject({ outcome: 'waiting', can_undo: false })
    expect(await workflows('Repair: GET /users')).toHaveLength(1)
    answers.set('/users', { status: 200, body: '[{"id": 1, "name": "x"}]' })
    await later(id)
    await becomes(id, 'resolved')
    expect(await held('/users')).toEqual([])
    expect((await workflows('Repair: GET /users'))[0]).toMatchObject({ status: 'cancelled' })
    expect((await tried(id, 3)).detail).toMatch(/was looked at, and answers as registered/)
  })
  it('is closed by a person once it was mended, without a word of override', async () => {
    await register('/mended', ['id'])
    answers.set('/mended', { status: 200, body: '{"id": 1}' })
    await settings({ mode: 'off' })
    const id = await differs('/mended', ['id', 'ssn'])
    expect((await call('POST', `/api/compliance/resolve/${id}`, { comment: 'mended' })).body).toMatchObject({
      state: 'resolved',
      resolution: { still_found: false },
    })
    await settings({ mode: 'on' })
  })
  it('that does not answer stays open; its try can be taken back, and then it is left to people', async () => {
    await register('/gone', ['id'])
    answers.set('/gone', { status: 500, body: '{' })
    const id = await differs('/gone', ['id', 'ssn'])
    const first = await tried(id)
    expect(first.detail).toMatch(/cannot be looked at/)
    expect(await held('/gone')).toHaveLength(1)
    const undone = await call('POST', `/api/compliance/attempts/${first.id}/undo`, { comment: 'known' })
    expect(undone.body).toMatchObject({ undone_by: 'admin@acme.example' })
    expect(await held('/gone')).toEqual([])
    expect((await workflows('Repair: GET /gone'))[0]).toMatchObject({ status: 'cancelled' })
    await later(id)
    expect((await attempts(id)).length).toBe(1)
  })
  it('is not held back where the tenant does not say so, nor where the report names what nobody registered', async () => {
    await settings({ mode: 'on', block_endpoints: false })
    await register('/soft', ['id'])
    answers.set('/soft', { status: 200, body: '{"ssn": 1}' })
    await tried(await differs('/soft', ['ssn']))
    expect(await held('/soft')).toEqual([])
    await settings({ mode: 'on', block_endpoints: true })
    const all = await tried(await differs('/**', ['ssn']))
    expect(all.detail).toMatch(/not held back at the proxies: it is not registered/)
    expect(await held('/**')).toEqual([])
  })
})

describe('a rule that keeps being violated', () => {
  const NAME = 'Tightened: unauthorized_model_usage'
  const used = (client: string, model: string): Promise<string | undefined> =>
    report('ai_model', 'use', { client_id: client, model })
  async function newUser(name: string, role: string): Promise<string> {
    const email = `${name}@acme.example`
    const { id } = (await call('POST', '/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
    const roles = (await call('GET', '/api/v1/roles')).body.items as { id: string; name: string }[]
    const role_id = roles.find((one) => one.name === role)?.id
    await call('POST', '/api/v1/role-bindings', { role_id, principal_kind: 'user', principal_id: id })
    const made = { tenant: 'acme', email, password: FIRST_PASSWORD }
    return (await stack.call('acme', 'POST', '/api/v1/session', made, null)).body.token
  }

  it('has a tightened policy drafted, tried on what happened; it comes into force by two people, and then closes', async () => {
    await call('PUT', '/api/compliance/reference/tier/gold', { models: ['m1'] })
    for (const client of ['good', 'bad', 'mixed'])
      await call('PUT', `/api/compliance/reference/account/${client}`, { tier: 'gold' })
    for (let n = 0; n < 12; n++) expect(await used('good', 'm1')).toBe(undefined)
    await settings({ mode: 'off', strategies: { unauthorized_model_usage: 'DeepAgent-regenerate-policy' } })
    const once = (await used('mixed', 'm9')) ?? ''
    await used('bad', 'm9')
    await used('bad', 'm9')
    const id = (await used('bad', 'm9')) ?? ''
    await settings({ mode: 'dry_run' })
    expect(await tried(id)).toMatchObject({
      outcome: 'would_act',
      detail: expect.stringMatching(/would draft version 1/),
    })
    expect((await call('GET', '/api/v1/policies')).body.items).toEqual([])
    await settings({ mode: 'on' })
    const drafted = await tried(id, 2)
    expect(drafted).toMatchObject({ strategy: 'DeepAgent-regenerate-policy', outcome: 'waiting' })
    const [policy] = (await call('GET', '/api/v1/policies')).body.items
    expect(policy).toMatchObject({ name: NAME, active_version: null, latest_version: 1 })
    expect(policy.rego_content).toContain('"bad"')
    expect(policy.rego_content).not.toContain('mixed')
    const [workflow] = await workflows(NAME)
    expect(workflow).toMatchObject({ kind: 'policy', status: 'in_review', policy: { id: policy.id, version: 1 } })
    expect(workflow?.description).toMatch(/refused 3 of 4 violations, and 0 of \d+ events that nothing was wrong with/)
    // One draft for all violations of the rule.
    await expect.poll(async () => (await attempts(once)).at(-1)?.outcome, { timeout: 60_000 }).toBe('waiting')
    expect(await workflows(NAME)).toHaveLength(1)

    const activate = (token?: string): Promise<Called> =>
      call('POST', `/api/v1/policies/${policy.id}/activate`, {}, token)
    expect((await activate()).body).toMatchObject({ status: 409, detail: expect.stringMatching(/takes an approval/) })
    const lead = await newUser('lead', 'ComplianceLead')
    const approved = await call(
      'POST',
      `/api/v1/compliance/workflows/${workflow?.id}/transition`,
      { status: 'approved' },
      lead,
    )
    expect(approved.body).toMatchObject({ status: 'approved', approved_by: ['lead@acme.example'] })
    expect(await activate(lead)).toMatchObject({ status: 403 })
    expect((await activate()).body).toMatchObject({ active_version: 1 })
    const judged = async (subject: string): Promise<number> => {
      const input = { request: { caller: { subject } } }
      return (await call('POST', `/api/v1/policies/${policy.id}/evaluate`, { input })).body.result.violations.length
    }
    expect([await judged('bad'), await judged('good')]).toEqual([1, 0])
    await later(id)
    await becomes(id, 'resolved')
    // Who is not refused by it is not resolved by it.
    expect(await stateOf(once)).toBe('open')
  })
  it('has none where it would refuse what nothing was wrong with', async () => {
    await settings({ mode: 'off', strategies: { tier_policy_violation: 'DeepAgent-regenerate-policy' } })
    await call('PUT', '/api/compliance/reference/tier/free', { features: ['read'] })
    await call('PUT', '/api/compliance/reference/account/busy', { tier: 'free' })
    for (let n = 0; n < 5; n++) await report('activity', 'feature_used', { client_id: 'busy', feature: 'read' })
    let id = ''
    for (let n = 0; n < 3; n++)
      id = (await report('activity', 'feature_used', { client_id: 'busy', feature: 'export' })) ?? ''
    await settings({ mode: 'on' })
    expect(await tried(id)).toMatchObject({
      outcome: 'not_resolved',
      detail: expect.stringMatching(/no draft: it would have refused 5 of \d+ events that nothing was wrong with/),
    })
    expect(await workflows('Tightened: tier_policy_violation')).toEqual([])
  })
})
