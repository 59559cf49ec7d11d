import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FIRST_PASSWORD, startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { startProxyStack, type ProxyStack } from '#test/support/proxy-stack.ts'
import { startUpstream, type Upstream } from '#test/support/upstream.ts'

let stack: GovernanceStack
let upstream: Upstream
let proxy: ProxyStack

beforeAll(async () => {
  stack = await startGovernanceStack()
  upstream = await startUpstream()
  upstream.answer = (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"orders":1}')
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
    env: {
      SIGNET_TRUSTED_INGRESS: '127.0.0.1',
      SIGNET_BUNDLE: `${stack.process().url}/bundles/policies.tar.gz`,
      SIGNET_BUNDLE_TRUST: trust,
      SIGNET_BUNDLE_TOKEN_FILE: token,
    },
  })
  await proxy.ready(60_000)
  expect((await call('PUT', '/api/compliance/resolution-settings', { mode: 'on' })).status).toBe(200)
})
afterAll(async () => {
  await proxy?.stop()
  await upstream?.close()
  await stack?.stop()
})

const call = (method: string, url: string, body?: unknown, token?: string): Promise<Called> =>
  stack.call('acme', method, url, body, token)
const ask = (caller: string, method = 'GET', channel: 'external' | 'internal' = 'external') =>
  fetch(`${proxy[channel]}/orders`, {
    method,
    headers: { 'signet-caller-subject': caller, 'content-type': 'application/json' },
    ...(method === 'POST' ? { body: '{"buy":1}' } : {}),
  })
const asking = (caller: string, want: number) =>
  expect.poll(async () => (await ask(caller)).status, { timeout: 90_000, interval: 200 }).toBe(want)
async function unsupervised(agent: string): Promise<string> {
  const answer = await call('POST', '/api/compliance/event', {
    source: 'maos',
    eventType: 'agent_action',
    details: { agent_id: agent, action: 'pay', supervision_id: 'none' },
  })
  expect(answer.status, JSON.stringify(answer.body)).toBe(201)
  expect(answer.body.violations).toMatchObject([{ severity: 'critical', strategy: 'MAOS-action-block' }])
  return answer.body.violations[0].id
}
type Block = { id: string; value: string; state: string; violation_id: string; lifted_by: string | null }
const blocks = async (): Promise<Block[]> => (await call('GET', '/api/compliance/blocks?limit=1000')).body.items
type Attempt = { id: string; outcome: string; detail: string; can_undo: boolean; undone_by: string | null }
const attempts = async (id: string): Promise<Attempt[]> =>
  (await call('GET', `/api/compliance/violations/${id}/attempts`)).body.items
const tried = async (id: string): Promise<Attempt> => {
  await expect.poll(async () => (await attempts(id)).length, { timeout: 60_000, interval: 200 }).toBeGreaterThan(0)
  return (await attempts(id)).at(-1)!
}
const stateOf = async (id: string): Promise<string> =>
  (await call('GET', `/api/compliance/violations/${id}`)).body.state
const becomes = (id: string, want: string) =>
  expect.poll(() => stateOf(id), { timeout: 60_000, interval: 200 }).toBe(want)

describe('an agent without supervision', () => {
  it('gets nothing from proxies, does nothing at the service, and passes again when a person closes it', async () => {
    expect((await ask('rogue')).status).toBe(200)
    const id = await unsupervised('rogue')
    await becomes(id, 'contained')
    await asking('rogue', 422)
    const before = upstream.seen.length
    const refused = await ask('rogue', 'POST')
    expect(refused.status).toBe(422)
    const [block] = await blocks()
    expect(block).toMatchObject({ kind: 'agent', value: 'rogue', method: null, state: 'held', violation_id: id })
    expect(await refused.json()).toMatchObject({
      code: 'POLICY_DENIED',
      request_effect: 'none',
      upstream_status: null,
      violations: [
        {
          rule: 'containment',
          severity: 'critical',
          remediation: { hint: expect.stringContaining(`/api/compliance/blocks/${block?.id}/lift`) },
        },
      ],
    })
    expect((await ask('rogue', 'GET', 'internal')).status).toBe(422)
    expect(upstream.seen.length).toBe(before)
    // Others, and whoever says nothing of themselves, are not held back; answers are their caller's own now.
    const other = await ask('ines', 'POST')
    expect(other.status).toBe(200)
    expect(other.headers.get('cache-control')).toMatch(/private/)
    expect((await fetch(`${proxy.external}/orders`)).status).toBe(200)
    const closed = await call('POST', `/api/compliance/resolve/${id}`, { comment: 'looked at', override: true })
    expect(closed.body).toMatchObject({ state: 'resolved' })
    await asking('rogue', 200)
    expect((await blocks())[0]).toMatchObject({ state: 'lifted', lifted_by: 'admin@acme.example' })
  })
  it('held for two violations is held until both are closed', async () => {
    const [one, two] = [await unsupervised('twice'), await unsupervised('twice')]
    await becomes(one, 'contained')
    await becomes(two, 'contained')
    await asking('twice', 422)
    await call('POST', `/api/compliance/resolve/${one}`, { comment: 'x', override: true })
    const { sequence } = (await call('GET', '/api/v1/bundle')).body
    expect((await blocks()).filter(({ value, state }) => value === 'twice' && state === 'held')).toHaveLength(1)
    await call('POST', `/api/compliance/resolve/${two}`, { comment: 'x', override: true })
    await asking('twice', 200)
    expect((await call('GET', '/api/v1/bundle')).body.sequence).toBeGreaterThanOrEqual(sequence)
  })
  it('passes when a person lifts the block, which is in the ledger before and after, and the violation stays', async () => {
    const id = await unsupervised('lifted')
    await becomes(id, 'contained')
    await asking('lifted', 422)
    const block = (await blocks()).find(({ value }) => value === 'lifted')!
    const url = `/api/compliance/blocks/${block.id}/lift`
    expect((await call('POST', url, { comment: 'known' })).body).toMatchObject({ state: 'lifted' })
    expect(await call('POST', url, { comment: 'again' })).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    await asking('lifted', 200)
    expect(await stateOf(id)).toBe('contained')
    const events = (await stack.events('acme')).filter(({ resource }) => resource === `violations/${block.id}`)
    expect(events.map(({ event_type }) => event_type)).toEqual([
      'governance.intent',
      'governance.outcome',
      'governance.intent',
      'governance.outcome',
    ])
    expect(events[1]).toMatchObject({ before: { state: 'held' }, after: { state: 'lifted', comment: 'known' } })
  })
  it('that is a workload gets nothing out, whoever asks', async () => {
    const id = await unsupervised('demo/api')
    await becomes(id, 'contained')
    await asking('ines', 422)
    await call('POST', `/api/compliance/resolve/${id}`, { comment: 'x', override: true })
    await asking('ines', 200)
  })
  it('called as everybody is, blocks nobody', async () => {
    const id = await unsupervised('anonymous')
    expect(await tried(id)).toMatchObject({ outcome: 'not_resolved', can_undo: false })
    expect(await stateOf(id)).toBe('open')
    expect((await blocks()).filter(({ value }) => value === 'anonymous')).toEqual([])
  })
  it('called as an administrator is, is left to a person', async () => {
    const id = await unsupervised('admin@acme.example')
    expect(await tried(id)).toMatchObject({ outcome: 'not_resolved' })
    expect((await blocks()).filter(({ value }) => value === 'admin@acme.example')).toEqual([])
  })
})

describe('a try is taken back', () => {
  const undo = (attempt: string, tenant = 'acme'): Promise<Called> =>
    stack.call(tenant, 'POST', `/api/compliance/attempts/${attempt}/undo`, { comment: 'wrong' })

  async function account(name: string): Promise<{ id: string; token: string }> {
    const { id } = (await call('POST', '/api/v1/service-accounts', { name })).body
    const made = await call('POST', '/api/v1/tokens', { name: 'x', service_account_id: id, expires_in_days: 1 })
    return { id, token: made.body.token }
  }
  const session = async (token: string): Promise<number> =>
    (await call('GET', '/api/v1/session', undefined, token)).status

  it('containment: account, token and proxies are as before, it is left to people, and again it changes nothing', async () => {
    const { id: accountId, token } = await account('sorry')
    const id = await unsupervised('sorry')
    await becomes(id, 'contained')
    await asking('sorry', 422)
    expect(await session(token)).toBe(401)
    const attempt = await tried(id)
    expect(attempt).toMatchObject({ outcome: 'contained', can_undo: true })
    expect((await undo(attempt.id)).body).toMatchObject({ can_undo: false, undone_by: 'admin@acme.example' })
    expect(await session(token)).toBe(200)
    expect((await call('GET', `/api/v1/service-accounts/${accountId}`)).body).toMatchObject({ state: 'active' })
    await asking('sorry', 200)
    expect(await stateOf(id)).toBe('open')
    // Signet does not do it again, although it is open and switched on.
    await call('PUT', '/api/compliance/resolution-settings', { mode: 'on' })
    expect((await undo(attempt.id)).status).toBe(200)
    expect((await attempts(id)).length).toBe(1)
    expect(await session(token)).toBe(200)
  })
  it('not where the account was changed since: what a person decided stands', async () => {
    const { id: accountId, token } = await account('changed')
    const id = await unsupervised('changed')
    await becomes(id, 'contained')
    const attempt = await tried(id)
    const changed = await call('PATCH', `/api/v1/service-accounts/${accountId}`, { description: 'never again' })
    expect(changed.status, JSON.stringify(changed.body)).toBe(200)
    const answer = await undo(attempt.id)
    expect(answer).toMatchObject({ status: 409, body: { code: 'CONFLICT' } })
    expect(answer.body.detail).toMatch(/changed was changed since/)
    expect(await session(token)).toBe(401)
    expect(await stateOf(id)).toBe('contained')
    await call('POST', `/api/compliance/resolve/${id}`, { comment: 'x', override: true })
  })
  it('permissions: sessions that were ended count again, but not after a new password', async () => {
    const people = await Promise.all(
      ['reader', 'writer'].map(async (name) => {
        const email = `${name}@acme.example`
        const { id } = (await call('POST', '/api/v1/users', { email, name, password: FIRST_PASSWORD })).body
        const made = { tenant: 'acme', email, password: FIRST_PASSWORD }
        return { id, email, token: (await stack.call('acme', 'POST', '/api/v1/session', made, null)).body.token }
      }),
    )
    for (const { email, id: userId, token } of people) {
      const event = { source: 'data_access', eventType: 'read', details: { actor: email, records: 9_000 } }
      const { id } = (await call('POST', '/api/compliance/event', event)).body.violations[0]
      await becomes(id, 'resolved')
      expect(await session(token)).toBe(401)
      const isChanged = email.startsWith('writer')
      if (isChanged) {
        const password = await call('PATCH', `/api/v1/users/${userId}`, { password: `${FIRST_PASSWORD} 2` })
        expect(password.status, JSON.stringify(password.body)).toBeLessThan(300)
      }
      const answer = await undo((await tried(id)).id)
      expect([email, answer.status]).toEqual([email, isChanged ? 409 : 200])
      expect(await session(token)).toBe(isChanged ? 401 : 200)
      expect(await stateOf(id)).toBe(isChanged ? 'resolved' : 'open')
    }
  })
  it('not what only said what it would do, nor what changed nothing', async () => {
    await call('PUT', '/api/compliance/resolution-settings', { mode: 'dry_run' })
    const id = await unsupervised('dry')
    const attempt = await tried(id)
    expect(attempt).toMatchObject({ outcome: 'would_act', detail: expect.stringMatching(/would block dry/) })
    const answer = await undo(attempt.id)
    expect(answer.status).toBe(409)
    expect(answer.body.detail).toMatch(/it said what it would do, and did nothing/)
    await call('PUT', '/api/compliance/resolution-settings', { mode: 'on' })
    await becomes(id, 'contained')
  })
  it('by nobody of another tenant, who sees no block either', async () => {
    const id = await unsupervised('foreign')
    await becomes(id, 'contained')
    const attempt = await tried(id)
    expect((await undo(attempt.id, 'globex')).status).toBe(404)
    const block = (await blocks()).find(({ value }) => value === 'foreign')!
    const other = await stack.call('globex', 'POST', `/api/compliance/blocks/${block.id}/lift`, { comment: 'x' })
    expect(other.status).toBe(404)
    expect((await stack.call('globex', 'GET', '/api/compliance/blocks')).body.items).toEqual([])
    expect((await blocks()).find(({ value }) => value === 'foreign')).toMatchObject({ state: 'held' })
  })
})

it.each([
  { what: 'a rule that is none', strategies: { weather: 'auto-correction' }, want: /names the rule weather/ },
  {
    what: 'a strategy that does nothing about it',
    strategies: { maos_supervision_bypass: 'auto-correction' },
    want: /does nothing about it; allowed: MAOS-action-block/,
  },
])('settings with $what are refused', async ({ strategies, want }) => {
  const answer = await call('PUT', '/api/compliance/resolution-settings', { mode: 'on', strategies })
  expect(answer.status).toBe(400)
  expect(answer.body.detail).toMatch(want)
})
it('by the tenant’s choice somebody is contained for another rule, and a person closes that as well', async () => {
  const strategies = { unusual_client_data_activity: 'MAOS-action-block' }
  await call('PUT', '/api/compliance/resolution-settings', { mode: 'on', strategies })
  const event = { source: 'data_access', eventType: 'read', details: { actor: 'crawler', records: 9_000 } }
  const [violation] = (await call('POST', '/api/compliance/event', event)).body.violations
  expect(violation).toMatchObject({ severity: 'medium', strategy: 'MAOS-action-block' })
  await becomes(violation.id, 'contained')
  await asking('crawler', 422)
  await call('POST', `/api/compliance/resolve/${violation.id}`, { comment: 'known', override: true })
  await asking('crawler', 200)
})
it('settings keep what is left out', async () => {
  const strategies = { unusual_client_data_activity: 'MAOS-action-block' }
  await call('PUT', '/api/compliance/resolution-settings', { mode: 'on', strategies, block_endpoints: true })
  const { body } = await call('PUT', '/api/compliance/resolution-settings', { mode: 'dry_run' })
  expect(body).toMatchObject({ mode: 'dry_run', strategies, block_endpoints: true })
  await call('PUT', '/api/compliance/resolution-settings', { mode: 'on', strategies: {}, block_endpoints: false })
})
