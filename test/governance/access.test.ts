import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rolesFor, workCalls } from './work-calls.ts'
import { FIRST_PASSWORD, startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'

/** Who may do what: every shipped role against every call, sign-in, tokens, and one tenant against another. */
let stack: GovernanceStack
const roles = new Map<string, string>()
/** A user of acme with each role, and their tokens. */
const tokens = new Map<string, string>()
const users = new Map<string, string>()
beforeAll(async () => {
  stack = await startGovernanceStack()
  const { body } = await stack.call('acme', 'GET', '/api/v1/roles')
  for (const { id, name } of body.items as { id: string; name: string }[]) roles.set(name, id)
  for (const role of roles.keys()) {
    const email = `${role.toLowerCase()}.user@acme.example`
    const user = await stack.call('acme', 'POST', '/api/v1/users', { email, name: role, password: FIRST_PASSWORD })
    users.set(role, user.body.id)
    await give(user.body.id, role)
    tokens.set(role, (await signIn(email)).body.token)
  }
})
afterAll(() => stack?.stop())

const UNKNOWN = '00000000-0000-7000-8000-000000000000'
const signIn = (email: string, password = FIRST_PASSWORD, tenant = 'acme') =>
  stack.call(tenant, 'POST', '/api/v1/session', { tenant, email, password }, null)
const give = (user: string, role: string) =>
  stack.call('acme', 'POST', '/api/v1/role-bindings', {
    role_id: roles.get(role),
    principal_kind: 'user',
    principal_id: user,
  })
async function newUser(email: string, role?: string): Promise<{ id: string; token: string }> {
  const { body } = await stack.call('acme', 'POST', '/api/v1/users', { email, name: email, password: FIRST_PASSWORD })
  if (role !== undefined) await give(body.id, role)
  return { id: body.id, token: (await signIn(email)).body.token }
}

describe('each role, each call', () => {
  const read = ['Admin', 'ComplianceLead', 'Auditor']
  const readers = [...read, 'ProjectManager', 'Viewer']
  const calls: { call: readonly [string, string, unknown?]; allowed: readonly string[]; permission: string }[] = [
    { call: ['GET', '/api/v1/users'], allowed: read, permission: 'read:users' },
    { call: ['GET', `/api/v1/users/${UNKNOWN}`], allowed: read, permission: 'read:users' },
    {
      call: ['POST', '/api/v1/users', { email: 'x@acme.example', name: 'X' }],
      allowed: ['Admin'],
      permission: 'write:users',
    },
    { call: ['PATCH', `/api/v1/users/${UNKNOWN}`, { name: 'X' }], allowed: ['Admin'], permission: 'write:users' },
    { call: ['GET', '/api/v1/service-accounts'], allowed: ['Admin', 'Auditor'], permission: 'read:service-accounts' },
    {
      call: ['GET', `/api/v1/service-accounts/${UNKNOWN}`],
      allowed: ['Admin', 'Auditor'],
      permission: 'read:service-accounts',
    },
    {
      call: ['POST', '/api/v1/service-accounts', { name: 'x-1', description: '' }],
      allowed: ['Admin'],
      permission: 'write:service-accounts',
    },
    {
      call: ['PATCH', `/api/v1/service-accounts/${UNKNOWN}`, { description: '' }],
      allowed: ['Admin'],
      permission: 'write:service-accounts',
    },
    { call: ['GET', '/api/v1/roles'], allowed: read, permission: 'read:roles' },
    { call: ['GET', `/api/v1/roles/${UNKNOWN}`], allowed: read, permission: 'read:roles' },
    {
      call: ['POST', '/api/v1/roles', { name: 'Clerk', permissions: [] }],
      allowed: ['Admin'],
      permission: 'write:roles',
    },
    { call: ['PATCH', `/api/v1/roles/${UNKNOWN}`, { description: '' }], allowed: ['Admin'], permission: 'write:roles' },
    { call: ['DELETE', `/api/v1/roles/${UNKNOWN}`], allowed: ['Admin'], permission: 'delete:roles' },
    { call: ['GET', '/api/v1/role-bindings'], allowed: read, permission: 'read:roles' },
    {
      call: ['POST', '/api/v1/role-bindings', { role_id: UNKNOWN, principal_kind: 'user', principal_id: UNKNOWN }],
      allowed: ['Admin'],
      permission: 'assign:roles',
    },
    { call: ['DELETE', `/api/v1/role-bindings/${UNKNOWN}`], allowed: ['Admin'], permission: 'assign:roles' },
    { call: ['GET', '/api/v1/tokens'], allowed: ['Admin', 'Auditor'], permission: 'read:tokens' },
    {
      call: ['POST', '/api/v1/tokens', { name: 'x', expires_in_days: 1 }],
      allowed: ['Admin'],
      permission: 'write:tokens',
    },
    { call: ['DELETE', `/api/v1/tokens/${UNKNOWN}`], allowed: ['Admin'], permission: 'delete:tokens' },
    { call: ['GET', '/api/v1/regulations'], allowed: readers, permission: 'read:checklists' },
    { call: ['GET', '/api/v1/regulations/soc2/controls'], allowed: readers, permission: 'read:checklists' },
    { call: ['GET', '/api/compliance'], allowed: readers, permission: 'read:checklists' },
    {
      call: ['PATCH', '/api/compliance', { framework: 'soc2', control: 'CC1.1', status: 'in_progress' }],
      allowed: ['Admin', 'ComplianceLead'],
      permission: 'write:checklists',
    },
    ...workCalls(UNKNOWN).map((one) => ({ ...one, allowed: rolesFor(one) })),
  ]
  it('all calls of the OpenAPI document that take a permission are here', async () => {
    const { paths } = (await stack.call('acme', 'GET', '/openapi.json')).body as {
      paths: Record<string, Record<string, { description?: string }>>
    }
    const documented = Object.entries(paths).flatMap(([url, methods]) =>
      Object.entries(methods)
        .filter(([, { description }]) => /Permission: `\w+:/.test(description ?? ''))
        .map(([method]) => `${method.toUpperCase()} ${url}`),
    )
    expect(
      calls
        .map(
          ({ call: [method, url] }) =>
            `${method} ${url
              .replace(/\?.*/, '')
              .replaceAll(UNKNOWN, '{id}')
              .replace('/reference/tier/not-there', '/reference/{kind}/{key}')
              .replace('/reference/tier/gold', '/reference/{kind}/{key}')
              .replace(/\/reference\/tier$/, '/reference/{kind}')
              .replace('not-there', '{id}')
              .replace('/soc2/', '/{reg}/')}`,
        )
        .sort(),
    ).toEqual(documented.sort())
  })
  it.each(calls)('$call', async ({ call: [method, url, body], allowed, permission }) => {
    for (const role of roles.keys()) {
      const answer = await stack.call('acme', method, url, body, tokens.get(role))
      if (allowed.includes(role)) expect([role, answer.status]).not.toEqual([role, 403])
      else
        expect([role, answer.status, answer.body.detail]).toEqual([
          role,
          403,
          `${role.toLowerCase()}.user@acme.example lacks the permission ${permission}`,
        ])
    }
    for (const token of [null, 'sgn_', `sgn_${'A'.repeat(43)}`, 'x'.repeat(5_000)])
      expect((await stack.call('acme', method, url, body, token)).status).toBe(401)
  })
  it('every denial is in the ledger', async () => {
    const denials = (await stack.events('acme')).filter(({ event_type }) => event_type === 'governance.denied')
    for (const {
      call: [method],
      allowed,
      permission,
    } of calls) {
      const [action, resource] = permission.split(':')
      const missing = [...roles.keys()].filter((role) => !allowed.includes(role))
      for (const role of missing)
        expect(denials, `${method} ${role}`).toContainEqual(
          expect.objectContaining({
            actor: `${role.toLowerCase()}.user@acme.example`,
            action: `${resource}.${action}`,
            outcome: 'denied',
          }),
        )
    }
  })
})

describe('nobody gives what they do not have', () => {
  let clerk: { id: string; token: string }
  beforeAll(async () => {
    const permissions = ['users', 'roles', 'tokens', 'service-accounts'].flatMap((resource) =>
      ['read', 'write', 'assign'].map((action) => ({ action, resource, extent: 'all' })),
    )
    const { body } = await stack.call('acme', 'POST', '/api/v1/roles', { name: 'Access clerk', permissions })
    roles.set('Access clerk', body.id)
    clerk = await newUser('clerk@acme.example', 'Access clerk')
  })
  it.each([
    {
      what: 'a role with more',
      call: [
        'POST',
        '/api/v1/roles',
        { name: 'More', permissions: [{ action: 'read', resource: 'rules', extent: 'all' }] },
      ],
    },
    {
      what: 'a role with everything',
      call: ['POST', '/api/v1/roles', { name: 'More', permissions: [{ action: '*', resource: '*', extent: 'all' }] }],
    },
    {
      what: 'the role Admin to themselves',
      call: () => [
        'POST',
        '/api/v1/role-bindings',
        { role_id: roles.get('Admin'), principal_kind: 'user', principal_id: clerk.id },
      ],
    },
    {
      what: 'a password to an Admin',
      call: () => ['PATCH', `/api/v1/users/${users.get('Admin')}`, { password: 'as good as any other' }],
    },
  ])('$what', async ({ call }) => {
    const [method, url, body] = (typeof call === 'function' ? call() : call) as [string, string, unknown]
    const answer = await stack.call('acme', method, url, body, clerk.token)
    expect(answer).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } })
    expect(answer.body.detail).toMatch(/cannot give the permission \S+ without having it/)
  })
  it('a token of an account that can do more', async () => {
    const account = await stack.call('acme', 'POST', '/api/v1/service-accounts', { name: 'robot' })
    const binding = { role_id: roles.get('Admin'), principal_kind: 'service_account', principal_id: account.body.id }
    expect((await stack.call('acme', 'POST', '/api/v1/role-bindings', binding)).status).toBe(201)
    const wanted = { name: 'x', service_account_id: account.body.id, expires_in_days: 1 }
    expect(await stack.call('acme', 'POST', '/api/v1/tokens', wanted, clerk.token)).toMatchObject({ status: 403 })
    const made = await stack.call('acme', 'POST', '/api/v1/tokens', wanted)
    expect(made).toMatchObject({ status: 201, body: { principal_kind: 'service_account' } })
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, made.body.token)).body).toMatchObject({
      name: 'service-account:robot',
      roles: ['Admin'],
    })
    await stack.call('acme', 'PATCH', `/api/v1/service-accounts/${account.body.id}`, { state: 'disabled' })
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, made.body.token)).status).toBe(401)
  })
  it('a token that carries little makes none that carries more', async () => {
    const scoped = { name: 'little', scopes: ['write:tokens', 'read:users'], expires_in_days: 1 }
    const little = (await stack.call('acme', 'POST', '/api/v1/tokens', scoped)).body.token
    expect((await stack.call('acme', 'GET', '/api/v1/users', undefined, little)).status).toBe(200)
    expect((await stack.call('acme', 'GET', '/api/v1/roles', undefined, little)).body.detail).toContain(
      'does not carry the permission read:roles',
    )
    const more = await stack.call(
      'acme',
      'POST',
      '/api/v1/tokens',
      { name: 'more', scopes: ['*:*'], expires_in_days: 1 },
      little,
    )
    expect(more).toMatchObject({ status: 403 })
    const same = await stack.call('acme', 'POST', '/api/v1/tokens', { name: 'same', expires_in_days: 1 }, little)
    expect(same).toMatchObject({ status: 201, body: { scopes: scoped.scopes } })
  })
  it('the last who may do everything stays', async () => {
    const { body } = await stack.call('globex', 'GET', '/api/v1/role-bindings')
    const [{ id, principal_id: admin }] = body.items
    const left = { status: 409, body: { code: 'CONFLICT', detail: expect.stringContaining('nobody would be left') } }
    expect(await stack.call('globex', 'DELETE', `/api/v1/role-bindings/${id}`)).toMatchObject(left)
    expect(await stack.call('globex', 'PATCH', `/api/v1/users/${admin}`, { state: 'disabled' })).toMatchObject(left)
    expect((await stack.call('globex', 'GET', '/api/v1/session')).body.roles).toEqual(['Admin'])
  })
  it('a shipped role stays what it is', async () => {
    const url = `/api/v1/roles/${roles.get('Viewer')}`
    expect(await stack.call('acme', 'PATCH', url, { permissions: [] })).toMatchObject({ status: 409 })
    expect(await stack.call('acme', 'DELETE', url)).toMatchObject({ status: 409 })
  })
})

describe('signing in', () => {
  it('five wrong passwords lock the account, and are in the ledger', async () => {
    await newUser('locked@acme.example')
    const refused = { status: 401, body: { code: 'UNAUTHENTICATED' } }
    const details = new Set<string>()
    for (let count = 0; count < 5; count++) {
      const answer = await signIn('locked@acme.example', `wrong ${count}`)
      expect(answer).toMatchObject(refused)
      details.add(answer.body.detail)
    }
    // Even the right one; and nobody can tell this from an address that there is not.
    for (const answer of [
      await signIn('locked@acme.example'),
      await signIn('nobody@acme.example'),
      await signIn('x', 'y', 'nowhere'),
    ]) {
      expect(answer).toMatchObject(refused)
      details.add(answer.body.detail)
    }
    expect(details.size).toBe(1)
    const reasons = (await stack.events('acme'))
      .filter(({ action, outcome }) => action === 'sessions.write' && outcome === 'denied')
      .map(({ actor, context }) => `${actor} ${context.reason}`)
    expect(reasons.slice(-7)).toEqual([
      ...Array<string>(5).fill('locked@acme.example password'),
      'locked@acme.example locked',
      'unknown unknown',
    ])
  })
  it('a new password ends the sessions, and the account is no longer locked', async () => {
    const { id, token } = await newUser('changing@acme.example')
    for (let count = 0; count < 5; count++) await signIn('changing@acme.example', 'wrong')
    expect(
      (await stack.call('acme', 'PATCH', `/api/v1/users/${id}`, { password: 'another one, as long' })).status,
    ).toBe(200)
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, token)).status).toBe(401)
    expect((await signIn('changing@acme.example', 'another one, as long')).status).toBe(201)
  })
  it('signing out ends the session', async () => {
    const { token } = await newUser('leaving@acme.example')
    expect((await stack.call('acme', 'DELETE', '/api/v1/session', undefined, token)).status).toBe(204)
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, token)).status).toBe(401)
  })
  it('a disabled user is out at once', async () => {
    const { id, token } = await newUser('disabled@acme.example', 'Viewer')
    expect((await stack.call('acme', 'PATCH', `/api/v1/users/${id}`, { state: 'disabled' })).status).toBe(200)
    expect((await stack.call('acme', 'GET', '/api/v1/session', undefined, token)).status).toBe(401)
    expect((await signIn('disabled@acme.example')).status).toBe(401)
  })
  it('neither passwords nor tokens are in the database, the log or the ledger', async () => {
    const made = await stack.call('acme', 'POST', '/api/v1/tokens', { name: 'secret', expires_in_days: 1 })
    const events = JSON.stringify(await stack.events('acme'))
    for (const secret of [FIRST_PASSWORD, made.body.token, tokens.get('Viewer')!]) {
      expect(events).not.toContain(secret)
      expect(stack.process().output()).not.toContain(secret)
    }
    expect((await stack.call('acme', 'GET', '/api/v1/tokens')).body.items[0]).toMatchObject({ name: 'secret' })
    expect(JSON.stringify((await stack.call('acme', 'GET', '/api/v1/tokens')).body)).not.toContain('sgn_')
  })
})

describe('one tenant against another', () => {
  it('every id of one is unknown to the other, whatever is done with it', async () => {
    const account = (await stack.call('acme', 'POST', '/api/v1/service-accounts', { name: 'ours' })).body.id
    const token = (await stack.call('acme', 'GET', '/api/v1/tokens')).body.items[0].id
    const binding = (await stack.call('acme', 'GET', '/api/v1/role-bindings')).body.items[0].id
    const before = await stack.call('acme', 'GET', '/api/v1/users')
    const attempts: [string, string, unknown?][] = [
      ['GET', `/api/v1/users/${users.get('Viewer')}`],
      ['PATCH', `/api/v1/users/${users.get('Viewer')}`, { name: 'taken' }],
      ['GET', `/api/v1/service-accounts/${account}`],
      ['PATCH', `/api/v1/service-accounts/${account}`, { state: 'disabled' }],
      ['GET', `/api/v1/roles/${roles.get('Access clerk')}`],
      ['PATCH', `/api/v1/roles/${roles.get('Access clerk')}`, { permissions: [] }],
      ['DELETE', `/api/v1/roles/${roles.get('Access clerk')}`],
      ['DELETE', `/api/v1/role-bindings/${binding}`],
      ['DELETE', `/api/v1/tokens/${token}`],
    ]
    for (const [method, url, body] of attempts)
      expect([method, url, (await stack.call('globex', method, url, body)).status]).toEqual([method, url, 404])
    const foreign = { role_id: roles.get('Viewer'), principal_kind: 'user', principal_id: users.get('Viewer') }
    expect((await stack.call('globex', 'POST', '/api/v1/role-bindings', foreign)).status).toBe(400)
    const made = await stack.call('globex', 'POST', '/api/v1/tokens', {
      name: 'x',
      service_account_id: account,
      expires_in_days: 1,
    })
    expect(made.status).toBe(400)
    expect((await stack.call('acme', 'GET', '/api/v1/users')).body).toEqual(before.body)
  })
  it('lists and sign-ins do not meet', async () => {
    const { body } = await stack.call('globex', 'GET', '/api/v1/users')
    expect(body.items.map(({ email }: { email: string }) => email)).toEqual(['admin@globex.example'])
    expect((await signIn('viewer.user@acme.example', FIRST_PASSWORD, 'globex')).status).toBe(401)
    expect(
      (await stack.events('globex')).every(({ actor }) =>
        ['admin@globex.example', 'unknown', 'system/bundle-publisher'].includes(actor),
      ),
    ).toBe(true)
  })
  it('the database shows nothing to a login that names no tenant, and no other tenant’s rows to one that does', async () => {
    const { default: pg } = await import('pg')
    const client = new pg.Client(stack.loginUrl)
    await client.connect()
    try {
      for (const table of [
        'users',
        'service_accounts',
        'roles',
        'role_permissions',
        'role_bindings',
        'tokens',
        'actions',
        'control_statements',
        'tenants',
      ]) {
        expect([table, (await client.query(`SELECT 1 FROM signet.${table}`)).rowCount]).toEqual([table, 0])
        await client.query("BEGIN; SET LOCAL signet.tenant = 'globex'")
        expect([
          table,
          (await client.query(`SELECT 1 FROM signet.${table} WHERE tenant <> 'globex'`)).rowCount,
        ]).toEqual([table, 0])
        await client.query('ROLLBACK')
      }
      await expect(client.query("INSERT INTO signet.tenants VALUES ('x', 'x')")).rejects.toThrow('permission denied')
    } finally {
      await client.end()
    }
  })
})

describe('bad input', () => {
  it.each<[string, string, string, string | undefined, RegExp]>([
    ['no JSON', 'POST', '/api/v1/users', '{', /JSON/i],
    ['an unknown member', 'POST', '/api/v1/users', '{"email":"a@b.example","name":"A","admin":true}', /the body/],
    ['an address that is none', 'POST', '/api/v1/users', '{"email":"nobody","name":"A"}', /\/email/],
    [
      'a short password',
      'POST',
      '/api/v1/users',
      '{"email":"a@b.example","name":"A","password":"short"}',
      /\/password/,
    ],
    ['a name with a line feed', 'POST', '/api/v1/users', '{"email":"a@b.example","name":"A\\nB"}', /\/name/],
    ['a NUL', 'POST', '/api/v1/service-accounts', '{"name":"x","description":"\\u0000"}', /\/description/],
    ['nothing to change', 'PATCH', `/api/v1/users/${UNKNOWN}`, '{}', /the body/],
    ['an id that is none', 'GET', '/api/v1/users/1', undefined, /the path at \/id/],
    ['a cursor of nobody', 'GET', '/api/v1/users?cursor=x', undefined, /cursor/],
    ['a limit past the limit', 'GET', '/api/v1/users?limit=100000', undefined, /the query at \/limit/],
    ['an unknown parameter', 'GET', '/api/v1/users?sort=name', undefined, /the query/],
    ['a parameter twice', 'GET', '/api/v1/users?limit=1&limit=2', undefined, /the query at \/limit/],
    [
      'a permission twice',
      'POST',
      '/api/v1/roles',
      '{"name":"Twice","permissions":[{"action":"read","resource":"rules","extent":"all"},{"action":"read","resource":"rules","extent":"own"}]}',
      /twice/,
    ],
  ])('%s: 400 that says where', async (_name, method, url, body, want) => {
    const response = await fetch(`${stack.process().url}${url}`, {
      method,
      headers: {
        authorization: `Bearer ${stack.token('acme')}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body }),
    })
    const problem = (await response.json()) as { detail: string }
    expect([response.status, problem.detail]).toEqual([400, expect.stringMatching(want)])
  })
  it('a change of another version is a conflict', async () => {
    const url = `/api/v1/users/${users.get('Viewer')}`
    const { version } = (await stack.call('acme', 'GET', url)).body
    expect(await stack.call('acme', 'PATCH', url, { name: 'Viewer 2', version })).toMatchObject({
      status: 200,
      body: { version: version + 1 },
    })
    expect(await stack.call('acme', 'PATCH', url, { name: 'Viewer 3', version })).toMatchObject({ status: 409 })
  })
  it('pages go on where they ended', async () => {
    const seen: string[] = []
    let cursor: string | null = ''
    while (cursor !== null) {
      const { body } = await stack.call(
        'acme',
        'GET',
        `/api/v1/users?limit=3${cursor === '' ? '' : `&cursor=${cursor}`}`,
      )
      seen.push(...body.items.map(({ id }: { id: string }) => id))
      cursor = body.next_cursor
    }
    const all = (await stack.call('acme', 'GET', '/api/v1/users')).body.items.map(({ id }: { id: string }) => id)
    expect(seen).toEqual(all)
    expect(new Set(seen).size).toBe(seen.length)
  })
})
