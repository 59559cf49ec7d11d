import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startGovernanceStack, type GovernanceStack, type LoggedEvent } from '#test/support/governance.ts'

/**
 * An action from intent to outcome, with something going wrong at each step: between governance and the ledger stands a gate that
 * holds, breaks or refuses single events; governance is killed while it waits there.
 */
type Gate = 'open' | 'down' | 'held-before' | 'held-after'
class LedgerGate {
  readonly #server: Server
  readonly #real: string
  readonly #held: { go(): void; part: string }[] = []
  /** What to do with intents, and with outcomes. */
  intent: Gate = 'open'
  outcome: Gate = 'open'

  constructor(real: string) {
    this.#real = real
    this.#server = createServer(
      (request, response) => void this.#pass(request, response).catch(() => response.destroy()),
    )
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  close(): void {
    this.release()
    this.#server.closeAllConnections()
    this.#server.close()
  }

  /** Waits until something is held. */
  async holds(): Promise<void> {
    await expect.poll(() => this.#held.length, { timeout: 20_000 }).toBeGreaterThan(0)
  }

  release(): void {
    this.intent = 'open'
    this.outcome = 'open'
    for (const held of this.#held.splice(0)) held.go()
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    const body = Buffer.concat(chunks)
    const part = body.includes('"governance.intent"') ? 'intent' : 'outcome'
    const gate = this[part]
    if (gate === 'down') return void response.destroy()
    const wait = (): Promise<void> => new Promise((go) => this.#held.push({ go, part }))
    if (gate === 'held-before') await wait()
    const { authorization = '', 'content-type': type = '', 'signet-tenant': tenant = '' } = request.headers
    const headers = { authorization, 'content-type': type, 'signet-tenant': String(tenant) }
    const answer = await fetch(`${this.#real}${request.url}`, { method: 'POST', headers, body })
    const text = await answer.text()
    if (gate === 'held-after') await wait()
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(text)
  }
}

let gate: LedgerGate
let stack: GovernanceStack
beforeAll(async () => {
  stack = await startGovernanceStack({
    ledgerUrl: async (real) => {
      gate = new LedgerGate(real)
      return gate.listen()
    },
  })
})
afterAll(async () => {
  gate?.close()
  await stack?.stop()
})
beforeEach(() => gate.release())

let count = 0
const newEmail = (): string => `person${(count += 1)}@acme.example`
const create = (email: string) => stack.call('acme', 'POST', '/api/v1/users', { email, name: 'Person' })
async function exists(email: string): Promise<boolean> {
  const { body } = await stack.call('acme', 'GET', '/api/v1/users?limit=1000')
  return body.items.some((user: { email: string }) => user.email === email)
}
/** What the ledger has of the action that wanted this user. */
async function journey(email: string): Promise<LoggedEvent[]> {
  const events = await stack.events('acme')
  const intent = events.find(({ event_type, after }) => event_type === 'governance.intent' && after?.email === email)
  const id = intent?.context.action_id
  return id === undefined ? [] : events.filter(({ context }) => context?.action_id === id)
}
const summary = (events: readonly LoggedEvent[]): string[] =>
  events.map(({ event_type, outcome, context }) =>
    [event_type, outcome, context?.state].filter((part) => part !== undefined).join(' '),
  )

const COMMITTED = ['governance.intent unknown', 'governance.outcome success committed']
const REVERTED = ['governance.intent unknown', 'governance.outcome failure reverted']

it('when nothing goes wrong: intent, change, outcome, answer', async () => {
  const email = newEmail()
  expect(await create(email)).toMatchObject({ status: 201 })
  // At once: it is in the ledger before there is an answer.
  expect(summary(await journey(email))).toEqual(COMMITTED)
  expect((await journey(email))[1]).toMatchObject({
    actor: 'admin@acme.example',
    before: null,
    after: { email, state: 'active' },
  })
})

it('what cannot be done is intended, and has failed', async () => {
  const email = newEmail()
  await create(email)
  expect(await create(email)).toMatchObject({ status: 409 })
  const events = await stack.events('acme')
  expect(events.at(-1)).toMatchObject({
    event_type: 'governance.outcome',
    outcome: 'failure',
    context: { state: 'failed', code: 'CONFLICT' },
  })
})

describe('the ledger is down', () => {
  it('from the beginning: refused, nothing changed, and the ledger learns of it when it is back', async () => {
    gate.intent = 'down'
    gate.outcome = 'down'
    const email = newEmail()
    expect(await create(email)).toMatchObject({ status: 503, body: { code: 'LEDGER_UNREACHABLE' } })
    expect(await exists(email)).toBe(false)
    expect(await journey(email)).toEqual([])
    gate.release()
    await expect.poll(async () => summary(await journey(email)), { timeout: 30_000 }).toEqual(REVERTED)
  })
  it('after the intent: the change is made, the answer says that its record is not confirmed, and it becomes so', async () => {
    gate.outcome = 'down'
    const email = newEmail()
    const answer = await create(email)
    expect(answer).toMatchObject({ status: 503, body: { code: 'OUTCOME_PENDING' } })
    expect(await exists(email)).toBe(true)
    const action = /\/api\/v1\/actions\/[0-9a-f-]{36}/.exec(answer.body.detail)![0]
    expect((await stack.call('acme', 'GET', action)).body).toMatchObject({ state: 'committed', recorded_at: null })
    expect((await stack.call('globex', 'GET', action)).status).toBe(404)
    gate.release()
    await expect.poll(async () => summary(await journey(email)), { timeout: 30_000 }).toEqual(COMMITTED)
    await expect
      .poll(async () => (await stack.call('acme', 'GET', action)).body.recorded_at, { timeout: 30_000 })
      .not.toBeNull()
  })
  it('a denial is a denial all the same, and in the ledger when it is back', async () => {
    gate.outcome = 'down'
    const made = await stack.call('acme', 'GET', '/api/v1/session')
    expect(made.status).toBe(200)
    gate.release()
    const token = (
      await stack.call('acme', 'POST', '/api/v1/tokens', { name: 'little', scopes: ['read:rules'], expires_in_days: 1 })
    ).body.token
    gate.outcome = 'down'
    expect((await stack.call('acme', 'GET', '/api/v1/users', undefined, token)).status).toBe(403)
    const denials = async (): Promise<number> =>
      (await stack.events('acme')).filter(
        ({ event_type, action }) => event_type === 'governance.denied' && action === 'users.read',
      ).length
    const before = await denials()
    gate.release()
    await expect.poll(denials, { timeout: 30_000 }).toBe(before + 1)
  })
})

describe('killed', () => {
  it.each<{ when: string; intent: Gate; outcome: Gate; wantUser: boolean; want: string[] }>([
    {
      when: 'before the ledger has the intent',
      intent: 'held-before',
      outcome: 'open',
      wantUser: false,
      want: REVERTED,
    },
    {
      when: 'when the ledger has the intent, and nothing is changed',
      intent: 'held-after',
      outcome: 'open',
      wantUser: false,
      want: REVERTED,
    },
    {
      when: 'when it is changed, and the ledger has no outcome',
      intent: 'open',
      outcome: 'held-before',
      wantUser: true,
      want: COMMITTED,
    },
    {
      when: 'when the ledger has the outcome, and nobody was answered',
      intent: 'open',
      outcome: 'held-after',
      wantUser: true,
      want: COMMITTED,
    },
  ])('$when', async ({ intent, outcome, wantUser, want }) => {
    gate.intent = intent
    gate.outcome = outcome
    const email = newEmail()
    const answer = create(email).catch(() => 'cut off')
    await gate.holds()
    await stack.process().kill()
    expect(await answer).toBe('cut off')
    gate.release()
    await stack.restart()
    expect(await exists(email)).toBe(wantUser)
    await expect.poll(async () => summary(await journey(email)), { timeout: 30_000 }).toEqual(want)
    // Once and for all: a further sweep adds nothing.
    await sleep(7_000)
    expect(summary(await journey(email))).toEqual(want)
    expect(await exists(email)).toBe(wantUser)
  })
})

it('an action that was given up while it waited for the ledger changes nothing any more', async () => {
  gate.intent = 'held-after'
  const email = newEmail()
  const answer = create(email)
  await gate.holds()
  gate.intent = 'open'
  // The sweeper takes it for one that was left behind.
  await expect.poll(async () => summary(await journey(email)), { timeout: 8_000 }).toEqual(REVERTED)
  gate.release()
  expect(await answer).toMatchObject({ status: 503 })
  expect(await exists(email)).toBe(false)
})

describe('a revocation while a request is in flight wins', () => {
  async function lead(): Promise<{ binding: string; token: string; tokenId: string; user: string }> {
    const email = newEmail()
    const password = 'correct horse battery staple'
    const user = (await stack.call('acme', 'POST', '/api/v1/users', { email, name: 'Lead', password })).body.id
    const roles = (await stack.call('acme', 'GET', '/api/v1/roles')).body.items as { id: string; name: string }[]
    const role_id = roles.find(({ name }) => name === 'Admin')!.id
    const binding = { role_id, principal_kind: 'user', principal_id: user }
    const made = await stack.call('acme', 'POST', '/api/v1/role-bindings', binding)
    const session = await stack.call('acme', 'POST', '/api/v1/session', { tenant: 'acme', email, password }, null)
    const own = { name: 'own', expires_in_days: 1 }
    const { id: tokenId, token } = (await stack.call('acme', 'POST', '/api/v1/tokens', own, session.body.token)).body
    return { binding: made.body.id, token, tokenId, user }
  }
  it.each<{
    what: string
    revoke: (who: Awaited<ReturnType<typeof lead>>) => [string, string, unknown?]
    want: [number, string]
  }>([
    {
      what: 'the role',
      revoke: ({ binding }) => ['DELETE', `/api/v1/role-bindings/${binding}`],
      want: [403, 'FORBIDDEN'],
    },
    {
      what: 'the token',
      revoke: ({ tokenId }) => ['DELETE', `/api/v1/tokens/${tokenId}`],
      want: [401, 'UNAUTHENTICATED'],
    },
    {
      what: 'the account',
      revoke: ({ user }) => ['PATCH', `/api/v1/users/${user}`, { state: 'disabled' }],
      want: [401, 'UNAUTHENTICATED'],
    },
  ])('$what', async ({ revoke, want: [status, code] }) => {
    const who = await lead()
    const email = newEmail()
    gate.intent = 'held-after'
    const body = { email, name: 'Never' }
    const answer = stack.call('acme', 'POST', '/api/v1/users', body, who.token)
    await gate.holds()
    gate.intent = 'open'
    const [method, url, change] = revoke(who)
    expect((await stack.call('acme', method, url, change)).status).toBeLessThan(300)
    gate.release()
    expect(await answer).toMatchObject({ status, body: { code } })
    expect(await exists(email)).toBe(false)
    await expect
      .poll(async () => summary(await journey(email)), { timeout: 20_000 })
      .toEqual(['governance.intent unknown', 'governance.denied denied denied'])
  })
})

it('all of it verifies', async () => {
  const { ledger } = stack
  const response = await fetch(`${ledger.ledgers[0]!.url}/api/audit/verify`, {
    headers: { authorization: `Bearer ${ledger.token('governance')}`, 'signet-tenant': 'acme' },
  })
  expect(await response.json()).toMatchObject({ ok: true })
})
