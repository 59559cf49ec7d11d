import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { generateBundleKey } from '#engine/bundle/sign.ts'
import { exchange } from '#test/support/http-exchange.ts'
import {
  ledgerAccess,
  PASS_RULE,
  refusingRule,
  startProxyFixture,
  until,
  type ProxyFixture,
} from '#test/support/proxy-fixture.ts'
import { startProxyStack } from '#test/support/proxy-stack.ts'

const NO_X = [PASS_RULE, refusingRule('no-x', 'startswith(input.request.path, "/x")')]
const NO_Y = [PASS_RULE, refusingRule('no-y', 'startswith(input.request.path, "/y")')]

let fixture: ProxyFixture
beforeAll(async () => {
  fixture = await startProxyFixture({ rules: NO_X })
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{"a":1}')
})
afterAll(() => fixture.stop())

async function status(target: string): Promise<number> {
  return (await exchange(fixture.stack.external + target)).status
}

function loads(result: 'loaded' | 'refused'): Promise<number> {
  return fixture.stack.sample(`signet_bundle_loads_total{result="${result}"}`)
}

test('new rules come into force under load without a dropped or undecided request', async () => {
  const counts = new Map<string, number>()
  const traffic = new AbortController()
  const client = async (): Promise<void> => {
    while (!traffic.signal.aborted) {
      const [x, y] = await Promise.all([status('/x'), status('/y')])
      const key = `${x} ${y}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
  }
  const clients = Array.from({ length: 8 }, client)
  for (let sequence = 2; sequence <= 7; sequence += 1) {
    const before = await loads('loaded')
    await fixture.stack.publish(sequence % 2 === 0 ? NO_Y : NO_X, { sequence })
    await until('the new bundle', async () => (await loads('loaded')) > before)
  }
  traffic.abort()
  await Promise.all(clients)
  // The two requests of a round may see two bundles; nothing else may happen.
  expect([...counts.keys()].filter((key) => !/^(200|422) (200|422)$/.test(key))).toEqual([])
  expect(counts.get('422 200')).toBeGreaterThan(0)
  expect(counts.get('200 422')).toBeGreaterThan(0)
  expect(await fixture.stack.sample('signet_in_flight')).toBe(0)
  expect([await status('/x'), await status('/y')]).toEqual([422, 200])
})

test.each([
  { name: 'garbage', publish: () => fixture.stack.publish(Buffer.from('not a bundle')) },
  { name: 'an empty file', publish: () => fixture.stack.publish(Buffer.alloc(0)) },
  {
    name: 'another’s key',
    publish: async () => fixture.stack.publish(NO_Y, { sequence: 50, key: (await generateBundleKey()).key }),
  },
  { name: 'another scope', publish: () => fixture.stack.publish(NO_Y, { sequence: 51, scope: 'namespace/other' }) },
  { name: 'an older sequence', publish: () => fixture.stack.publish(NO_Y, { sequence: 1 }) },
  { name: 'other content of the same sequence', publish: () => fixture.stack.publish(NO_Y, { sequence: 7 }) },
  {
    name: 'one that has expired',
    publish: () => fixture.stack.publish(NO_Y, { sequence: 52, expiresAt: new Date(Date.now() - 1_000) }),
  },
])('$name changes nothing, and is counted', async ({ publish }) => {
  const refused = await loads('refused')
  await publish()
  await until('the refusal', async () => (await loads('refused')) > refused)
  expect([await status('/x'), await status('/y')]).toEqual([422, 200])
  await fixture.stack.ready()
  // And the way back is open.
  const loaded = await loads('loaded')
  await fixture.stack.publish(NO_X, { sequence: 7 })
  await until('the good one', async () => (await loads('loaded')) >= loaded)
})

test('an exchange keeps the rules that it began with', async () => {
  let release = (): void => {}
  fixture.upstream.answer = (_request, response) => {
    release = () => response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  }
  const pending = exchange(`${fixture.stack.external}/y/slow`)
  await until('the service to be asked', () => fixture.upstream.seen.at(-1)?.url === '/y/slow')
  await fixture.stack.publish(NO_Y, { sequence: 8 })
  await until('the new bundle', async () => (await fixture.stack.metrics()).includes('signet_bundle_info{revision="8-'))
  release()
  expect((await pending).status).toBe(200)
  fixture.upstream.answer = (_request, response) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
  expect(await status('/y/slow')).toBe(422)
})

test('without a bundle nothing leaves, the probe says why, and the first bundle opens the gate', async () => {
  const stack = await startProxyStack({
    upstream: fixture.upstream.url,
    ledger: ledgerAccess(fixture.ledger),
    rules: NO_X,
    env: { SIGNET_BUNDLE: path.join(fixture.stack.dir, 'later.tar.gz') },
  })
  try {
    const before = fixture.upstream.seen.length
    const answer = await exchange(`${stack.external}/a`)
    expect(answer.status).toBe(503)
    expect(answer.headers['retry-after']).toMatch(/^\d+$/)
    expect(JSON.parse(answer.body.toString())).toMatchObject({ code: 'PROXY_NOT_READY', request_effect: 'none' })
    expect(fixture.upstream.seen.length).toBe(before)
    const readiness = await fetch(`${stack.admin}/readyz`)
    expect(readiness.status).toBe(503)
    expect(await readiness.text()).toContain('no bundle is in force')
    expect((await fetch(`${stack.admin}/livez`)).status).toBe(200)
    await writeFile(path.join(fixture.stack.dir, 'later.tar.gz'), 'broken')
    await until('the refusal', async () => (await stack.sample('signet_bundle_loads_total{result="refused"}')) > 1)
    expect((await exchange(`${stack.external}/a`)).status).toBe(503)
  } finally {
    await stack.stop()
  }
})
