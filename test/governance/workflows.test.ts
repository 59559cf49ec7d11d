import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startUpstream, type Upstream } from '#test/support/upstream.ts'

type Person = { readonly id: string; readonly token: string }
const URL = '/api/v1/compliance/workflows'

let stack: GovernanceStack
let lead: Person
let manager: Person
let agent: Person
beforeAll(async () => {
  stack = await startGovernanceStack()
  lead = await newUser('lead', 'ComplianceLead')
  manager = await newUser('manager', 'ProjectManager')
  agent = await newUser('agent', 'Agent')
})
afterAll(() => stack?.stop())

const call = (method: string, url: string, body?: unknown, who?: Person): Promise<Called> =>
  stack.call('acme', method, url, body, who?.token)
const move = (id: string, status: string, who: Person, more: object = {}): Promise<Called> =>
  call('POST', `${URL}/${id}/transition`, { status, ...more }, who)

async function newUser(name: string, role: string): Promise<Person> {
  const email = `${name}@acme.example`
  const { id } = (await call('POST', '/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
  const roles = (await call('GET', '/api/v1/roles')).body.items as { id: string; name: string }[]
  const role_id = roles.find((one) => one.name === role)?.id
  await call('POST', '/api/v1/role-bindings', { role_id, principal_kind: 'user', principal_id: id })
  const session = await stack.call(
    'acme',
    'POST',
    '/api/v1/session',
    { tenant: 'acme', email, password: FIRST_PASSWORD },
    null,
  )
  return { id, token: session.body.token }
}
async function begin(more: object = {}, who = manager): Promise<string> {
  const made = await call('POST', URL, { regulation: 'soc2', name: 'Quarterly review', ...more }, who)
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body.id
}

describe('a workflow', () => {
  it('goes from draft to completed, by four eyes, and each step is in the ledger under its name', async () => {
    const id = await begin()
    expect((await move(id, 'in_review', manager)).body).toMatchObject({ status: 'in_review', approved_by: [] })
    const own = await move(id, 'approved', manager)
    expect(own).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } })
    expect(own.body.detail).toMatch(/somebody else has to approve/)
    expect((await move(id, 'approved', lead, { comment: 'looks right' })).body).toMatchObject({
      status: 'approved',
      approved_by: ['lead@acme.example'],
    })
    expect((await move(id, 'completed', manager)).body).toMatchObject({ status: 'completed' })
    const { items } = (await call('GET', `${URL}/${id}/history`)).body
    expect(items.map(({ old_status, new_status }: Record<string, string>) => `${old_status} → ${new_status}`)).toEqual([
      'draft → in_review',
      'in_review → approved',
      'approved → completed',
    ])
    const events = await stack.events('acme', '&event_type=compliance.workflow.status_changed')
    expect(events.map(({ context }) => [context?.old_status, context?.new_status])).toEqual([
      ['draft', 'in_review'],
      ['in_review', 'approved'],
      ['approved', 'completed'],
    ])
  })
  it('that takes two takes two different ones, neither of them who asked', async () => {
    const id = await begin({ required_approvals: 2 })
    await move(id, 'in_review', manager)
    expect((await move(id, 'approved', lead)).body).toMatchObject({
      status: 'in_review',
      approved_by: ['lead@acme.example'],
    })
    expect((await move(id, 'approved', lead)).body.detail).toMatch(/approved this already/)
    const second = await call('POST', `${URL}/${id}/transition`, { status: 'approved' })
    expect(second.body).toMatchObject({ status: 'approved', approved_by: ['lead@acme.example', 'admin@acme.example'] })
  })
  it('that goes back to draft loses its approvals', async () => {
    const id = await begin({ required_approvals: 2 })
    await move(id, 'in_review', manager)
    await move(id, 'approved', lead)
    expect((await move(id, 'draft', lead)).body).toMatchObject({ status: 'draft', approved_by: [] })
  })
  it('goes only where it may, names where that is, and is changed by one at a time', async () => {
    const id = await begin()
    const wrong = await move(id, 'completed', lead)
    expect(wrong).toMatchObject({ status: 409 })
    expect(wrong.body.detail).toMatch(/draft cannot become completed; it can become in_review, cancelled/)
    const { version } = (await call('GET', `${URL}/${id}`)).body
    const both = await Promise.all([1, 2].map(() => move(id, 'in_review', manager, { version })))
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409])
    await move(id, 'cancelled', manager)
    expect((await move(id, 'draft', manager)).body.detail).toMatch(/cancelled, which is final/)
  })
  it('waits for its tasks, and an agent sees its own', async () => {
    const id = await begin()
    const task = await call(
      'POST',
      '/api/v1/compliance/tasks',
      { workflow_id: id, title: 'Collect logs', assigned_to: agent.id },
      manager,
    )
    await call('POST', '/api/v1/compliance/tasks', { workflow_id: id, title: 'Somebody else’s' }, manager)
    const own = (await call('GET', '/api/v1/compliance/tasks', undefined, agent)).body.items
    expect(own.map(({ title }: { title: string }) => title)).toEqual(['Collect logs'])
    await move(id, 'in_review', manager)
    expect((await move(id, 'approved', lead)).body.detail).toMatch(/2 of its tasks are open/)
    const all = (await call('GET', `/api/v1/compliance/tasks?workflow_id=${id}`)).body.items as { id: string }[]
    const others = all.find((one) => one.id !== task.body.id)?.id
    expect((await call('POST', `/api/v1/compliance/tasks/${others}/status`, { status: 'done' }, agent)).status).toBe(
      404,
    )
    expect(
      (await call('POST', `/api/v1/compliance/tasks/${task.body.id}/status`, { status: 'done' }, agent)).body,
    ).toMatchObject({ status: 'done' })
    await call('POST', `/api/v1/compliance/tasks/${others}/status`, { status: 'done' }, manager)
    expect((await move(id, 'approved', lead)).body).toMatchObject({ status: 'approved' })
  })
  it('is paused and goes on', async () => {
    const id = await begin()
    expect((await call('POST', `${URL}/${id}/pause`, undefined, manager)).body).toMatchObject({ paused: true })
    expect((await move(id, 'in_review', manager)).body.detail).toMatch(/paused: resume it first/)
    expect((await call('POST', `${URL}/${id}/pause`, undefined, manager)).status).toBe(409)
    expect((await call('POST', `${URL}/${id}/resume`, undefined, manager)).body).toMatchObject({ paused: false })
    expect((await move(id, 'in_review', manager)).status).toBe(200)
  })
  it.each([
    { what: 'a regulation that is none', body: { regulation: 'no_such', name: 'X' }, want: /allowed: .*soc2/ },
    {
      what: 'a release of anything',
      body: {
        regulation: 'sox',
        name: 'X',
        release: { resource: '/r', channel: 'external', expires_at: '2099-01-01T00:00:00Z' },
      },
      want: /neither version nor digest/,
    },
    {
      what: 'a release that has ended',
      body: {
        regulation: 'sox',
        name: 'X',
        release: { resource: '/r', version: '1', channel: 'external', expires_at: '2020-01-01T00:00:00Z' },
      },
      want: /ended already/,
    },
    {
      what: 'a release for ever',
      body: {
        regulation: 'sox',
        name: 'X',
        release: { resource: '/r', version: '1', channel: 'external', expires_at: '2099-01-01T00:00:00Z' },
      },
      want: /more than 366 days/,
    },
  ])('with $what is refused', async ({ body, want }) => {
    const answer = await call('POST', URL, body)
    expect(answer).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } })
    expect(answer.body.detail).toMatch(want)
  })
  it('is nobody else’s, by no route', async () => {
    const id = await begin()
    const task = (await call('POST', '/api/v1/compliance/tasks', { workflow_id: id, title: 'X' })).body.id
    for (const [method, url, body, want = 404] of [
      ['GET', `${URL}/${id}`, undefined],
      ['GET', `${URL}/${id}/history`, undefined],
      ['POST', `${URL}/${id}/transition`, { status: 'in_review' }],
      ['POST', `${URL}/${id}/pause`, undefined],
      ['POST', `${URL}/${id}/resume`, undefined],
      ['POST', `/api/v1/compliance/tasks/${task}/status`, { status: 'done' }],
      ['POST', `/api/v1/compliance/tasks/${task}/assign`, { assigned_to: null }],
      ['POST', '/api/v1/compliance/tasks', { workflow_id: id, title: 'X' }, 400],
    ] as const)
      expect([method, url, (await stack.call('globex', method, url, body)).status]).toEqual([method, url, want])
    expect((await stack.call('globex', 'GET', URL)).body.items).toEqual([])
    expect((await stack.call('globex', 'GET', '/api/v1/compliance/tasks')).body.items).toEqual([])
  })
  it('is counted, and found again in the trail', async () => {
    await begin({ due_at: '2026-01-01T00:00:00Z' })
    const { body } = await call('GET', '/api/v1/compliance/dashboard')
    expect(body).toMatchObject({ overdue_workflows: 1, policies_in_force: 0, releases_in_force: 0 })
    expect(body.workflows.completed).toBe(1)
    const trail = await call('GET', '/api/v1/audit-trail?event_type=compliance.workflow.status_changed&limit=3')
    expect(trail.body.data).toHaveLength(3)
    const next = await call(
      'GET',
      `/api/v1/audit-trail?event_type=compliance.workflow.status_changed&limit=3&cursor=${trail.body.next_cursor}`,
    )
    expect(next.body.data).toHaveLength(3)
    expect(await call('GET', '/api/v1/audit-trail?from=yesterday')).toMatchObject({
      status: 400,
      body: { code: 'REQUEST_INVALID' },
    })
    expect(
      (await stack.call('globex', 'GET', '/api/v1/audit-trail?event_type=compliance.workflow.status_changed')).body
        .data,
    ).toEqual([])
  })
})

describe('a release', () => {
  let upstream: Upstream
  let proxy: ProxyStack
  beforeAll(async () => {
    upstream = await startUpstream()
    upstream.answer = (_request, response) => {
      response
        .writeHead(200, { 'content-type': 'application/json', 'signet-artifact-version': 'v7' })
        .end('{"revenue":1}')
    }
    const trust = path.join(stack.ledger.dir, 'trust.json')
    await writeFile(trust, JSON.stringify(stack.bundleTrust))
    const token = path.join(stack.ledger.dir, 'bundle.token')
    await writeFile(token, stack.token('acme'))
    const [ledger] = stack.ledger.ledgers
    const { private_key: _, ...ackKey } = stack.ledger.keyring.keys.find((key) => key.use === 'ack')!
    proxy = await startProxyStack({
      upstream: upstream.url,
      ledger: { url: ledger?.url ?? '', token: stack.ledger.token('proxy'), ackKey },
      policyData: {
        version: 1,
        routes: [{ template: '/reports/{name}', classification: 'confidential', regulations: ['SOX'] }],
      },
      env: {
        SIGNET_BUNDLE: `${stack.process().url}/bundles/policies.tar.gz`,
        SIGNET_BUNDLE_TRUST: trust,
        SIGNET_BUNDLE_TOKEN_FILE: token,
      },
    })
    await proxy.ready(60_000)
  })
  afterAll(async () => {
    await proxy?.stop()
    await upstream?.close()
  })
  const get = () => fetch(`${proxy.external}/reports/q3`)
  const becomes = (want: number) =>
    expect.poll(async () => (await get()).status, { timeout: 60_000, interval: 200 }).toBe(want)

  it('that was refused passes once a second person has agreed, says who that was, and is refused again when that is revoked', async () => {
    expect((await get()).status).toBe(422)
    const release = {
      resource: '/reports/{name}',
      version: 'v7',
      channel: 'external',
      expires_at: new Date(Date.now() + 86_400_000).toISOString(),
    }
    const id = await begin({ regulation: 'sox', name: 'Q3 statement', release })
    await move(id, 'in_review', manager)
    expect((await get()).status).toBe(422)
    await move(id, 'approved', lead)
    await becomes(200)
    const stamp = ((await (await get()).json()) as { _compliance: object })._compliance
    expect(JSON.stringify(stamp)).toContain('"approval_status":"approved"')
    expect((await call('GET', '/api/v1/compliance/dashboard')).body).toMatchObject({ releases_in_force: 1 })
    await move(id, 'revoked', lead)
    await becomes(422)
  })
  it('ends at a time that the store can read back, however it is written', async () => {
    const ends = new Date(Date.now() + 86_400_000)
    const release = { resource: '/reports/{name}', version: 'v1', channel: 'external' }
    const local = new Date(ends.getTime() + 23 * 3_600_000).toISOString().replace('Z', '+23:00')
    const made = await call('POST', URL, {
      regulation: 'soc2',
      name: 'Far east',
      release: { ...release, expires_at: local },
    })
    expect(made).toMatchObject({ status: 201, body: { release: { expires_at: ends.toISOString() } } })
    await move(made.body.id, 'in_review', manager)
    expect((await move(made.body.id, 'approved', lead)).status).toBe(200)
    expect((await call('GET', '/api/v1/compliance/dashboard')).status).toBe(200)
    const half = { ...release, resource: '/reports/\ud800', expires_at: ends.toISOString() }
    expect(await call('POST', URL, { regulation: 'soc2', name: 'Half', release: half })).toMatchObject({
      status: 400,
      body: { code: 'REQUEST_INVALID' },
    })
    const leap = { regulation: 'soc2', name: 'Leap', due_at: '2026-12-31T23:59:60Z' }
    expect((await call('POST', URL, leap)).status).toBe(400)
    await move(made.body.id, 'revoked', manager)
  })

  it('of another version does not pass', async () => {
    const release = {
      resource: '/reports/{name}',
      version: 'v8',
      channel: 'external',
      expires_at: new Date(Date.now() + 86_400_000).toISOString(),
    }
    const id = await begin({ regulation: 'sox', name: 'Q4 statement', release })
    await move(id, 'in_review', manager)
    const before = (await call('GET', '/api/v1/bundle')).body.sequence
    await move(id, 'approved', lead)
    await expect
      .poll(async () => (await call('GET', '/api/v1/bundle')).body.sequence, { timeout: 60_000 })
      .toBeGreaterThan(before)
    const { revision } = (await call('GET', '/api/v1/bundle')).body
    await expect.poll(() => proxy.metrics(), { timeout: 30_000 }).toContain(`revision="${revision}"`)
    expect((await get()).status).toBe(422)
  })
})
