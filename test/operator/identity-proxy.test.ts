import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { canonicalize } from '#core/canonical/jcs.ts'
import { sha256 } from '#core/crypto/digest.ts'
import type { IdentityAnswer } from '#core/identity/exchange.ts'
import { indexKeyring, type Keyring } from '#core/keyring/keyring.ts'
import { CLAIMS } from '#core/stamp/stamp.fixture.ts'
import { signStamp } from '#core/stamp/sign.ts'
import type { Stamp } from '#core/stamp/schema.ts'
import { createAuthority } from '#operator/certificates/authority.ts'
import { AUDIENCE, run, startIdentityCluster, type IdentityCluster } from '../support/identity/cluster.ts'
import { startProxyStack, type ProxyStack } from '../support/proxy-stack.ts'
import { startUpstream, type Upstream } from '../support/upstream.ts'

const POLL = { timeout: 20_000 }
const TARGET = '/reports/7'
let cluster: IdentityCluster
let upstream: Upstream
let podToken: string
const stacks: ProxyStack[] = []

beforeAll(async () => {
  ;[cluster, upstream] = await Promise.all([startIdentityCluster(), startUpstream()])
  upstream.answer = (_request, response) => response.setHeader('content-type', 'application/json').end('{"total":1}')
  await cluster.api.createNamespace('demo')
  podToken = await cluster.api.createPodToken({
    namespace: 'demo',
    serviceAccount: 'api',
    pod: 'api-1',
    audience: AUDIENCE,
  })
})
afterEach(async () => {
  for (const stack of stacks.splice(0)) await stack.stop()
})
afterAll(() => Promise.all([cluster.stop(), upstream.close()]))

async function startProxy(env: Record<string, string> = {}): Promise<ProxyStack> {
  const stack = await startProxyStack({
    upstream: upstream.url,
    ledger: { url: cluster.url, token: podToken, ackKey: null },
    env: { SIGNET_KEYRING: '', SIGNET_TRUST_CA: cluster.ca, ...env },
  })
  stacks.push(stack)
  return stack
}

async function stamped(stack: ProxyStack): Promise<{ body: string; stamp: Stamp }> {
  const response = await fetch(`${stack.external}${TARGET}`)
  const body = await response.text()
  expect(response.status, body).toBe(200)
  return { body, stamp: (JSON.parse(body) as { _compliance: Stamp })._compliance }
}

/** `signet verify`, offline: a file, and the ledger's keyring with the root. */
async function verify(body: string): Promise<string> {
  const file = path.join(cluster.dir, `answer-${randomBytes(4).toString('hex')}.json`)
  await writeFile(file, body)
  const subject = [
    '--target',
    TARGET,
    '--method',
    'GET',
    '--status',
    '200',
    '--tenant',
    'acme',
    '--channel',
    'external',
  ]
  return run(['cli/main.ts', 'verify', file, '--keyring', cluster.keyringFile, ...subject], {})
}

const rootOf = (stamp: Stamp): string => stamp.integrity.key_id.split('.')[1] ?? ''
const newRoot = (keyId: string, validity: object = {}): Keyring['keys'][number] => ({
  use: 'stamp-root',
  alg: 'HKDF-SHA256',
  key_id: keyId,
  secret: randomBytes(32).toString('base64url'),
  not_before: '2026-01-01T00:00:00.000Z',
  not_after: '2100-01-01T00:00:00.000Z',
  ...validity,
})

it('a proxy without a keyring gets its keys from the ledger; its stamps verify with the root alone', async () => {
  const stack = await startProxy()
  await stack.ready()
  const { body, stamp } = await stamped(stack)
  expect(stamp.integrity.key_id).toMatch(/^d1\.root-[^.]+\.\d{8}\.acme\.demo%2Fapi$/)
  await verify(body)
  await expect(verify(body.replace('"total":1', '"total":2'))).rejects.toThrow(
    'the content was changed after it was stamped',
  )
  // Events and stamps arrive at the ledger, acknowledged with a key that came with the exchange.
  await expect.poll(() => stack.sample('signet_audit_acked_total'), POLL).toBeGreaterThan(0)
  expect(await stack.sample('signet_audit_refused_total')).toBe(0)
  expect(await stack.sample('signet_identity_exchanges_total{result="issued"}')).toBe(1)
  expect(stack.output()).not.toContain(podToken)
})

it('its stamps are found by any replica, also when it holds the key of another day', async () => {
  const first = await startProxy()
  await first.ready()
  const response = await fetch(`${first.external}${TARGET}`)
  await response.text()
  const link = /<([^>]+)>/.exec(response.headers.get('link') ?? '')?.[1] ?? ''
  await expect.poll(() => first.sample('signet_audit_pending_events'), POLL).toBe(0)
  // A replica that knows nothing but a key of a new root.
  const keyring = await cluster.readKeyring()
  await cluster.setKeyring({ ...keyring, keys: [newRoot('root-of-tomorrow'), ...keyring.keys] })
  await expect
    .poll(async () => (await cluster.exchange({ token: podToken })).headers['signet-stamp-root'], POLL)
    .toBe('root-of-tomorrow')
  const second = await startProxy()
  await second.ready()
  const found = await fetch(second.external + link)
  expect(found.status).toBe(200)
  expect(rootOf((await found.json()) as Stamp)).not.toBe('root-of-tomorrow')
  const elsewhere = await fetch(second.internal + link)
  expect(elsewhere.status).toBe(404)
  await cluster.setKeyring(keyring)
})

it('takes what another producer stamped for what it is: the ledger, which has the root, vouches for it', async () => {
  const first = await startProxy()
  await first.ready()
  const other = await cluster.api.createPodToken({
    namespace: 'demo',
    serviceAccount: 'portal',
    pod: 'portal-1',
    audience: AUDIENCE,
  })
  // It passes on what it got from the first.
  const portal = await startProxyStack({
    upstream: first.external,
    ledger: { url: cluster.url, token: other, ackKey: null },
    env: { SIGNET_KEYRING: '', SIGNET_TRUST_CA: cluster.ca, SIGNET_PRODUCER_ID: 'demo/portal' },
  })
  stacks.push(portal)
  await portal.ready()
  const response = await fetch(`${portal.external}${TARGET}`)
  const body = await response.text()
  expect(response.status, body).toBe(200)
  const { _compliance: stamp } = JSON.parse(body) as { _compliance: Stamp }
  expect(stamp.data_lineage.producer_id).toBe('demo/portal')
  expect(stamp.data_lineage.source_assets).toEqual([expect.stringMatching(/^urn:signet:stamp@sha256:[0-9a-f]{64}$/)])
  expect(await portal.sample('signet_stamps_asked_total{result="verified"}')).toBe(1)
  expect(await portal.sample('signet_forged_stamps_total{tenant="acme"}')).toBe(0)
  await verify(body)

  await cluster.api.createNamespace('payments')
  const pod = { namespace: 'payments', serviceAccount: 'api', pod: 'api-1', audience: AUDIENCE }
  const stranger = await cluster.api.createPodToken(pod)
  const ask = async (token: string, sent: string) => {
    const { status, body } = await cluster.call({ path: '/api/audit/stamps/verify', token, body: sent })
    return [status, ...['verified', 'code'].map((name) => (body as Record<string, unknown>)[name])]
  }
  const bytes = canonicalize(stamp)
  expect(await ask(podToken, bytes)).toEqual([200, true, undefined])
  expect(await ask(podToken, bytes.replace('demo/portal', 'demo/api'))).toEqual([200, false, 'STAMP_MAC_MISMATCH'])
  expect(await ask(podToken, '{}')).toEqual([200, false, 'STAMP_INVALID'])
  // Tenants do not learn of each other's.
  expect(await ask(stranger, bytes)).toEqual([200, false, 'STAMP_SUBJECT_MISMATCH'])
  expect(await ask('garbage', bytes)).toEqual([401, undefined, 'UNAUTHENTICATED'])
  expect(await ask(podToken, ' '.repeat(70_000))).toEqual([413, undefined, 'PAYLOAD_TOO_LARGE'])
})

it('trusts the ledger by the authority that is pinned, and answers 503 without keys', async () => {
  const other = await createAuthority({ now: new Date(), lifetimeMs: 3_600_000 })
  const stack = await startProxy({ SIGNET_TRUST_CA: other.cert })
  const ready = await fetch(`${stack.admin}/readyz`)
  expect([ready.status, await ready.text()]).toEqual([503, expect.stringContaining('no stamp key is valid')])
  const refused = await fetch(`${stack.external}${TARGET}`)
  expect([refused.status, await refused.text()]).toEqual([503, expect.not.stringContaining('total')])
  expect((await fetch(`${stack.admin}/livez`)).status).toBe(200)
  expect(await stack.sample('signet_identity_exchanges_total{result="LEDGER_UNREACHABLE"}')).toBeGreaterThan(0)
})

it.each([
  { what: 'the producer of another namespace', env: { SIGNET_PRODUCER_ID: 'payments/api' } },
  { what: 'a tenant that the platform does not give', env: { SIGNET_TENANT: 'globex' } },
])('does not start as $what', async ({ env }) => {
  await expect(startProxy(env)).rejects.toThrow(
    /cannot start: SIGNET_TENANT and SIGNET_PRODUCER_ID are .* does not let this pod be/,
  )
})

it('does not take keys over a connection that anybody can read', async () => {
  await expect(startProxy({ SIGNET_LEDGER_URL: 'http://localhost:1' })).rejects.toThrow('must be an https URL')
  await expect(startProxy({ SIGNET_TRUST_CA: '' })).rejects.toThrow('SIGNET_TRUST_CA is not set')
})

it('a stolen key of one producer makes no stamp of another', async () => {
  const claims = { producer_id: 'demo/thief' }
  const { stamp_key: stolen } = (await cluster.exchange({ token: podToken, claims })).body as unknown as IdentityAnswer
  const payload = Buffer.from('{"total":9}')
  const keys = indexKeyring(await cluster.readKeyring())
  const victimKeyId = stolen.key_id.replace('thief', 'api')
  const thief = keys.stampKey(stolen.key_id)
  if (thief === undefined) throw new Error('the thief has no key')
  for (const [keyId, want] of [
    [stolen.key_id, 'signs for producer «demo/thief»'],
    [victimKeyId, 'the stamp was changed, or not made with key'],
  ] as const) {
    const { jcs } = signStamp({
      claims: {
        ...CLAIMS,
        timestamp_utc: new Date().toISOString(),
        data_lineage: { ...CLAIMS.data_lineage, producer_id: 'demo/api' },
        subject: { ...CLAIMS.subject, tenant: 'acme' },
      },
      canonicalization: 'bytes',
      payloadDigest: sha256(payload),
      payloadLength: payload.length,
      // As if the stolen secret were the victim's key.
      key: { ...thief, keyId, producerId: 'demo/api' },
    })
    await expect(verify(payload.toString().replace('}', `,"_compliance":${jcs}}`))).rejects.toThrow(want)
  }
})

it('renews at half-life, and follows another root, without a pause', async () => {
  const keyring = await cluster.readKeyring()
  const [short, long] = [
    newRoot('root-short', { not_after: new Date(Date.now() + 50_000).toISOString() }),
    newRoot('root-long'),
  ]
  const rest = keyring.keys.filter((key) => key.use !== 'stamp-root')
  await cluster.setKeyring({ version: 1, keys: [...rest, short] })
  await expect
    .poll(async () => (await cluster.exchange({ token: podToken })).headers['signet-stamp-root'], POLL)
    .toBe('root-short')
  const stack = await startProxy()
  await stack.ready()

  const bodies = new Map<string, string>()
  const statuses = new Map<number, number>()
  const stop = new AbortController()
  const traffic = (async () => {
    while (!stop.signal.aborted) {
      const response = await fetch(`${stack.external}${TARGET}`)
      const body = await response.text()
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1)
      if (response.ok) bodies.set(rootOf((JSON.parse(body) as { _compliance: Stamp })._compliance), body)
      await sleep(20)
    }
  })()
  const issued = () => stack.sample('signet_identity_exchanges_total{result="issued"}')
  await expect.poll(issued, { timeout: 40_000, interval: 500 }).toBeGreaterThanOrEqual(2)

  const all: Keyring = { version: 1, keys: [...rest, long, short] }
  await cluster.setKeyring(all)
  await expect.poll(() => [...bodies.keys()].at(-1), { timeout: 40_000, interval: 500 }).toBe('root-long')
  stop.abort()
  await traffic
  expect([...statuses.keys()]).toEqual([200])
  for (const root of ['root-short', 'root-long']) await verify(bodies.get(root) ?? '')

  // Revoked: what is stamped from then on with keys of this root does not verify; what was before does.
  const revoked = { ...short, revoked_at: new Date().toISOString() }
  await cluster.setKeyring({ version: 1, keys: [...rest, long, revoked] })
  await verify(bodies.get('root-short') ?? '')
  await cluster.setKeyring({
    version: 1,
    keys: [...rest, long, { ...revoked, revoked_at: '2026-01-02T00:00:00.000Z' }],
  })
  await expect(verify(bodies.get('root-short') ?? '')).rejects.toThrow('was not valid, or was revoked')
  await cluster.setKeyring(keyring)
})
