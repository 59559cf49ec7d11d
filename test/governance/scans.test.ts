import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

let stack: GovernanceStack
beforeAll(async () => {
  stack = await startGovernanceStack()
})
afterAll(() => stack?.stop())

type Result = {
  id: string
  rule_id: string
  user_id: string | null
  passed: boolean
  finding: string
  details: { facts: Record<string, unknown> }
}

const post = (url: string, body?: unknown, token?: string): Promise<Called> =>
  stack.call('acme', 'POST', url, body, token)
const get = (url: string, token?: string): Promise<Called> => stack.call('acme', 'GET', url, undefined, token)
const patch = (url: string, body: unknown): Promise<Called> => stack.call('acme', 'PATCH', url, body)
const results = async (scan: string, query = ''): Promise<Result[]> =>
  (await get(`/api/scans/${scan}/results?limit=1000${query}`)).body.items
const scanning = async (body: object): Promise<string> => {
  const made = await post('/api/scans', body)
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body.id
}

async function newUser(name: string, role?: string): Promise<{ id: string; token: string }> {
  const email = `${name}@acme.example`
  const { id } = (await post('/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
  if (role !== undefined) {
    const roles = (await get('/api/v1/roles')).body.items as { id: string; name: string }[]
    await post('/api/v1/role-bindings', {
      role_id: roles.find((one) => one.name === role)?.id,
      principal_kind: 'user',
      principal_id: id,
    })
  }
  const session = await stack.call(
    'acme',
    'POST',
    '/api/v1/session',
    { tenant: 'acme', email, password: FIRST_PASSWORD },
    null,
  )
  return { id, token: session.body.token }
}

const rule = (id: string, more: object = {}) => ({
  id,
  name: `Rule ${id}`,
  framework: 'NIST',
  severity: 'high',
  conditions: { fact: 'settings.tls', operator: 'equal', value: true },
  ...more,
})

describe('rules', () => {
  it('of the shipped packs are there, and say what their files say', async () => {
    const { body } = await get('/rules/nist-mfa-001')
    expect(body).toMatchObject({
      framework: 'NIST',
      source: 'file',
      facts: ['user.mfa_enabled', 'user.state'],
      event: { type: 'non_compliance' },
      is_active: true,
    })
    for (const framework of ['NIST', 'ISO27001', 'CIS'])
      expect((await get(`/rules?framework=${framework}`)).body.items.length, framework).toBeGreaterThanOrEqual(3)
    expect(await patch('/rules/nist-mfa-001', { severity: 'low' })).toMatchObject({ status: 409 })
    expect(await stack.call('acme', 'DELETE', '/rules/nist-mfa-001')).toMatchObject({ status: 409 })
  })
  it('are made, changed and deleted, by id', async () => {
    const made = await post('/rules', rule('own-tls-001'))
    expect(made).toMatchObject({
      status: 201,
      body: { id: 'own-tls-001', source: 'api', event: { type: 'non_compliance' }, facts: ['settings.tls'] },
    })
    expect(await post('/rules', rule('own-tls-001'))).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    expect((await patch('/rules/own-tls-001', { severity: 'low', version: 1 })).body).toMatchObject({
      severity: 'low',
      version: 2,
    })
    expect(await patch('/rules/own-tls-001', { severity: 'high', version: 1 })).toMatchObject({ status: 409 })
    expect((await stack.call('acme', 'DELETE', '/rules/own-tls-001')).status).toBe(204)
    expect((await get('/rules/own-tls-001')).status).toBe(404)
  })
  it.each([
    { what: 'an operator that is none', conditions: { fact: 'a.b', operator: 'almost', value: 1 }, status: 400 },
    { what: 'two kinds at once', conditions: { fact: 'a.b', operator: 'equal', value: 1, all: [] }, status: 400 },
    {
      what: 'a pattern that RE2 does not take',
      conditions: { fact: 'a.b', operator: 'matches', value: '(a' },
      status: 400,
    },
    { what: 'a fact that is no path', conditions: { fact: 'a..b', operator: 'equal', value: 1 }, status: 400 },
    {
      what: 'groups too deep',
      conditions: { all: [{ any: [{ all: [{ any: [{ all: [{ fact: 'a', operator: 'equal', value: 1 }] }] }] }] }] },
      status: 400,
    },
  ])('with $what are refused', async ({ conditions, status }) => {
    expect((await post('/rules', rule('broken-1', { conditions }))).status).toBe(status)
  })
  it('are paged', async () => {
    const first = (await get('/rules?limit=4')).body
    expect(first.items).toHaveLength(4)
    const second = (await get(`/rules?limit=4&cursor=${first.next_cursor}`)).body
    expect(second.items[0].id > first.items[3].id).toBe(true)
  })
})

describe('rules in YAML', () => {
  const send = async (method: string, url: string, text: string, type = 'application/yaml') => {
    const headers = { authorization: `Bearer ${stack.token('acme')}`, 'content-type': type }
    const response = await fetch(`${stack.process().url}${url}`, { method, headers, body: text })
    return { status: response.status, body: (await response.json()) as Called['body'] }
  }
  const YAML = `# What a file may say, a body may.
id: yaml-001
name: TLS
framework: NIST
severity: high
conditions:
  all:
    - fact: settings.tls
      operator: equal
      value: true
event: { type: non_compliance, params: { control: SC-8 } }
`

  it('are made and changed as in JSON', async () => {
    const made = await send('POST', '/rules', YAML)
    expect(made).toMatchObject({ status: 201, body: { id: 'yaml-001', facts: ['settings.tls'], shadows_file: false } })
    expect(made.body.event).toEqual({ type: 'non_compliance', params: { control: 'SC-8' } })
    expect(
      await send('PATCH', '/rules/yaml-001', 'severity: low\nversion: 1\n', 'application/yaml; charset=utf-8'),
    ).toMatchObject({
      status: 200,
      body: { severity: 'low', version: 2 },
    })
    const { body } = await get('/openapi.json')
    expect(Object.keys(body.paths['/rules'].post.requestBody.content)).toEqual(['application/json', 'application/yaml'])
  })
  it.each([
    {
      what: 'YAML that is wrong',
      text: YAML.replace('severity:', ' severity:'),
      status: 400,
      want: /^the body at line 4, column 12 is no YAML: a mapping cannot stand there/,
    },
    {
      what: 'a member that is there twice',
      text: `${YAML}name: Again\n`,
      status: 400,
      want: /^the body at line 12, column 1 has a member that is there already/,
    },
    {
      what: 'several rules',
      text: `${YAML}---\n${YAML}`,
      status: 400,
      want: /begins a second document; a call takes one/,
    },
    { what: 'an alias', text: YAML.replace('TLS', '&a TLS'), status: 400, want: /has an anchor/ },
    { what: 'no rule', text: 'id: yaml-002\n', status: 400, want: /^the body must have required properties/ },
    {
      what: 'a member too much',
      text: YAML.replace('yaml-001', 'yaml-002\nsource: file'),
      status: 400,
      want: /member that is not known here/,
    },
    {
      what: 'an operator that is none',
      text: YAML.replace('yaml-001', 'yaml-002').replace('equal', 'almost'),
      status: 400,
      want: /operator/,
    },
    { what: 'a rule that is there', text: YAML, status: 409, want: /there is a rule yaml-001 already/ },
    { what: 'too much', text: `${YAML}#${'x'.repeat(40_000)}`, status: 413, want: /./ },
    { what: 'lists without end', text: '- '.repeat(1_900), status: 400, want: /nested/ },
  ])('with $what are refused', async ({ text, status, want }) => {
    const answer = await send('POST', '/rules', text)
    expect(answer.status, JSON.stringify(answer.body)).toBe(status)
    expect(answer.body.detail).toMatch(want)
  })
  it('says what JSON says to the same rule', async () => {
    const broken = { ...rule('yaml-003'), conditions: { fact: 'a..b', operator: 'equal', value: 1 } }
    const [json, yaml] = [await post('/rules', broken), await send('POST', '/rules', JSON.stringify(broken))]
    expect([yaml.status, yaml.body.detail]).toEqual([json.status, json.body.detail])
  })
  it('are taken nowhere else, and by no other name', async () => {
    expect((await send('POST', '/api/scans', 'rule_ids: [yaml-001]\n')).status).toBeGreaterThanOrEqual(400)
    expect((await send('POST', '/rules', YAML, 'text/yaml')).status).toBeGreaterThanOrEqual(400)
    expect((await stack.call('acme', 'DELETE', '/rules/yaml-001')).status).toBe(204)
  })
})

describe('a scan', () => {
  it('of all that is active looks at the database, the access store, the ledger and every user', async () => {
    const id = await scanning({})
    const found = await results(id)
    const byRule = Map.groupBy(found, ({ rule_id }) => rule_id)
    expect([...byRule.keys()]).toEqual(
      expect.arrayContaining(['nist-mfa-001', 'nist-audit-001', 'iso27001-separation-001', 'cis-postgres-003']),
    )
    const one = (rule_id: string) => byRule.get(rule_id)?.[0]
    expect(one('nist-audit-001')).toMatchObject({
      passed: true,
      user_id: null,
      details: { facts: { 'ledger.verifies': true } },
    })
    expect(one('cis-postgres-003')).toMatchObject({ passed: true })
    expect(one('iso27001-separation-001')).toMatchObject({
      passed: true,
      details: { facts: { 'access.tables_without_row_security': 0 } },
    })
    expect(one('nist-mfa-001')).toMatchObject({ passed: false, details: { facts: { 'user.mfa_enabled': false } } })
    const { body } = await get(`/api/scans/${id}`)
    expect(body).toMatchObject({ org_id: 'acme', trigger: 'manual', requested_by: 'admin@acme.example', problems: {} })
    expect(body.passed + body.failed).toBe(found.length)
    expect((await results(id, '&passed=false')).every(({ passed }) => !passed)).toBe(true)
  })
  it.each([
    { what: 'holds', facts: { user: { mfa_enabled: true } }, want: true },
    { what: 'does not', facts: { user: { mfa_enabled: false, state: 'active' } }, want: false },
    { what: 'of which nothing is known does not', facts: { user: {} }, want: false },
  ])('with facts of the caller: what $what', async ({ facts, want }) => {
    const id = await scanning({ org_id: 'acme/plant', rule_ids: ['nist-mfa-001'], facts })
    expect(await results(id)).toMatchObject([{ rule_id: 'nist-mfa-001', passed: want, user_id: null }])
    expect((await get('/api/scans?org_id=acme/plant')).body.items[0]).toMatchObject({ id, given_facts: ['user'] })
  })
  it.each([
    { operator: 'in', value: ['a', 'b'], facts: ['a', 'c'] },
    { operator: 'notIn', value: ['a', 'b'], facts: ['c', 'a'] },
    { operator: 'contains', value: 'a', facts: [['a'], ['b']] },
    { operator: 'greaterThanInclusive', value: 3, facts: [3, 2] },
    { operator: 'lessThan', value: 3, facts: [2, '2'] },
    { operator: 'exists', value: true, facts: [1, null] },
    { operator: 'matches', value: '^a+$', facts: ['aa', 'ab'] },
  ])('$operator', async ({ operator, value, facts: [good, bad] }) => {
    const id = `op-${operator.toLowerCase()}`
    expect(
      (await post('/rules', rule(id, { conditions: { fact: 'x.y', operator, value }, is_active: false }))).status,
    ).toBe(201)
    for (const [fact, want] of [
      [good, true],
      [bad, false],
    ])
      expect((await results(await scanning({ rule_ids: [id], facts: { x: { y: fact } } })))[0]?.passed).toBe(want)
  })
  it('keeps long evidence cut between characters', async () => {
    const name = 'x'.repeat(498) + '😀'.repeat(50)
    const id = await scanning({ rule_ids: ['nist-mfa-001'], facts: { user: { mfa_enabled: name, state: name } } })
    const [result] = await results(id)
    expect(String(result?.details.facts['user.mfa_enabled']).length).toBeLessThan(510)
  })
  it('shows what is new against another', async () => {
    const before = await scanning({ rule_ids: ['nist-mfa-001'], facts: { user: { mfa_enabled: true } } })
    const after = await scanning({ rule_ids: ['nist-mfa-001'], facts: { user: { mfa_enabled: false } } })
    expect((await get(`/api/scans/${after}/differences?against=${before}`)).body).toMatchObject({
      appeared: [{ rule_id: 'nist-mfa-001' }],
      disappeared: [],
    })
    expect((await get(`/api/scans/${before}/differences?against=${after}`)).body).toMatchObject({
      appeared: [],
      disappeared: [{ rule_id: 'nist-mfa-001' }],
    })
  })
  it.each([
    { what: 'a rule that is not there', body: { rule_ids: ['no-such-rule'] } },
    { what: 'U+0000', body: { rule_ids: ['nist-mfa-001'], facts: { user: { name: 'a\u0000b' } } } },
    { what: 'a fact with a bad name', body: { facts: { 'User-1': {} } } },
    { what: 'a member that is not known', body: { org: 'x' } },
  ])('with $what is refused', async ({ body }) => {
    expect(await post('/api/scans', body)).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } })
  })
  it('is nobody else’s', async () => {
    const id = await scanning({ rule_ids: ['nist-mfa-001'], facts: { user: { mfa_enabled: true } } })
    for (const url of [`/api/scans/${id}`, `/api/scans/${id}/results`, `/api/scans/${id}/differences?against=${id}`])
      expect((await stack.call('globex', 'GET', url)).status).toBe(404)
    expect((await stack.call('globex', 'GET', '/api/scans')).body.items).toEqual([])
    expect((await stack.call('globex', 'POST', '/api/scans', { rule_ids: ['op-in'] })).status).toBe(400)
  })
  it('on a schedule is made by Signet itself, and is in the ledger', async () => {
    expect(await post('/api/scan-schedules', { cron: '* * * * *' })).toMatchObject({ status: 400 })
    for (const cron of ['whenever', '0,10,20,30,31,32 * * * *', '0 0 30 2 *'])
      expect((await post('/api/scan-schedules', { cron })).status, cron).toBe(400)
    const made = await post('/api/scan-schedules', {
      cron: '0 3 * * *',
      rule_ids: ['nist-audit-001'],
      org_id: 'acme/night',
    })
    expect(made).toMatchObject({ status: 201, body: { is_active: true } })
    expect(new Date(made.body.next_at).toISOString()).toMatch(/T03:00:00.000Z$/)
    await stack.query("UPDATE signet.scan_schedules SET next_at = now() WHERE cron = '0 3 * * *'", 'acme')
    const scans = async () => (await get('/api/scans?org_id=acme/night')).body.items
    await expect.poll(async () => (await scans()).length, { timeout: 60_000 }).toBe(1)
    expect((await scans())[0]).toMatchObject({ trigger: 'schedule', requested_by: 'system/scan-schedule', passed: 1 })
    const [schedule] = (await get('/api/scan-schedules')).body.items
    expect(schedule).toMatchObject({ last_scan: (await scans())[0].id, last_error: null })
    expect(new Date(schedule.next_at).getTime()).toBeGreaterThan(Date.now())
    const events = await stack.events('acme', '&actor=system/scan-schedule')
    expect(events.map(({ event_type }) => event_type)).toEqual(['governance.intent', 'governance.outcome'])
    expect((await stack.call('acme', 'DELETE', `/api/scan-schedules/${schedule.id}`)).status).toBe(204)
  })
})

describe('remediation', () => {
  let ines: { id: string; token: string }
  let agent: { id: string; token: string }
  let id: string
  const url = () => `/api/remediation/${id}`

  it('is opened by a failure, once for a rule and a user', async () => {
    ines = await newUser('ines')
    agent = await newUser('agent', 'Agent')
    await scanning({ rule_ids: ['nist-mfa-001'] })
    await scanning({ rule_ids: ['nist-mfa-001'] })
    const { items } = (await get(`/api/remediation/?user_id=${ines.id}`)).body
    expect(items).toMatchObject([
      { rule_id: 'nist-mfa-001', status: 'open', verified: false, assigned_to: null, severity: 'high' },
    ])
    id = items[0].id
    expect((Date.parse(items[0].due_at) - Date.parse(items[0].created_at)) / 86_400_000).toBeCloseTo(7, 2)
    const { items: history } = (await get(`${url()}/history`)).body
    expect(history.map(({ kind }: { kind: string }) => kind)).toEqual(['opened', 'seen_again'])
    expect(await post('/api/remediation/', { result_id: items[0].result_id })).toMatchObject({ status: 409 })
  })
  it('is an agent’s own once it is theirs', async () => {
    expect((await get(url(), agent.token)).status).toBe(404)
    expect((await get('/api/remediation/', agent.token)).body.items).toEqual([])
    expect((await post(`${url()}/status`, { status: 'in_progress' }, agent.token)).status).toBe(404)
    expect((await post(`${url()}/assign`, { assigned_to: agent.id }, agent.token)).status).toBe(403)
    expect((await post(`${url()}/assign`, { assigned_to: agent.id })).body).toMatchObject({ assigned_to: agent.id })
    expect((await get('/api/remediation/', agent.token)).body.items).toMatchObject([{ id }])
    expect((await get(`/api/remediation/?assigned_to=${ines.id}`, agent.token)).body.items).toEqual([])
    expect((await post(`${url()}/status`, { status: 'in_progress' }, agent.token)).body).toMatchObject({
      status: 'in_progress',
    })
    expect((await post(`${url()}/comments`, { text: 'asked Ines' }, agent.token)).status).toBe(201)
  })
  it('goes only where it may', async () => {
    const answer = await post(`${url()}/status`, { status: 'closed' })
    expect(answer).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    expect(answer.body.detail).toMatch(/in_progress cannot become closed; it can become open or resolved/)
  })
  it('is verified only when the rule holds', async () => {
    const tooEarly = await post(`${url()}/verify`, { verified: true }, agent.token)
    expect(tooEarly).toMatchObject({ status: 409 })
    expect(tooEarly.body.detail).toMatch(/nist-mfa-001 does not hold yet/)
    expect((await get(url())).body).toMatchObject({ verified: false })
    await patch(`/api/v1/users/${ines.id}`, { mfa_enabled: true })
    const done = await post(`${url()}/verify`, { verified: true }, agent.token)
    expect(done.body).toMatchObject({ verified: true })
    expect(done.body.verified_by).toMatch(/^[0-9a-f-]{36}$/)
  })
  it('is resolved and closed, and then is final', async () => {
    expect((await post(`${url()}/status`, { status: 'resolved' })).body).toMatchObject({
      status: 'resolved',
      verified: true,
    })
    expect((await post(`${url()}/status`, { status: 'closed' })).body).toMatchObject({ status: 'closed' })
    expect((await post(`${url()}/status`, { status: 'open' })).body.detail).toMatch(/closed, which is final/)
    const { items } = (await get(`${url()}/history`)).body
    expect(items.map(({ kind }: { kind: string }) => kind)).toEqual([
      'opened',
      'seen_again',
      'assigned',
      'status',
      'comment',
      'verified',
      'status',
      'status',
    ])
    expect((await get(`/api/remediation/?status=closed&user_id=${ines.id}`)).body.items).toMatchObject([{ id }])
  })
  it('is nobody else’s, by no route', async () => {
    for (const [method, path, body] of [
      ['GET', url(), undefined],
      ['GET', `${url()}/history`, undefined],
      ['PATCH', url(), { metadata: { a: 1 } }],
      ['POST', `${url()}/status`, { status: 'open' }],
      ['POST', `${url()}/assign`, { assigned_to: null }],
      ['POST', `${url()}/comments`, { text: 'x' }],
      ['POST', `${url()}/verify`, { verified: true }],
    ] as const)
      expect([method, path, (await stack.call('globex', method, path, body)).status]).toEqual([method, path, 404])
  })
  it('every step is in the ledger', async () => {
    const events = (await stack.events('acme', `&resource_type=remediation`)).filter(
      ({ event_type, resource }) => event_type === 'governance.outcome' && resource === `remediation/${id}`,
    )
    expect(events.map(({ after }) => after?.status).filter((status) => status !== undefined)).toEqual([
      'open',
      'in_progress',
      'in_progress',
      'in_progress',
      'resolved',
      'closed',
    ])
  })
})
