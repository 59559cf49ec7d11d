import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startUpstream, type Upstream } from '#test/support/upstream.ts'

let stack: GovernanceStack
beforeAll(async () => {
  stack = await startGovernanceStack()
})
afterAll(() => stack?.stop())

const post = (url: string, body?: unknown, tenant = 'acme', token?: string): Promise<Called> =>
  stack.call(tenant, 'POST', url, body, token)
const get = (url: string, tenant = 'acme'): Promise<Called> => stack.call(tenant, 'GET', url)
const patch = (url: string, body: unknown): Promise<Called> => stack.call('acme', 'PATCH', url, body)

/** Refuses what `input.request.path` begins with. */
const refusing = (prefix: string, pack = 'acme.exports'): string => `package ${pack}

decision := {"evaluated": true, "violations": violations}

violations := [violation |
	startswith(input.request.path, "${prefix}")
	violation := {"severity": "high", "message": "exports stay inside", "remediation": {"hint": "ask compliance"}, "frameworks": ["SOX"]}
]
`
const draft = (name: string, rego: string, more: object = {}) => ({
  name,
  policy_type: 'opa_rego',
  rego_content: rego,
  regulation_refs: ['SOX'],
  ...more,
})

describe('a policy', () => {
  let id: string

  it('is made, and is what was sent', async () => {
    const rego = refusing('/exports')
    const made = await post('/api/v1/policies', draft('Exports stay', rego))
    expect(made).toMatchObject({
      status: 201,
      body: {
        name: 'Exports stay',
        rego_content: rego,
        regulation_refs: ['SOX'],
        latest_version: 1,
        active_version: null,
      },
    })
    id = made.body.id
    expect(made.body.rule_id).toMatch(/^exports-stay-[0-9a-f]{12}$/)
    expect((await get(`/api/v1/policies/${id}`)).body).toEqual(made.body)
    expect((await get('/api/v1/policies')).body.items.map((one: { id: string }) => one.id)).toContain(id)
  })
  it('is evaluated as its author wrote it', async () => {
    const judge = async (target: string) =>
      (await post(`/api/v1/policies/${id}/evaluate`, { input: { request: { path: target } } })).body
    expect(await judge('/exports/2026')).toMatchObject({
      version: 1,
      undecidable: null,
      result: { violations: [{ message: 'exports stay inside' }] },
    })
    expect(await judge('/products')).toMatchObject({ result: { evaluated: true, violations: [] } })
    // Undefined in Rego: there is no path to begin with anything.
    expect((await post(`/api/v1/policies/${id}/evaluate`, { input: 7 })).body).toMatchObject({
      result: { violations: [] },
    })
  })
  it('becomes another version when it says something else, and only then', async () => {
    expect((await patch(`/api/v1/policies/${id}`, { name: 'Exports stay in' })).body).toMatchObject({
      latest_version: 1,
    })
    const changed = await patch(`/api/v1/policies/${id}`, { rego_content: refusing('/reports') })
    expect(changed.body).toMatchObject({ name: 'Exports stay in', latest_version: 2, regulation_refs: ['SOX'] })
    const { items } = (await get(`/api/v1/policies/${id}/versions`)).body
    expect(
      items.map(({ number, rego_content }: { number: number; rego_content: string }) => [number, rego_content]),
    ).toEqual([
      [2, refusing('/reports')],
      [1, refusing('/exports')],
    ])
    expect((await get(`/api/v1/policies/${id}/versions?below=2`)).body.items).toHaveLength(1)
    const asked = await post(`/api/v1/policies/${id}/evaluate`, {
      input: { request: { path: '/exports' } },
      version: 1,
    })
    expect(asked.body).toMatchObject({ version: 1, result: { violations: [{}] } })
  })
  it('is changed by one at a time', async () => {
    const { version } = (await get(`/api/v1/policies/${id}`)).body
    expect(await patch(`/api/v1/policies/${id}`, { severity: 'low', version: version - 1 })).toMatchObject({
      status: 409,
      body: { code: 'CONFLICT' },
    })
    const both = await Promise.all(['low', 'medium'].map((severity) => patch(`/api/v1/policies/${id}`, { severity })))
    expect(both.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409])
  })
  it('is in the ledger with what was there before', async () => {
    const events = await stack.events('acme', '&action=policies.write')
    const [first] = events.filter(({ event_type }) => event_type === 'governance.outcome')
    expect(first).toMatchObject({
      outcome: 'success',
      after: { name: 'Exports stay', rego_content: refusing('/exports') },
    })
  })

  it.each([
    { what: 'Rego that does not parse', rego: 'package a\n\ndecision := {', want: /rego_content:3:\d+: / },
    { what: 'a name that is not there', rego: 'package a\n\ndecision := missing', want: /rego_content:3:13: / },
    {
      what: 'the network',
      rego: 'package a\n\ndecision := http.send({"method": "GET", "url": "http://x"})',
      want: /rego_content:3:13: .*http\.send/,
    },
    { what: 'no decision', rego: 'package a\n\nallow := true', want: /decision/ },
    { what: 'a package of Signet’s own', rego: 'package signet.root\n\ndecision := data.signet', want: /signet/ },
  ])('with $what is refused, with its place', async ({ rego, want }) => {
    const answer = await post('/api/v1/policies', draft('Broken', rego))
    expect(answer).toMatchObject({ status: 400, body: { code: 'RULE_INVALID' } })
    expect(answer.body.detail).toMatch(want)
  })
  it.each([
    { what: 'another type', body: { ...draft('x', 'package a'), policy_type: 'cedar' } },
    { what: 'a member that is not known', body: { ...draft('x', 'package a'), owner: 'me' } },
    { what: 'regulations that are none', body: { ...draft('x', 'package a'), regulation_refs: ['no such thing!'] } },
    { what: 'too much Rego', body: draft('x', `package a\n#${'x'.repeat(70_000)}`) },
    { what: 'what PostgreSQL cannot hold', body: draft('x', 'package a\n# \u0000') },
  ])('$what is refused', async ({ body }) => {
    expect(await post('/api/v1/policies', body)).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } })
  })
  it('has no half of a surrogate pair in its name, nor gets one later', async () => {
    const name = 'Half \ud800'
    const wanted = { status: 400, body: { code: 'REQUEST_INVALID' } }
    expect(await post('/api/v1/policies', draft(name, refusing('/x')))).toMatchObject(wanted)
    expect(await patch(`/api/v1/policies/${id}`, { name })).toMatchObject(wanted)
  })
  it('has a name of its own', async () => {
    expect(await post('/api/v1/policies', draft('EXPORTS STAY IN', refusing('/x')))).toMatchObject({ status: 409 })
  })

  it('that goes on for ever is interrupted, and the next one is answered', async () => {
    const rego = `package slow

decision := {"evaluated": true, "violations": []} if {
	input.go
	count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == -1]) == 0
}
`
    const slow = (await post('/api/v1/policies', draft('Slow', rego))).body.id
    const startedMs = performance.now()
    const answer = await post(`/api/v1/policies/${slow}/evaluate`, { input: { go: true } })
    expect(answer).toMatchObject({ status: 422, body: { code: 'EVALUATION_LIMIT' } })
    expect(performance.now() - startedMs).toBeLessThan(10_000)
    expect((await post(`/api/v1/policies/${id}/evaluate`, { input: { request: { path: '/' } } })).status).toBe(200)
  })

  it('of an input that is nested without end is a bad request', async () => {
    const text = `{"input":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
    const answer = await fetch(`${stack.process().url}/api/v1/policies/${id}/evaluate`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.token('acme')}`, 'content-type': 'application/json' },
      body: text,
    })
    expect([answer.status, await answer.json()]).toMatchObject([400, { code: 'REQUEST_INVALID' }])
  })

  it('is nobody else’s', async () => {
    const other = (method: string, url: string, body?: unknown) => stack.call('globex', method, url, body)
    for (const [method, url, body] of [
      ['GET', `/api/v1/policies/${id}`, undefined],
      ['GET', `/api/v1/policies/${id}/versions`, undefined],
      ['PATCH', `/api/v1/policies/${id}`, { severity: 'low' }],
      ['POST', `/api/v1/policies/${id}/evaluate`, { input: {} }],
      ['POST', `/api/v1/policies/${id}/activate`, {}],
      ['POST', `/api/v1/policies/${id}/rollback`, {}],
      ['POST', `/api/v1/policies/${id}/deactivate`, undefined],
    ] as const)
      expect([method, url, (await other(method, url, body)).status]).toEqual([method, url, 404])
    expect((await get('/api/v1/policies', 'globex')).body.items).toEqual([])
  })
})

describe('in force', () => {
  let upstream: Upstream
  let proxy: ProxyStack
  let id: string
  beforeAll(async () => {
    upstream = await startUpstream()
    upstream.answer = (_request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
    }
    const trust = path.join(stack.ledger.dir, 'trust.json')
    await writeFile(trust, JSON.stringify(stack.bundleTrust))
    const token = path.join(stack.ledger.dir, 'bundle.token')
    const account = (await post('/api/v1/service-accounts', { name: 'proxies' })).body.id
    const roles = (await get('/api/v1/roles')).body.items as { id: string; name: string }[]
    const role_id = roles.find(({ name }) => name === 'Viewer')?.id
    await post('/api/v1/role-bindings', { role_id, principal_kind: 'service_account', principal_id: account })
    const made = await post('/api/v1/tokens', {
      name: 'bundles',
      service_account_id: account,
      scopes: ['read:policies'],
      expires_in_days: 1,
    })
    expect(made.status, JSON.stringify(made.body)).toBe(201)
    await writeFile(token, made.body.token)
    const [ledger] = stack.ledger.ledgers
    const { private_key: _, ...ackKey } = stack.ledger.keyring.keys.find((key) => key.use === 'ack')!
    proxy = await startProxyStack({
      upstream: upstream.url,
      ledger: { url: ledger?.url ?? '', token: stack.ledger.token('proxy'), ackKey: ackKey ?? null },
      policyData: { version: 1, routes: [{ template: '/**', classification: 'public' }] },
      env: {
        SIGNET_BUNDLE: `${stack.process().url}/bundles/policies.tar.gz`,
        SIGNET_BUNDLE_TRUST: trust,
        SIGNET_BUNDLE_TOKEN_FILE: token,
      },
    })
    await proxy.ready(60_000)
    id = (await post('/api/v1/policies', draft('No exports', refusing('/exports')))).body.id
  })
  afterAll(async () => {
    await proxy?.stop()
    await upstream?.close()
  })

  const status = async (target: string): Promise<number> => (await fetch(`${proxy.external}${target}`)).status
  const becomes = (target: string, want: number) =>
    expect.poll(() => status(target), { timeout: 60_000, interval: 200 }).toBe(want)

  it('a policy that is not changes nothing', async () => {
    expect(await status('/exports/a')).toBe(200)
  })
  it('it refuses what it forbids, and says why', async () => {
    expect((await post(`/api/v1/policies/${id}/activate`, {})).body).toMatchObject({ active_version: 1 })
    await becomes('/exports/a', 422)
    const refusal = await (await fetch(`${proxy.external}/exports/a`)).text()
    expect(refusal).toContain('exports stay inside')
    expect(refusal).toMatch(/no-exports-[0-9a-f]{12}/)
    expect(await status('/reports/a')).toBe(200)
  })
  it('another version is in force when it is put so, and the former one when it is rolled back', async () => {
    await patch(`/api/v1/policies/${id}`, { rego_content: refusing('/reports') })
    expect(await status('/exports/a')).toBe(422)
    expect((await post(`/api/v1/policies/${id}/activate`, {})).body).toMatchObject({ active_version: 2 })
    await becomes('/reports/a', 422)
    expect(await status('/exports/a')).toBe(200)
    expect((await post(`/api/v1/policies/${id}/rollback`, {})).body).toMatchObject({
      active_version: 1,
      latest_version: 2,
    })
    await becomes('/exports/a', 422)
    expect(await status('/reports/a')).toBe(200)
  })
  it('in shadow it is counted, and lets pass', async () => {
    await patch(`/api/v1/policies/${id}`, { rego_content: refusing('/exports'), mode: 'shadow' })
    await post(`/api/v1/policies/${id}/activate`, {})
    await becomes('/exports/a', 200)
  })
  it('taken out of force it is gone', async () => {
    await post(`/api/v1/policies/${id}/activate`, { version: 1 })
    await becomes('/exports/a', 422)
    expect((await post(`/api/v1/policies/${id}/deactivate`)).body).toMatchObject({ active_version: null })
    await becomes('/exports/a', 200)
    expect(await post(`/api/v1/policies/${id}/activate`, { version: 99 })).toMatchObject({ status: 404 })
  })
  it('each revision is one action in the ledger, and grows', async () => {
    const { body } = await get('/api/v1/bundle')
    expect(body).toMatchObject({ problem: null, revision: expect.stringMatching(new RegExp(`^${body.sequence}-`)) })
    const events = (await stack.events('acme', '&actor=system/bundle-publisher')).filter(
      ({ event_type }) => event_type === 'governance.outcome',
    )
    expect(events.length).toBeGreaterThanOrEqual(5)
    expect(events.at(-1)?.after).toMatchObject({ revision: body.revision })
  })
  it('a bundle is its tenant’s: one’s policies are in nobody else’s, and nobody else can have it', async () => {
    const fetchBundle = (token?: string) =>
      fetch(
        `${stack.process().url}/bundles/policies.tar.gz`,
        token === undefined ? {} : { headers: { authorization: `Bearer ${token}` } },
      )
    expect((await fetchBundle()).status).toBe(401)
    await post(`/api/v1/policies/${id}/activate`, { version: 1 })
    await becomes('/exports/a', 422)
    const [own, other] = await Promise.all(['acme', 'globex'].map(async (tenant) => fetchBundle(stack.token(tenant))))
    expect([own?.status, other?.status]).toEqual([200, 200])
    expect(own?.headers.get('content-type')).toBe('application/vnd.openpolicyagent.bundles')
    expect(own?.headers.get('etag')).not.toBe(other?.headers.get('etag'))
    const again = await fetch(`${stack.process().url}/bundles/policies.tar.gz`, {
      headers: { authorization: `Bearer ${stack.token('acme')}`, 'if-none-match': own?.headers.get('etag') ?? '' },
    })
    expect(again.status).toBe(304)
  })
  it('who asks to wait hears of a new bundle when it is there, or that there is none when the time is over', async () => {
    const poll = async (etag: string, seconds: number, held = stack.token('acme')) => {
      const startedMs = performance.now()
      const answer = await fetch(`${stack.process().url}/bundles/policies.tar.gz`, {
        headers: {
          authorization: `Bearer ${held}`,
          'if-none-match': etag,
          prefer: `modes=snapshot;wait=${seconds}`,
        },
      })
      await answer.arrayBuffer()
      return { status: answer.status, etag: answer.headers.get('etag') ?? '', ms: performance.now() - startedMs }
    }
    const { etag } = await poll('', 0)
    const late = await poll(etag, 1)
    expect(late).toMatchObject({ status: 304, etag })
    expect(late.ms).toBeGreaterThan(990)

    const made = await post('/api/v1/tokens', { name: 'short-lived', scopes: ['read:policies'], expires_in_days: 1 })
    const [held, doomed] = [poll(etag, 50), poll(etag, 50, made.body.token)]
    // Both are waiting by then; if not, they are answered without having waited, which is as good.
    await poll(etag, 1)
    await stack.call('acme', 'DELETE', `/api/v1/tokens/${made.body.id}`)
    await post(`/api/v1/policies/${id}/deactivate`)
    expect(await held).toMatchObject({ status: 200, etag: expect.not.stringMatching(etag) as string })
    expect([401, 403]).toContain((await doomed).status)
    await post(`/api/v1/policies/${id}/activate`, { version: 1 })
    await becomes('/exports/a', 422)
  })
  it('two processes publish as one: a restart publishes nothing new, and goes on', async () => {
    const before = (await get('/api/v1/bundle')).body.sequence
    await stack.restart()
    expect((await get('/api/v1/bundle')).body.sequence).toBe(before)
    await post(`/api/v1/policies/${id}/deactivate`)
    await expect
      .poll(async () => (await get('/api/v1/bundle')).body.sequence, { timeout: 60_000 })
      .toBeGreaterThan(before)
  })
  it('no bundle is without a policy that is in force: what cannot be made whole is said, and the former one stays', async () => {
    const bundle = async () => (await get('/api/v1/bundle')).body
    await post(`/api/v1/policies/${id}/activate`, { version: 1 })
    const { body: other } = await post('/api/v1/policies', draft('No reports', refusing('/reports')))
    await expect.poll(bundle, { timeout: 60_000 }).toMatchObject({ is_current: true, problem: null })
    const { sequence } = await bundle()
    await stack.restart({ SIGNET_OPA: undefined })
    expect((await post(`/api/v1/policies/${other.id}/activate`, {})).status).toBe(200)
    await expect
      .poll(bundle, { timeout: 60_000 })
      .toMatchObject({ sequence, is_current: false, problem: expect.stringContaining('has no OPA') })
    const metrics = await (await fetch(`${stack.process().url}/metrics`)).text()
    expect(metrics).toMatch(/^signet_governance_bundles_total\{outcome="failed"\} [1-9]/m)
    await stack.restart()
    await expect.poll(bundle, { timeout: 60_000 }).toMatchObject({ is_current: true, problem: null })
    expect((await bundle()).sequence).toBeGreaterThan(sequence)
  })
})
