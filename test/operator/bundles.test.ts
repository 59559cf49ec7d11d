import { spawn, type ChildProcess } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { checkAuditEvent } from '#core/audit/validate.ts'
import type { BundleModule } from '#engine/bundle/build.ts'
import { createBundleClient, type BundleAnswer, type BundleClient } from '#engine/bundle/client.ts'
import { loadBundle } from '#engine/bundle/load.ts'
import { parseTrust } from '#engine/bundle/trust.ts'
import { PASS, ruleSource, sampleInput } from '#engine/compile/fixtures/sample.ts'
import type { ModulePart, Publisher } from '#operator/bundles/publisher.ts'
import { indexName } from '#operator/bundles/revisions.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { PASS_RULE, refusingRule, startProxyFixture, until, type ProxyFixture } from '#test/support/proxy-fixture.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { bundlesStack, moduleOf, OPERATOR_NAMESPACE, type BundlesStack, type Replica } from './bundles-stack.ts'

const compiled = (module: BundleModule): ModulePart => ({ state: 'compiled', module })
const NONE: ModulePart = { state: 'none' }

let server: TestApiServer
let stack: BundlesStack
let one: Replica
let two: Replica
let leading: { publisher: Publisher; end(): Promise<void> }
let term = 1
let root: ModulePart
let directory: string
let client: BundleClient

beforeAll(async () => {
  server = await startApiServer()
  stack = await bundlesStack(server)
  for (const namespace of ['shop', 'bank', 'lab']) await server.createNamespace(namespace)
  one = await stack.start('replica-one', { limits: { requestsPerPod: { burst: 1_000, perSecond: 1_000 } } })
  two = await stack.start('replica-two', { limits: { requestsPerPod: { burst: 1_000, perSecond: 1_000 } } })
  leading = one.lead(term)
  root = compiled(await moduleOf('root', [PASS_RULE]))
  directory = await mkdtemp(path.join(tmpdir(), 'signet-bundles-test-'))
  client = createBundleClient({ ca: stack.ca })
}, 900_000)
afterAll(async () => {
  await client?.close()
  await stack?.stop()
  await server?.stop()
  if (directory !== undefined) await rm(directory, { recursive: true, force: true })
})

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

const tokenOf = (namespace: string, pod: string, audience = 'signet-bundles'): Promise<string> =>
  server.createPodToken({ namespace, serviceAccount: 'default', pod, audience })

function pull(
  replica: Replica,
  namespace: string,
  token: string | null,
  headers: Record<string, string> = {},
): Promise<BundleAnswer> {
  return client.call({
    url: `${replica.url}/v1/bundles/namespace/${namespace}`,
    headers: { ...headers, ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
    timeoutMs: 60_000,
    maxBytes: 64 << 20,
    signal: new AbortController().signal,
  })
}

async function revisionAt(replica: Replica, namespace: string, token: string): Promise<string> {
  const answer = await pull(replica, namespace, token)
  expect(answer.status).toBe(200)
  const trust = await client.call({
    url: `${replica.url}/v1/bundle-trust`,
    timeoutMs: 10_000,
    maxBytes: 1 << 20,
    signal: new AbortController().signal,
  })
  const bundle = await loadBundle(answer.body, {
    trust: parseTrust(trust.body.toString('utf8')),
    scope: `namespace/${namespace}`,
    now: new Date(),
  })
  return bundle.revision
}

async function publishOwn(namespace: string, ...rules: Parameters<typeof moduleOf>[1][number][]): Promise<string> {
  const own = rules.length === 0 ? NONE : compiled(await moduleOf(`namespace/${namespace}`, rules))
  const { revision, problems } = await leading.publisher.publish(namespace, { root, namespace: own })
  expect(problems).toEqual([])
  return revision!
}

async function statusOf(replica: Replica, namespace: string): Promise<string[]> {
  return replica.service.statuses.view.of(namespace).map(({ pod, revision, code }) => `${pod} ${revision} ${code}`)
}

describe('pulls', () => {
  it('serves the bundle at every replica, and holds polls until there is news', async () => {
    const token = await tokenOf('shop', 'puller')
    // Before there is any: a poll that waits gets the first one.
    const first = pull(two, 'shop', token, { prefer: 'modes=snapshot;wait=20' })
    const revision = await publishOwn('shop')
    const answer = await first
    expect([answer.status, answer.headers['content-type']]).toEqual([200, 'application/vnd.openpolicyagent.bundles'])
    expect(await revisionAt(two, 'shop', token)).toBe(revision)
    expect(await revisionAt(one, 'shop', token)).toBe(revision)

    const { etag } = answer.headers as { etag: string }
    const startedMs = performance.now()
    const unchanged = await pull(two, 'shop', token, { 'if-none-match': etag, prefer: 'modes=snapshot,delta;wait=1' })
    expect([unchanged.status, unchanged.headers['etag'], unchanged.body.length]).toEqual([304, etag, 0])
    expect(performance.now() - startedMs).toBeGreaterThan(900)
    expect((await pull(two, 'shop', token, { 'if-none-match': `W/${etag}` })).status).toBe(304)

    const held = pull(two, 'shop', token, { 'if-none-match': etag, prefer: 'wait=30' })
    const next = await publishOwn('shop', refusingRule('no', 'input.response.status == 200'))
    expect((await held).status).toBe(200)
    expect(await revisionAt(two, 'shop', token)).toBe(next)
  })

  it('answers the older of two held polls when a pod has too many, and those of a draining replica', async () => {
    const draining = await stack.start('replica-draining')
    await until('sync', () => draining.service.source.synced)
    const token = await tokenOf('shop', 'puller')
    const { etag } = (await pull(draining, 'shop', token)).headers as { etag: string }
    const headers = { 'if-none-match': etag, prefer: 'wait=50' }
    const oldest = pull(draining, 'shop', token, headers)
    await until('a held poll', () => draining.service.source.waiting === 1)
    const others = [pull(draining, 'shop', token, headers)]
    await until('held polls', () => draining.service.source.waiting === 2)
    others.push(pull(draining, 'shop', token, headers))
    expect((await oldest).status).toBe(304)
    const closed = draining.service.app.close()
    expect((await Promise.all(others)).map(({ status }) => status)).toEqual([304, 304])
    draining.service.app.server.closeAllConnections()
    await closed
  })

  it('refuses whoever has no business there, and audits it', async () => {
    await publishOwn('bank')
    stack.events.length = 0
    const gone = await tokenOf('shop', 'gone')
    expect((await pull(two, 'shop', gone)).status).toBe(200)
    await server.kubectl(['delete', 'pod', 'gone', '-n', 'shop', '--grace-period=0', '--force', '--wait=true'])
    const unbound = JSON.parse(
      await server.kubectl(
        ['create', '--raw', '/api/v1/namespaces/shop/serviceaccounts/default/token', '-f', '-'],
        JSON.stringify({
          kind: 'TokenRequest',
          apiVersion: 'authentication.k8s.io/v1',
          spec: { audiences: ['signet-bundles'] },
        }),
      ),
    ) as { status: { token: string } }
    const cases: { name: string; token: string | null; want: [number, string] }[] = [
      { name: 'no token', token: null, want: [401, 'UNAUTHENTICATED'] },
      { name: 'no JWT', token: 'hunter2', want: [401, 'UNAUTHENTICATED'] },
      {
        name: 'another audience',
        token: await tokenOf('shop', 'puller', 'signet-ledger'),
        want: [401, 'UNAUTHENTICATED'],
      },
      { name: 'another namespace', token: await tokenOf('bank', 'clerk'), want: [403, 'FORBIDDEN'] },
      { name: 'no pod', token: unbound.status.token, want: [403, 'FORBIDDEN'] },
      { name: 'a deleted pod', token: gone, want: [401, 'UNAUTHENTICATED'] },
      { name: 'the administrator', token: server.token, want: [401, 'UNAUTHENTICATED'] },
    ]
    // The API server itself remembers a token for ten seconds.
    await until('the deleted pod’s token to end', async () => (await pull(two, 'shop', gone)).status === 401, 30_000)
    stack.events.length = 0
    for (const { name, token, want } of cases) {
      const answer = await pull(two, 'shop', token)
      expect(answer.headers['content-type'], name).toBe('application/problem+json')
      const problem = JSON.parse(answer.body.toString('utf8')) as { status: number; code: string }
      expect([problem.status, problem.code], name).toEqual(want)
      expect(answer.body.toString('utf8')).not.toContain('hunter2')
    }
    expect((await pull(two, 'Not_A_Name', await tokenOf('shop', 'puller'))).status).toBe(404)
    expect((await pull(two, 'lab', await tokenOf('lab', 'rat'))).status).toBe(404)

    const refused = await until('audited refusals', () => {
      const found = stack.events.filter((event) => event.event_type === 'policy.bundle.refused')
      return found.length >= 3 ? found : null
    })
    for (const event of refused) checkAuditEvent(event)
    expect(refused.map(({ actor, context }) => `${actor} ${String(context?.['code'])}`)).toEqual([
      'unauthenticated UNAUTHENTICATED',
      'bank/clerk FORBIDDEN',
      'shop/serviceaccount:default FORBIDDEN',
    ])
    const metrics = await two.registry.metrics()
    expect(metrics).toContain('signet_bundle_requests_refused_total{action="pull",code="FORBIDDEN"} 2')
  })

  it('limits how often one pod asks, and no other pod', async () => {
    const strict = await stack.start('replica-strict', { limits: { requestsPerPod: { burst: 2, perSecond: 0.1 } } })
    await until('sync', () => strict.service.source.synced)
    const [eager, calm] = [await tokenOf('shop', 'eager'), await tokenOf('shop', 'calm')]
    const statuses: number[] = []
    for (let n = 0; n < 4; n++) statuses.push((await pull(strict, 'shop', eager)).status)
    expect(statuses).toEqual([200, 200, 429, 429])
    expect((await pull(strict, 'shop', calm)).status).toBe(200)
  })
})

describe('a real proxy', () => {
  let fixture: ProxyFixture
  let revision: string
  beforeAll(async () => {
    revision = await publishOwn('shop')
    const tokenFile = path.join(directory, 'proxy-token')
    await writeFile(tokenFile, await tokenOf('shop', 'web-1'))
    fixture = await startProxyFixture({
      env: {
        SIGNET_BUNDLE: `${two.url}/v1/bundles/namespace/shop`,
        SIGNET_BUNDLE_SCOPE: 'namespace/shop',
        SIGNET_BUNDLE_TRUST: `${two.url}/v1/bundle-trust`,
        SIGNET_BUNDLE_TOKEN_FILE: tokenFile,
        SIGNET_BUNDLE_STATUS_URL: `${two.url}/v1/status/namespace/shop`,
        SIGNET_TRUST_CA: stack.ca,
        SIGNET_POD_NAME: 'web-1',
      },
    })
  }, 60_000)
  afterAll(() => fixture?.stop())

  const answers = async (): Promise<number> => (await fetch(`${fixture.stack.external}/json`)).status

  it('takes a change into force within seconds, and its replica and the leader know', async () => {
    const before = await answers()
    expect(before).not.toBe(422)
    const startedMs = performance.now()
    revision = await publishOwn('shop', refusingRule('never', 'input.response.status < 600'))
    await until('the refusal', async () => (await answers()) === 422)
    expect(performance.now() - startedMs).toBeLessThan(5_000)
    for (const replica of [two, one]) {
      await until('the report', async () => (await statusOf(replica, 'shop')).includes(`web-1 ${revision} null`))
    }
    expect(await fixture.stack.sample(`signet_bundle_info{revision="${revision}"}`)).toBe(1)
    expect(await fixture.stack.sample('signet_bundle_contact_timestamp_seconds')).toBeGreaterThan(
      Date.now() / 1000 - 120,
    )
  })

  it('goes back to an earlier revision by annotation, and on when it is cleared', async () => {
    const good = (
      JSON.parse(
        await server.kubectl(['get', 'configmap', indexName('shop'), '-n', OPERATOR_NAMESPACE, '-o', 'json']),
      ) as { data: { 'index.json': string } }
    ).data['index.json']
    const { revisions } = JSON.parse(good) as { revisions: { revision: string }[] }
    const annotate = (what: string): Promise<string> =>
      server.kubectl(['annotate', 'configmap', indexName('shop'), '-n', OPERATOR_NAMESPACE, what])
    one.changes.length = 0
    await annotate(`signet.dev/rollback-to=${revisions[1]!.revision}`)
    await until('the leader to be told', () => one.changes.includes('shop'))
    expect((await leading.publisher.upkeep('shop')).outcome).toBe('rolled-back')
    await until('the earlier rules', async () => (await answers()) !== 422)
    await annotate('signet.dev/rollback-to-')
    await publishOwn('shop', refusingRule('never', 'input.response.status < 600'))
    await until('the later rules', async () => (await answers()) === 422)
  })

  it('keeps its rules, and reports why, when its server is not to be believed', async () => {
    // What the store holds is not what was signed.
    const name = indexName('shop')
    const found = (await one.service.source.open('shop'))!
    const object = JSON.parse(
      await server.kubectl(['get', 'configmap', name, '-n', OPERATOR_NAMESPACE, '-o', 'json']),
    ) as { data: { 'index.json': string } }
    const index = JSON.parse(object.data['index.json']) as { revisions: { sequence: number; signature: string }[] }
    const forged = structuredClone(index)
    const [head, body] = forged.revisions[0]!.signature.split('.')
    forged.revisions[0]!.signature = `${head}.${body}.${'A'.repeat(86)}`
    const patch = async (to: object): Promise<void> => {
      const file = path.join(directory, 'patch.json')
      await writeFile(file, JSON.stringify({ data: { 'index.json': JSON.stringify(to) } }))
      await server.kubectl([
        'patch',
        'configmap',
        name,
        '-n',
        OPERATOR_NAMESPACE,
        '--type=merge',
        `--patch-file=${file}`,
      ])
    }
    await patch(forged)
    await until('the report', async () =>
      (await statusOf(one, 'shop')).some((line) => line.endsWith('BUNDLE_UNTRUSTED')),
    )
    expect(await answers()).toBe(422)
    await patch(index)
    await until('the report', async () => (await statusOf(one, 'shop')).some((line) => line.endsWith(' null')))
    expect((await one.service.source.open('shop'))!.etag).toBe(found.etag)
  })

  it('lives through another leader, a new signing key and the loss of the operator', async () => {
    await leading.end()
    const other = two.lead(++term)
    leading = other
    // A key that was made public by mistake: its Secret is deleted, and all is signed anew.
    await server.kubectl(['delete', 'secret', 'signet-bundle-signing', '-n', OPERATOR_NAMESPACE])
    await other.end()
    leading = two.lead(++term)
    const kids = async (): Promise<string[]> => {
      const answer = await client.call({
        url: `${two.url}/v1/bundle-trust`,
        timeoutMs: 10_000,
        maxBytes: 1 << 20,
        signal: new AbortController().signal,
      })
      return parseTrust(answer.body.toString('utf8')).keys.map(({ kid }) => kid)
    }
    const [old] = await kids()
    revision = await publishOwn('shop', refusingRule('once', 'input.response.status < 300'))
    await until('the report', async () => (await statusOf(one, 'shop')).includes(`web-1 ${revision} null`))
    expect(await kids()).not.toContain(old)
    // The rest of this file's namespaces, too.
    await publishOwn('bank')
    await two.service.app.close()
    expect(await answers()).toBe(422)
  }, 60_000)
})

describe('OPA itself', () => {
  it('loads the bundle with its own token, holds a long poll, verifies, and reports its status', async () => {
    const fresh = await stack.start('replica-opa')
    await until('sync', () => fresh.service.source.synced && fresh.service.source.trust !== null)
    const first = await publishOwn('lab', ruleSource('own', PASS))
    const token = path.join(directory, 'opa-token')
    await writeFile(token, await tokenOf('lab', 'opa-1'))
    await writeFile(path.join(directory, 'ca.pem'), stack.ca)
    const trust = JSON.parse(
      await server.kubectl(['get', 'configmap', 'signet-bundle-trust', '-n', OPERATOR_NAMESPACE, '-o', 'json']),
    ) as { data: Record<string, string> }
    const [name, pem] = Object.entries(trust.data).find(([key]) => key.endsWith('.pem'))!
    const config = {
      services: {
        signet: {
          url: `${fresh.url}/v1`,
          tls: { ca_cert: path.join(directory, 'ca.pem') },
          credentials: { bearer: { token_path: token } },
        },
      },
      keys: { signet: { algorithm: 'ES256', key: pem, scope: '' } },
      bundles: {
        lab: {
          service: 'signet',
          resource: 'bundles/namespace/lab',
          polling: { long_polling_timeout_seconds: 30 },
          signing: { keyid: 'signet' },
        },
      },
      status: { service: 'signet', partition_name: 'namespace/lab' },
    }
    expect(name).toMatch(/\.pem$/)
    const url = await startOpa(config)
    const ask = async (rule: string): Promise<unknown> => {
      const response = await fetch(`${url}/v1/data/signet/ns_lab/${rule}/decision`, {
        method: 'POST',
        body: JSON.stringify({ input: sampleInput({}) }),
      })
      return ((await response.json()) as { result: unknown }).result
    }
    expect(await ask('own')).toEqual({ evaluated: true, violations: [] })
    await until('OPA’s report', async () => (await statusOf(fresh, 'lab')).includes(`opa-1 ${first} null`))
    await until('a held poll', () => fresh.service.source.waiting > 0)
    const startedMs = performance.now()
    const second = await publishOwn('lab', ruleSource('own', PASS), ruleSource('more', PASS))
    await until('the new rule in OPA', async () => (await ask('more')) !== undefined)
    expect(performance.now() - startedMs).toBeLessThan(5_000)
    await until('OPA’s report', async () => (await statusOf(fresh, 'lab')).includes(`opa-1 ${second} null`))
  }, 120_000)
})

async function startOpa(config: object): Promise<string> {
  const file = path.join(directory, 'opa.json')
  await writeFile(file, JSON.stringify(config))
  const url = `http://127.0.0.1:${await freePort()}`
  const child: ChildProcess = spawn(
    await ensureOpa({}),
    ['run', '--server', `--addr=${url.slice(7)}`, '--skip-version-check', `--config-file=${file}`],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  cleanups.push(() => child.kill('SIGKILL'))
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  await until('OPA', async () => {
    if (child.exitCode !== null) throw new Error(output)
    return fetch(`${url}/health?bundles`).then(
      (response) => response.ok,
      () => false,
    )
  }).catch((error: unknown) => {
    throw new Error(output, { cause: error })
  })
  return url
}

async function freePort(): Promise<number> {
  const probe = createServer()
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
  const { port } = probe.address() as AddressInfo
  await new Promise((resolve) => probe.close(resolve))
  return port
}
