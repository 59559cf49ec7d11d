import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { Consumer, type Message } from '@platformatic/kafka'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { keepRelaying } from '#governance/domain-events/relay.ts'
import { createGovernanceMetrics } from '#governance/metrics.ts'
import { insertDomainEvents, waitingDomainEvents, type NewDomainEvent } from '#governance/store/domain-events.ts'
import { uuidV7 } from '#runtime/identifier.ts'
import { kafkaConnector } from '#runtime/kafka/connection.ts'
import { createPool, withTenant, type Pool } from '#runtime/postgres/transaction.ts'
import { createLogger } from '#runtime/telemetry/log.ts'
import { createMetricsRegistry } from '#runtime/telemetry/metrics.ts'
import { startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'
import { startBroker, type TestBroker } from '#test/support/kafka.ts'
import { freePort } from '#test/support/real-services.ts'

const TOPIC = 'governance-events'
const SHARED = 'governance-shared'
const SMALL = 'governance-small'
const LATE = 'governance-late'
const PREFIX = 'dev.signet.governance.'
const DEADLINE_MS = 90_000
/** Processes start in it, on a machine that may be busy. */
const RESTARTING = 300_000
const REGO = 'package exports\n\ndecision := {"evaluated": true, "violations": []}\n'

type Data = {
  actor: string
  resource: string
  action_id: string
  before: unknown
  after: Record<string, unknown> | null
}
type Seen = { type: string; key: string; data: Data; headers: Record<string, string> }

let broker: TestBroker
let stack: GovernanceStack
let pool: Pool
beforeAll(async () => {
  broker = await startBroker()
  await broker.createTopics([TOPIC, SHARED, LATE])
  await broker.createTopics([SMALL], { config: { 'max.message.bytes': '3000' } })
  stack = await startGovernanceStack({
    env: {
      SIGNET_GOVERNANCE_KAFKA_BOOTSTRAP_SERVERS: broker.bootstrap,
      SIGNET_GOVERNANCE_KAFKA_TOPIC: TOPIC,
      // On a machine that is busy an action may take its time.
      SIGNET_GOVERNANCE_SWEEP_AFTER_MS: '60000',
    },
  })
  pool = createPool({ url: stack.loginUrl, size: 6, applicationName: 'test' })
})
afterAll(async () => {
  await pool?.end()
  await stack?.stop()
  await broker?.stop()
})

const call = (method: string, url: string, body?: unknown): Promise<Called> => stack.call('acme', method, url, body)
const made = async (url: string, body: unknown): Promise<Called['body']> => {
  const answer = await call('POST', url, body)
  expect(answer.status, JSON.stringify(answer.body)).toBeLessThan(300)
  return answer.body
}

/** What a topic holds, from its beginning: read until `enough` says so. */
async function drain(topic: string, enough: (seen: readonly Seen[]) => boolean): Promise<Seen[]> {
  const consumer = new Consumer({
    clientId: 'reader',
    groupId: `reader-${randomUUID()}`,
    bootstrapBrokers: [broker.bootstrap],
    retries: 10,
    maxWaitTime: 200,
  })
  const seen: Seen[] = []
  const stream = await consumer.consume({ topics: [topic], mode: 'earliest', autocommit: false })
  const deadline = setTimeout(
    () => stream.destroy(new Error(`only ${JSON.stringify(seen.map(({ type, key }) => [type, key]))}`)),
    DEADLINE_MS,
  )
  try {
    for await (const message of stream as AsyncIterable<Message>) {
      const headers = Object.fromEntries([...message.headers].map(([name, value]) => [String(name), String(value)]))
      const data = JSON.parse(String(message.value)) as Data
      seen.push({ type: (headers['ce_type'] ?? '').replace(PREFIX, ''), key: String(message.key), data, headers })
      if (enough(seen)) return seen
    }
    return seen
  } finally {
    clearTimeout(deadline)
    await consumer.close(true)
  }
}
const waiting = async (): Promise<number> =>
  (await waitingDomainEvents(pool)).reduce((sum, { events }) => sum + events, 0)
/** Of acme, those about one thing. */
const waitingFor = async (subject: string): Promise<string[]> =>
  withTenant(pool, 'acme', async (client) => {
    const { rows } = await client.query<{ type: string }>(
      "SELECT type FROM signet.domain_events WHERE tenant = 'acme' AND subject = $1 ORDER BY seq",
      [subject],
    )
    return rows.map(({ type }) => type)
  })
const metric = async (name: string): Promise<number> => {
  const text = await (await fetch(`${stack.process().url}/metrics`)).text()
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
}
/** By key, as a consumer has them: what is not above the last of its key came twice. */
function inOrder(seen: readonly Seen[]): Seen[] {
  const last = new Map<string, string>()
  return seen.filter(({ key, headers }) => {
    const sequence = headers['ce_sequence'] ?? ''
    if (sequence <= (last.get(key) ?? '')) return false
    last.set(key, sequence)
    return true
  })
}

it('what happened is told: each thing by its name, in the order of its resource, as the ledger has it', async () => {
  const policy = await made('/api/v1/policies', { name: 'Exports', policy_type: 'opa_rego', rego_content: REGO })
  await made(`/api/v1/policies/${policy.id}/activate`, {})
  const workflow = await made('/api/v1/compliance/workflows', { regulation: 'soc2', name: 'Review' })
  await made(`/api/v1/compliance/workflows/${workflow.id}/transition`, { status: 'in_review' })
  const scan = await made('/api/scans', { rule_ids: ['nist-mfa-001'] })
  const [action] = (await call('GET', '/api/remediation/')).body.items
  await made(`/api/remediation/${action.id}/status`, { status: 'in_progress' })
  await call('PUT', '/api/compliance/resolution-settings', { mode: 'off' })
  const { id: event, violations } = await made('/api/compliance/event', {
    source: 'ai_model',
    eventType: 'use',
    details: { client_id: 'c9', model: 'm9' },
  })
  const [violation] = violations
  await made(`/api/compliance/resolve/${violation.id}`, { comment: 'seen to', override: true })
  // What is refused did not happen: nobody is told.
  expect((await call('POST', '/api/v1/roles', { name: 'Admin', permissions: [] })).status).toBe(409)
  const last = await made('/api/v1/roles', { name: 'The last', permissions: [] })

  const want: Readonly<Record<string, readonly string[]>> = {
    [`policies/${policy.id}`]: ['policy.created', 'policy.activated'],
    [`workflows/${workflow.id}`]: ['workflow.created', 'workflow.status_changed'],
    [`remediation/${action.id}`]: ['remediation.status_changed'],
    [`events/${event}`]: ['compliance_event.recorded'],
    [`violations/${violation.id}`]: ['violation.opened', 'violation.resolved'],
    [`roles/${last.id}`]: ['role.created'],
    [`scans/${scan.id}`]: ['scan.finished'],
  }
  const of = (all: readonly Seen[], subject: string): string[] =>
    all.filter(({ headers }) => headers['ce_subject'] === subject).map(({ type }) => type)
  // Topics have no order between keys.
  const isThere = (all: readonly Seen[]): boolean =>
    all.some(({ type }) => type === 'bundle.published') &&
    Object.entries(want).every(([subject, types]) => of(all, subject).length >= types.length)
  const seen = inOrder(await drain(TOPIC, isThere))
  expect(Object.fromEntries(Object.keys(want).map((subject) => [subject, of(seen, subject)]))).toEqual(want)
  expect(seen.filter(({ type }) => type === 'role.created').map(({ data }) => data.after?.['name'])).toEqual([
    'The last',
  ])
  const ledger = (await stack.events('acme')).map(({ event_id }) => event_id)
  // Bundles of others are there as well.
  for (const { headers, key, data } of seen.filter((one) => one.headers['ce_tenant'] === 'acme')) {
    expect(headers).toMatchObject({
      ce_specversion: '1.0',
      ce_source: '/signet/governance/acme',
      ce_tenant: 'acme',
      ce_partitionkey: key,
      'content-type': 'application/json',
    })
    expect(key).toBe(`acme/${data.resource}`)
    expect(ledger).toContain(headers['ce_id']?.split('/')[0])
  }
  await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(0)
})

it(
  'a broker that is down, and a process that dies meanwhile, lose nothing; nobody waits for them',
  { timeout: RESTARTING },
  async () => {
    await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(0)
    await broker.kill()
    const { id } = await made('/api/v1/roles', { name: 'While it is down', permissions: [] })
    await call('PATCH', `/api/v1/roles/${id}`, { description: 'still down' })
    expect(await waitingFor(`roles/${id}`)).toEqual(['role.created', 'role.changed'])
    await expect
      .poll(() => metric('signet_governance_domain_events_waiting'), { timeout: DEADLINE_MS })
      .toBeGreaterThanOrEqual(2)
    await expect
      .poll(() => metric('signet_governance_domain_events_lag_seconds'), { timeout: DEADLINE_MS })
      .toBeGreaterThan(0)
    await stack.restart()
    expect((await call('DELETE', `/api/v1/roles/${id}`)).status).toBe(204)
    expect(await waitingFor(`roles/${id}`)).toEqual(['role.created', 'role.changed', 'role.deleted'])
    await broker.restart()
    const seen = inOrder(await drain(TOPIC, (all) => all.some(({ type }) => type === 'role.deleted')))
    expect(seen.filter(({ headers }) => headers['ce_subject'] === `roles/${id}`).map(({ type }) => type)).toEqual([
      'role.created',
      'role.changed',
      'role.deleted',
    ])
    await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(0)
    await expect.poll(() => metric('signet_governance_domain_events_lag_seconds'), { timeout: DEADLINE_MS }).toBe(0)
  },
)

/** A relay of this test's own, as another process would have it. */
async function relay(topic: string, { bootstrap = broker.bootstrap, keepMs = 3_600_000 } = {}) {
  const connect = await kafkaConnector(
    {
      prefix: 'TEST',
      servers: bootstrap,
      tls: 'off',
      caFile: undefined,
      certFile: undefined,
      keyFile: undefined,
      mechanism: undefined,
      username: undefined,
      passwordFile: undefined,
    },
    'test',
  )
  if (connect === null) throw new Error('no connection')
  const metrics = createGovernanceMetrics(createMetricsRegistry({ processMetrics: false }))
  const log = createLogger({ name: 'test', level: 'silent' })
  return keepRelaying({ pool, connect, topic, keepMs, newId: uuidV7, clock: () => new Date(), log, metrics })
}
const told = (subject: string, data: object = {}): NewDomainEvent => ({
  id: randomUUID(),
  type: 'rule.changed',
  subject,
  happenedAt: new Date().toISOString(),
  data: JSON.stringify({ resource: subject, before: null, after: {}, ...data }),
})

it(
  'several processes share the work, and the order of a key stays that of its commits',
  { timeout: RESTARTING },
  async () => {
    await stack.restart({
      SIGNET_GOVERNANCE_KAFKA_BOOTSTRAP_SERVERS: undefined,
      SIGNET_GOVERNANCE_KAFKA_TOPIC: undefined,
    })
    const unheard = await made('/api/v1/roles', { name: 'Nobody listens', permissions: [] })
    expect(await waitingFor(`roles/${unheard.id}`)).toEqual([])

    const relays = [await relay(SHARED), await relay(SHARED), await relay(SHARED)]
    const count = 100
    // Writers of the same few subjects at once, each counting on from what the one before committed.
    const next = new Map<string, number>()
    const write = async (tenant: string, subject: string): Promise<void> => {
      for (let nth = 0; nth < count; nth++)
        await withTenant(pool, tenant, async (client) => {
          await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 1))', [`${tenant} ${subject}`])
          const value = (next.get(`${tenant}/${subject}`) ?? 0) + 1
          await insertDomainEvents(client, tenant, [told(subject, { after: { value } })])
          next.set(`${tenant}/${subject}`, value)
        })
    }
    await Promise.all([
      write('acme', 'rules/a'),
      write('acme', 'rules/a'),
      write('acme', 'rules/b'),
      write('globex', 'rules/a'),
    ])
    const seen = inOrder(
      await drain(SHARED, (all) => new Set(all.map(({ headers }) => headers['ce_id'])).size === 4 * count),
    )
    for (const [key, total] of next) {
      const values = seen.filter((one) => one.key === key).map(({ data }) => data.after?.['value'])
      expect([key, values]).toEqual([key, Array.from({ length: total }, (_, index) => index + 1)])
    }
    await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(0)
    await Promise.all(relays.map((one) => one.stop()))
  },
)

it('what the topic does not take goes without what it was about, and holds up nothing', async () => {
  const relaying = await relay(SMALL)
  await withTenant(pool, 'acme', (client) =>
    insertDomainEvents(client, 'acme', [
      told('rules/before'),
      told('rules/large', { action_id: 'a1', after: { text: 'x'.repeat(20_000) } }),
      told('rules/after'),
    ]),
  )
  const seen = inOrder(await drain(SMALL, (all) => new Set(all.map(({ key }) => key)).size === 3))
  const large = seen.find(({ key }) => key === 'acme/rules/large')
  expect(large?.data).toMatchObject({ action_id: 'a1', before: null, after: null, reduced: true })
  await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(0)
  await relaying.stop()
})

it('what waited for too long is lost, and that is told', async () => {
  const nowhere = `127.0.0.1:${await freePort()}`
  await withTenant(pool, 'acme', (client) =>
    insertDomainEvents(client, 'acme', [told('rules/a'), told('rules/b'), told('rules/c')]),
  )
  await sleep(20)
  const late = await relay(LATE, { bootstrap: nowhere, keepMs: 1 })
  // The notice is one that waits in their place.
  await expect.poll(waiting, { timeout: DEADLINE_MS }).toBe(1)
  await late.stop()
  await withTenant(pool, 'acme', (client) => insertDomainEvents(client, 'acme', [told('rules/d')]))
  const relaying = await relay(LATE)
  const seen = await drain(LATE, (all) => all.length === 2)
  expect(seen.map(({ type }) => type).toSorted()).toEqual(['events.lost', 'rule.changed'])
  expect(seen.find(({ type }) => type === 'events.lost')?.data).toMatchObject({ tenant: 'acme', count: 3 })
  await relaying.stop()
})

it('who tells of the same thing waits for whoever did before, so that numbers rise as commits do; others do not wait', async () => {
  const [begun, release] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()]
  const order: string[] = []
  const first = withTenant(pool, 'acme', async (client) => {
    await insertDomainEvents(client, 'acme', [told('rules/same')])
    begun.resolve()
    await release.promise
    order.push('first')
  })
  await begun.promise
  const second = withTenant(pool, 'acme', async (client) => {
    await insertDomainEvents(client, 'acme', [told('rules/same')])
    order.push('second')
  })
  const locked = async (): Promise<number> =>
    (await pool.query("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")).rowCount ?? 0
  try {
    await expect.poll(locked, { timeout: DEADLINE_MS }).toBe(1)
    await withTenant(pool, 'acme', (client) => insertDomainEvents(client, 'acme', [told('rules/other')]))
    await withTenant(pool, 'globex', (client) => insertDomainEvents(client, 'globex', [told('rules/same')]))
  } finally {
    release.resolve()
  }
  await Promise.all([first, second])
  expect(order).toEqual(['first', 'second'])
})
