import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { startGovernanceStack, type Called, type GovernanceStack } from '#test/support/governance.ts'

type Message = { readonly headers: IncomingHttpHeaders; readonly body: string }
type Cloud = { id: string; type: string; subject: string; data: { actor: string; after: { name?: string } | null } }

let stack: GovernanceStack
let folder: string
let receiver: Server
let here: string
const received: Message[] = []
let answer = 200
/** Requests to `/hangs`, which are not answered: true while the sender waits. */
const hanging: { open: boolean }[] = []

beforeAll(async () => {
  receiver = createServer((request, response) => {
    if (request.url === '/hangs') {
      const held = { open: true }
      hanging.push(held)
      response.on('close', () => (held.open = false))
      return
    }
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      received.push({ headers: request.headers, body: Buffer.concat(chunks).toString('utf8') })
      response.writeHead(answer).end()
    })
  })
  await new Promise<void>((resolve) => receiver.listen(0, '127.0.0.1', resolve))
  here = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook?token=of-a-receiver`
  folder = await mkdtemp(path.join(tmpdir(), 'signet-webhooks-'))
  const key = path.join(folder, 'secrets.key')
  await writeFile(key, `${randomBytes(32).toString('base64')}\n`)
  stack = await startGovernanceStack({
    env: { SIGNET_GOVERNANCE_SECRETS_KEY_FILE: key, SIGNET_GOVERNANCE_WEBHOOK_NETWORKS: '127.0.0.0/8' },
  })
})
afterAll(async () => {
  await stack?.stop()
  receiver?.close()
  receiver?.closeAllConnections()
  await rm(folder, { recursive: true, force: true })
})
beforeEach(async () => {
  for (const { id } of (await call('GET', '/api/v1/webhooks')).body.items)
    await call('DELETE', `/api/v1/webhooks/${id}`)
  received.length = 0
  answer = 200
})

const call = (method: string, url: string, body?: unknown): Promise<Called> => stack.call('acme', method, url, body)
const clouds = (): Cloud[] => received.map(({ body }) => JSON.parse(body) as Cloud)
const role = (name: string): Promise<Called> => call('POST', '/api/v1/roles', { name, permissions: [] })
async function hook(body: object = {}): Promise<{ id: string; secret: string }> {
  const made = await call('POST', '/api/v1/webhooks', { url: here, events: ['roles.*'], ...body })
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body
}
const deliveries = async (
  id: string,
  status?: string,
): Promise<{ status: string; tries: number; last_reason: string | null }[]> =>
  (await call('GET', `/api/v1/webhooks/${id}/deliveries${status === undefined ? '' : `?status=${status}`}`)).body.items

function isSigned({ headers, body }: Message, secret: string): boolean {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64')
  const want = createHmac('sha256', key)
    .update(`${String(headers['webhook-id'])}.${String(headers['webhook-timestamp'])}.${body}`)
    .digest()
  const given = Buffer.from(String(headers['webhook-signature']).replace('v1,', ''), 'base64')
  return given.length === want.length && timingSafeEqual(given, want)
}

it('is told what was done, signed, and nothing else', async () => {
  const { id, secret } = await hook()
  await role('Told of')
  await call('POST', '/api/v1/service-accounts', { name: 'not-told-of' })
  // What fails is not told: the name is taken.
  expect((await role('Told of')).status).toBe(409)
  await role('Told of as well')
  await expect.poll(() => received.length, { timeout: 30_000 }).toBe(2)
  expect(
    clouds()
      .map(({ type, data }) => [type, data.actor, data.after?.name])
      .toSorted((a, b) => String(a[2]).localeCompare(String(b[2]))),
  ).toEqual([
    ['dev.signet.governance.roles.write', 'admin@acme.example', 'Told of'],
    ['dev.signet.governance.roles.write', 'admin@acme.example', 'Told of as well'],
  ])
  expect(received.every((message) => isSigned(message, secret))).toBe(true)
  expect(isSigned(received[0]!, 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA')).toBe(false)
  const events = (await stack.events('acme')).map(({ event_id }) => event_id)
  expect(clouds().every((cloud) => events.includes(cloud.id))).toBe(true)
  expect(await deliveries(id)).toMatchObject([
    { status: 'delivered', tries: 1 },
    { status: 'delivered', tries: 1 },
  ])
})
it('is told again until it takes it, by the same id', async () => {
  answer = 500
  const { id } = await hook()
  await role('Again')
  await expect.poll(async () => (await deliveries(id))[0]?.last_reason, { timeout: 30_000 }).toBe('it answered 500')
  answer = 200
  await expect.poll(async () => (await deliveries(id))[0]?.status, { timeout: 30_000 }).toBe('delivered')
  expect(new Set(received.map(({ headers }) => headers['webhook-id'])).size).toBe(1)
  expect(received.length).toBeGreaterThan(1)
})
it('whose tries are used up is a dead letter, which can be revived', async () => {
  answer = 503
  const { id } = await hook()
  await role('Dead')
  await expect.poll(async () => (await deliveries(id))[0]?.tries, { timeout: 30_000 }).toBe(1)
  await stack.query("UPDATE signet.webhook_deliveries SET tries = 7, next_at = now() WHERE status = 'pending'", 'acme')
  await expect.poll(async () => (await deliveries(id, 'dead')).length, { timeout: 30_000 }).toBe(1)
  answer = 200
  expect((await call('POST', `/api/v1/webhooks/${id}/retry`)).body).toEqual({ revived: 1 })
  await expect.poll(async () => (await deliveries(id))[0]?.status, { timeout: 30_000 }).toBe('delivered')
})
it('with another secret signs with that one', async () => {
  const { id, secret } = await hook()
  const other = (await call('POST', `/api/v1/webhooks/${id}/secret`)).body.secret as string
  expect(other).not.toBe(secret)
  await role('Other secret')
  await expect.poll(() => received.length, { timeout: 30_000 }).toBe(1)
  expect([isSigned(received[0]!, other), isSigned(received[0]!, secret)]).toEqual([true, false])
})
it('survives a restart, and a secret is shown once and kept sealed', async () => {
  answer = 500
  const { id, secret } = await hook()
  await role('Restarted')
  await expect.poll(async () => (await deliveries(id))[0]?.tries, { timeout: 30_000 }).toBe(1)
  await stack.restart()
  answer = 200
  await expect.poll(async () => (await deliveries(id))[0]?.status, { timeout: 60_000 }).toBe('delivered')
  expect(isSigned(received.at(-1)!, secret)).toBe(true)
  expect(JSON.stringify((await call('GET', `/api/v1/webhooks/${id}`)).body)).not.toContain('whsec_')
  const log = JSON.stringify(await stack.events('acme'))
  expect(log).not.toContain(secret)
  expect(log).not.toContain('of-a-receiver')
  expect(stack.process().output()).not.toContain(secret)
})
it.each([
  { what: 'an address inside', url: 'https://10.0.0.1/x', want: /not public/ },
  { what: 'a cloud’s metadata', url: 'https://169.254.169.254/latest', want: /not public/ },
  { what: 'this machine by IPv6', url: 'https://[::1]/x', want: /not public/ },
  { what: 'no TLS', url: 'http://93.184.215.14/x', want: /not https/ },
])('that leads to $what is never sent', async ({ url, want }) => {
  const { id } = await hook({ url })
  await role(`Inside ${url.replace(/[^a-z0-9]/g, '')}`.slice(0, 40))
  await expect.poll(async () => (await deliveries(id, 'dead'))[0]?.last_reason, { timeout: 30_000 }).toMatch(want)
})
it('that hangs holds up nobody else', async () => {
  await hook({ url: here.replace(/\/hook.*/, '/hangs') })
  const other = { url: here, events: ['roles.*'] }
  const { body } = await stack.call('globex', 'POST', '/api/v1/webhooks', other)
  await role('Hangs')
  await expect.poll(() => hanging.length, { timeout: 30_000 }).toBe(1)
  await stack.call('globex', 'POST', '/api/v1/roles', { name: 'Not held up', permissions: [] })
  await expect.poll(() => received.length, { timeout: 30_000, interval: 20 }).toBe(1)
  expect(hanging).toEqual([{ open: true }])
  await stack.call('globex', 'DELETE', `/api/v1/webhooks/${body.id}`)
})
it('that is disabled is told nothing, and nobody else has it', async () => {
  const { id } = await hook()
  await call('PATCH', `/api/v1/webhooks/${id}`, { state: 'disabled' })
  await role('Silent')
  await stack.call('globex', 'POST', '/api/v1/roles', { name: 'Of globex', permissions: [] })
  for (const [method, url, body] of [
    ['GET', `/api/v1/webhooks/${id}`, undefined],
    ['GET', `/api/v1/webhooks/${id}/deliveries`, undefined],
    ['PATCH', `/api/v1/webhooks/${id}`, { url: 'https://evil.example' }],
    ['POST', `/api/v1/webhooks/${id}/secret`, undefined],
    ['POST', `/api/v1/webhooks/${id}/retry`, undefined],
    ['DELETE', `/api/v1/webhooks/${id}`, undefined],
  ] as const)
    expect([method, url, (await stack.call('globex', method, url, body)).status]).toEqual([method, url, 404])
  expect(await deliveries(id)).toEqual([])
  expect(received).toEqual([])
})
it.each([
  { what: 'a URL of another kind', body: { url: 'ftp://x.example' } },
  { what: 'an event that is none', body: { url: 'https://x.example', events: ['users.fly'] } },
  { what: 'a secret of one’s own', body: { url: 'https://x.example', secret: 'x' } },
])('with $what is refused', async ({ body }) => {
  expect(await call('POST', '/api/v1/webhooks', body)).toMatchObject({ status: 400, body: { code: 'REQUEST_INVALID' } })
})
