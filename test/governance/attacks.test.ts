import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sweep } from '#governance/actions/sweeper.ts'
import { SignetError } from '#core/error/signet-error.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { createPool } from '#runtime/postgres/transaction.ts'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

/** What somebody tries who wants more than they have, or just trouble. */
let stack: GovernanceStack
let owner: pg.Client
beforeAll(async () => {
  stack = await startGovernanceStack()
  owner = new pg.Client(stack.adminUrl)
  await owner.connect()
})
afterAll(async () => {
  await owner?.end()
  await stack?.stop()
})

const post = async (url: string, body: unknown, token?: string): Promise<Called> =>
  stack.call('acme', 'POST', url, body, token)
const patch = async (url: string, body: unknown, token?: string): Promise<Called> =>
  stack.call('acme', 'PATCH', url, body, token)
const signIn = (email: string, password = FIRST_PASSWORD) =>
  stack.call('acme', 'POST', '/api/v1/session', { tenant: 'acme', email, password }, null)
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function newUser(email: string, permissions: readonly string[] = []): Promise<{ id: string; token: string }> {
  const { id } = (await post('/api/v1/users', { email, name: 'Somebody', password: FIRST_PASSWORD })).body
  if (permissions.length > 0) {
    const listed = permissions.map((permission) => {
      const [action, resource, extent = 'all'] = permission.split(':')
      return { action, resource, extent }
    })
    const role = await post('/api/v1/roles', {
      name: `Of ${email.replace(/@.*/, '').replaceAll('.', ' ')}`,
      permissions: listed,
    })
    const given = await post('/api/v1/role-bindings', {
      role_id: role.body.id,
      principal_kind: 'user',
      principal_id: id,
    })
    expect(given.status).toBe(201)
  }
  return { id, token: (await signIn(email)).body.token }
}

describe('more than one has', () => {
  it('a token that carries little sets no password for its own owner, who could do everything with it', async () => {
    const { id } = (await stack.call('acme', 'GET', '/api/v1/session')).body
    const scoped = { name: 'users only', scopes: ['write:users'], expires_in_days: 1 }
    const { token } = (await post('/api/v1/tokens', scoped)).body
    const password = 'known to the robot as well'
    expect(await patch(`/api/v1/users/${id}`, { password }, token)).toMatchObject({
      status: 403,
      body: { code: 'FORBIDDEN' },
    })
    expect((await signIn('admin@acme.example', password)).status).toBe(401)
    expect((await patch(`/api/v1/users/${id}`, { password: FIRST_PASSWORD })).status).toBe(200)
  })
  it('a permission on one’s own is none on everybody’s', async () => {
    const own = ['users', 'roles', 'service-accounts', 'checklists'].flatMap((resource) =>
      ['read', 'write', 'delete', 'assign'].map((action) => `${action}:${resource}:own`),
    )
    const { token } = await newUser('own.only@acme.example', own)
    const victim = await newUser('victim@acme.example')
    const role = (await post('/api/v1/roles', { name: 'Of nobody', permissions: [] })).body.id
    const account = (await post('/api/v1/service-accounts', { name: 'of-nobody' })).body.id
    for (const [method, url, body] of [
      ['GET', '/api/v1/users', undefined],
      ['PATCH', `/api/v1/users/${victim.id}`, { password: 'not the one of the victim' }],
      ['PATCH', `/api/v1/users/${victim.id}`, { mfa_enabled: true }],
      ['PATCH', `/api/v1/service-accounts/${account}`, { state: 'disabled' }],
      ['DELETE', `/api/v1/roles/${role}`, undefined],
      ['GET', '/api/v1/role-bindings', undefined],
      ['PATCH', '/api/compliance', { framework: 'soc2', control: 'CC1.1', status: 'implemented' }],
    ] as const)
      expect([method, url, (await stack.call('acme', method, url, body, token)).status]).toEqual([method, url, 403])
  })
  it('a permission on one’s own tokens is one on these', async () => {
    const { token } = await newUser('own.tokens@acme.example', ['read:tokens:own', 'write:tokens:own'])
    expect((await post('/api/v1/tokens', { name: 'own', expires_in_days: 1 }, token)).status).toBe(201)
    const { body } = await stack.call('acme', 'GET', '/api/v1/tokens', undefined, token)
    expect(body.items.map(({ name }: { name: string }) => name)).toEqual(['own'])
  })
  it('an account that can do more is not disabled', async () => {
    const { token } = await newUser('accounts@acme.example', ['write:service-accounts'])
    const { id } = (await post('/api/v1/service-accounts', { name: 'mighty' })).body
    const roles = (await stack.call('acme', 'GET', '/api/v1/roles')).body.items as { id: string; name: string }[]
    const role_id = roles.find(({ name }) => name === 'Admin')?.id
    await post('/api/v1/role-bindings', { role_id, principal_kind: 'service_account', principal_id: id })
    expect((await patch(`/api/v1/service-accounts/${id}`, { state: 'disabled' }, token)).status).toBe(403)
    expect((await patch(`/api/v1/service-accounts/${id}`, { description: 'Mighty.' }, token)).status).toBe(200)
    expect((await patch(`/api/v1/service-accounts/${id}`, { state: 'disabled' })).status).toBe(200)
  })
})

describe('signing in while something else is decided', () => {
  /** The sign-in has read the user and checks the password; it comes to the lock once the row is as `change` leaves it. */
  async function during(id: string, email: string, change: string): Promise<Called> {
    await owner.query('BEGIN')
    await owner.query("SELECT set_config('signet.tenant', 'acme', true)")
    await owner.query(`UPDATE signet.users SET ${change} WHERE tenant = 'acme' AND id = $1`, [id])
    const answer = signIn(email)
    // Longer than it takes to check a password; where it takes longer the sign-in still finds the row locked.
    await sleep(1_500)
    await owner.query('COMMIT')
    return answer
  }
  it.each([
    { what: 'disabled', change: "state = 'disabled'" },
    { what: 'given another password', change: "password = 'x'" },
    { what: 'locked', change: "failed_logins = 5, locked_until = now() + interval '1 hour'" },
  ])('who is $what meanwhile has no session, not even afterwards', async ({ what, change }) => {
    const email = `${what.replaceAll(' ', '.')}@acme.example`
    const { id } = await newUser(email)
    const sessions = async (): Promise<number | null> =>
      (await owner.query('SELECT 1 FROM signet.tokens WHERE principal_id = $1', [id])).rowCount
    const before = await sessions()
    expect(await during(id, email, change)).toMatchObject({ status: 401, body: { code: 'UNAUTHENTICATED' } })
    expect(await sessions()).toBe(before)
    const denied = (await stack.events('acme')).filter(
      ({ action, actor, outcome }) => action === 'sessions.write' && actor === email && outcome === 'denied',
    )
    expect(denied).toHaveLength(1)
  })
})

it.each([
  ['after the end of time', 'v1:9999999999999999:00000000-0000-7000-8000-000000000000'],
  ['in the year 275760', 'v1:8640000000000000:00000000-0000-7000-8000-000000000000'],
])('a cursor %s is none', async (_what, cursor) => {
  const text = Buffer.from(cursor).toString('base64url')
  expect((await stack.call('acme', 'GET', `/api/v1/users?cursor=${text}`)).status).toBe(400)
})

it.each([
  ['POST', '/api/v1/roles', { name: 'Half', description: 'a\ud800b', permissions: [] }],
  ['POST', '/api/v1/users', { email: 'half@acme.example', name: 'a\ud800b' }],
  ['POST', '/api/v1/tokens', { name: 'a\ud800b', expires_in_days: 1 }],
  ['POST', '/api/v1/compliance/workflows', { regulation: 'soc2', name: 'X', description: 'a\0b' }],
  [
    'POST',
    '/rules',
    {
      id: 'x-1',
      name: 'X',
      framework: 'NIST',
      severity: 'low',
      conditions: { fact: 'a.b', operator: 'equal', value: 1 },
      event: { type: 'x', params: { a: '\0' } },
    },
  ],
  ['PUT', '/api/compliance/reference/tier/x', { models: ['a\0'] }],
  ['GET', '/rules?framework=%00', undefined],
  ['GET', '/api/scans?org_id=a%00', undefined],
] as const)('what no database can keep is a bad request: %s %s', async (method, url, body) => {
  expect(await stack.call('acme', method, url, body)).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } })
})

it('who is denied all the time has to wait, and fills neither the table nor the ledger', async () => {
  const { token } = await newUser('flood@acme.example')
  const statuses: number[] = []
  for (let batch = 0; batch < 20; batch++) {
    const call = () => stack.call('acme', 'GET', '/api/v1/users', undefined, token)
    statuses.push(...(await Promise.all(Array.from({ length: 10 }, call))).map(({ status }) => status))
  }
  const rows = await owner.query(
    "SELECT 1 FROM signet.actions WHERE principal = 'flood@acme.example' AND action = 'users.read'",
  )
  expect(new Set(statuses)).toEqual(new Set([403, 429]))
  // Those that were under way when the last one counted are denied as well.
  expect(rows.rowCount).toBeLessThan(140)
  expect(stack.token('acme')).not.toBe('')
  expect((await stack.call('acme', 'GET', '/api/v1/users')).status).toBe(200)
})

describe('upkeep', () => {
  it('deletes what is long over, and nothing else', async () => {
    const { id } = await newUser('old@acme.example')
    await owner.query("SELECT set_config('signet.tenant', 'acme', false)")
    const token = async (kind: string, days: number): Promise<string> => {
      const made = uuidV7()
      await owner.query(
        `INSERT INTO signet.tokens (tenant, id, kind, name, sha256, principal_kind, principal_id, created_at, expires_at)
         VALUES ('acme', $1, $2, 'old', sha256(convert_to($5, 'UTF8')), 'user', $3, now() - make_interval(days => $4 + 1), now() - make_interval(days => $4))`,
        [made, kind, id, days, made],
      )
      return made
    }
    const action = async (recorded: string): Promise<string> => {
      const made = uuidV7()
      await owner.query(
        `INSERT INTO signet.actions (tenant, id, state, action, resource, principal, outcome, started_at, recorded_at)
         VALUES ('acme', $1, 'denied', 'x', 'x', 'x', '{}', now() - interval '200 days', ${recorded})`,
        [made],
      )
      return made
    }
    const gone = [await token('session', 91), await token('api', 91), await action("now() - interval '91 days'")]
    const kept = [await token('session', 89), await token('api', 89), await action("now() - interval '89 days'")]
    kept.push(await action('NULL'))
    await stack.restart()
    const left = async (ids: string[]): Promise<number | null> =>
      (
        await owner.query(
          'SELECT id FROM signet.tokens WHERE id = ANY($1) UNION ALL SELECT id FROM signet.actions WHERE id = ANY($1)',
          [ids],
        )
      ).rowCount
    await expect.poll(() => left(gone), { timeout: 30_000 }).toBe(0)
    expect(await left(kept)).toBe(kept.length)
  })
  it('what the ledger refuses holds up nothing', async () => {
    await stack.process().kill()
    await owner.query("SELECT set_config('signet.tenant', 'globex', false)")
    await owner.query(
      `INSERT INTO signet.actions (tenant, id, state, action, resource, principal, outcome, started_at)
       SELECT 'globex', gen_random_uuid(), 'denied', 'x', 'x', 'x', 'bad', now() - interval '2 days' FROM generate_series(1, 150)`,
    )
    await owner.query(
      `INSERT INTO signet.actions (tenant, id, state, action, resource, principal, outcome, started_at)
       VALUES ('globex', gen_random_uuid(), 'denied', 'x', 'x', 'x', 'good', now() - interval '1 day')`,
    )
    const pool = createPool({ url: stack.loginUrl, size: 2, applicationName: 'attacks' })
    const sent: string[] = []
    const record = async (_tenant: string, event: string): Promise<void> => {
      if (event === 'bad') throw new SignetError('LEDGER_REFUSED', 'no')
      sent.push(event)
    }
    try {
      for (let count = 0; count < 2; count++) await sweep({ pool, record, nowMs: Date.now, afterMs: 1_000 })
      expect(sent).toContain('good')
    } finally {
      await pool.end()
    }
  })
})
