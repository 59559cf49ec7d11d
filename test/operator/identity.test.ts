import { createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto'
import { readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { connect } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { verifyLogAck } from '#core/audit/acknowledgement.ts'
import type { LogAck } from '#core/audit/wire.ts'
import { proveKey, type IdentityAnswer } from '#core/identity/exchange.ts'
import { indexKeyring } from '#core/keyring/keyring.ts'
import { AUDIENCE, mintToken, startIdentityCluster, type IdentityCluster } from '../support/identity/cluster.ts'
import { buildEvent } from '../support/producer.ts'

let cluster: IdentityCluster
let podToken: string
let operatorToken: string
const tokenOf = (namespace: string, pod: string, audience = AUDIENCE, serviceAccount = 'api') =>
  cluster.api.createPodToken({ namespace, serviceAccount, pod, audience })

beforeAll(async () => {
  cluster = await startIdentityCluster()
  await cluster.api.createNamespace('demo')
  await cluster.api.createNamespace('payments')
  podToken = await tokenOf('demo', 'api-1')
  operatorToken = await tokenOf('signet-system', 'operator-1', AUDIENCE, 'signet-operator')
})
afterAll(() => cluster.stop())

describe('init-keys', () => {
  it('makes one keyring for all replicas, in the Secret and in a file for one user, and shows nothing of it', async () => {
    const results = await Promise.all(['a.json', 'b.json', 'c.json'].map((name) => cluster.initKeys(name)))
    const keyring = await readFile(cluster.keyringFile, 'utf8')
    for (const { file, output } of results) {
      expect(await readFile(file, 'utf8')).toBe(keyring)
      expect((await stat(file)).mode & 0o777).toBe(0o600)
      for (const key of (JSON.parse(keyring) as { keys: Record<string, string>[] }).keys)
        for (const secret of [key['secret'], key['private_key']])
          if (secret !== undefined) expect(output).not.toContain(secret)
    }
  })
})

describe('POST /v1/identity', () => {
  it('gives a pod its key and a certificate, and records that', async () => {
    const pair = generateKeyPairSync('ed25519')
    const answer = await cluster.exchange({ token: podToken, pair })
    expect(answer.status, JSON.stringify(answer.body)).toBe(200)
    expect(answer.headers['cache-control']).toBe('no-store')
    const identity = answer.body as unknown as IdentityAnswer
    expect(identity).toMatchObject({ version: 1, tenant: 'acme', producer_id: 'demo/api' })

    // Whoever has the root finds the key by its id.
    const keys = indexKeyring(await cluster.readKeyring())
    const key = keys.stampKey(identity.stamp_key.key_id)
    expect(key).toMatchObject({ tenant: 'acme', producerId: 'demo/api' })
    expect(key?.secret.export().toString('base64url')).toBe(identity.stamp_key.secret)
    const lifetimeMs = Date.parse(identity.stamp_key.not_after) - Date.now()
    expect(lifetimeMs).toBeLessThanOrEqual(86_400_000)
    expect(Date.parse(identity.renew_at) - Date.now()).toBeCloseTo(lifetimeMs / 2, -4)

    const [leafPem = '', caPem = ''] = identity.certificate.split(/(?<=-----END CERTIFICATE-----\n)/)
    const [leaf, ca] = [new X509Certificate(leafPem), new X509Certificate(caPem)]
    expect(leaf.publicKey.equals(pair.publicKey)).toBe(true)
    expect(
      leaf.checkIssued(ca) && leaf.verify(createPublicKey(ca.publicKey.export({ format: 'pem', type: 'spki' }))),
    ).toBe(true)
    expect(leaf.subjectAltName).toBe(
      'URI:spiffe://test.example/ns/demo/sa/api, URI:urn:signet:tenant:acme, URI:urn:signet:producer:demo%2Fapi',
    )
    expect(leaf.validToDate.getTime() - leaf.validFromDate.getTime()).toBeLessThanOrEqual(86_400_000)
    expect(identity.ack_keys.map((ack) => ({ ...ack }))).toEqual([
      expect.not.objectContaining({ private_key: expect.anything() }),
    ])

    const { body } = await cluster.call({
      method: 'GET',
      path: '/api/audit/logs?event_type=identity.issued',
      token: operatorToken,
    })
    const [item] = body['items'] as unknown as { event: Record<string, unknown> }[]
    expect(item?.event).toMatchObject({
      actor: 'signet-ledger',
      resource_id: leaf.serialNumber.toLowerCase(),
      context: {
        producer_id: 'demo/api',
        key_id: identity.stamp_key.key_id,
        certificate: { sha256: leaf.fingerprint256.replaceAll(':', '').toLowerCase() },
        pod: { name: 'api-1', uid: expect.stringMatching(/^[0-9a-f-]{36}$/) },
      },
    })
    expect(JSON.stringify(body)).not.toContain(identity.stamp_key.secret)
    expect(cluster.ledger.output()).not.toContain(identity.stamp_key.secret)
    expect(cluster.ledger.output()).not.toContain(podToken)
  })

  it('gives another producer of the pod another key, within what the platform allows', async () => {
    const plain = (await cluster.exchange({ token: podToken })).body as unknown as IdentityAnswer
    const claims = { producer_id: 'demo/quarterly', tenant: 'acme-test' }
    const other = (await cluster.exchange({ token: podToken, claims })).body as unknown as IdentityAnswer
    expect(other).toMatchObject(claims)
    expect(other.stamp_key.secret).not.toBe(plain.stamp_key.secret)
  })

  const claimsOf = (over: object = {}) => {
    const seconds = Math.floor(Date.now() / 1000)
    const [, payload = ''] = podToken.split('.')
    const real = JSON.parse(Buffer.from(payload, 'base64url').toString()) as object
    return { ...real, iat: seconds - 60, nbf: seconds - 60, exp: seconds + 600, ...over }
  }

  it('knows a token that is minted as the API server would', async () => {
    // What follows differs from this in one thing each.
    expect(await cluster.exchange({ token: cluster.mintToken(claimsOf()) })).toMatchObject({ status: 200 })
  })

  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  it.each<{
    what: string
    token: () => string | Promise<string>
    want: [number, string]
    claims?: object
    change?: (body: Record<string, unknown>) => void
    at?: Date
  }>([
    {
      what: 'a token of another audience',
      token: () => tokenOf('demo', 'api-1', 'signet-bundles'),
      want: [401, 'UNAUTHENTICATED'],
    },
    {
      what: 'a token that has ended',
      token: () => cluster.mintToken(claimsOf({ exp: Math.floor(Date.now() / 1000) - 90 })),
      want: [401, 'UNAUTHENTICATED'],
    },
    { what: 'a forged token', token: () => mintToken(claimsOf(), stranger), want: [401, 'UNAUTHENTICATED'] },
    {
      what: 'a token whose claims were changed',
      token: () =>
        podToken.replace(
          /\.[^.]+\./,
          `.${Buffer.from(JSON.stringify(claimsOf({ sub: 'system:serviceaccount:payments:api' }))).toString('base64url')}.`,
        ),
      want: [401, 'UNAUTHENTICATED'],
    },
    { what: 'no token of Kubernetes', token: () => cluster.stack.token('auditor'), want: [403, 'FORBIDDEN'] },
    {
      what: 'a token that is bound to no pod',
      token: async () =>
        (await cluster.api.kubectl(['-n', 'demo', 'create', 'token', 'api', `--audience=${AUDIENCE}`])).trim(),
      want: [403, 'FORBIDDEN'],
    },
    {
      what: "another namespace's producer",
      token: () => podToken,
      claims: { producer_id: 'payments/api' },
      want: [403, 'FORBIDDEN'],
    },
    {
      what: "another namespace's tenant",
      token: () => podToken,
      claims: { tenant: 'globex' },
      want: [403, 'FORBIDDEN'],
    },
    {
      what: "another's public key",
      token: () => podToken,
      change: (body) =>
        (body['public_key'] = generateKeyPairSync('ed25519')
          .publicKey.export({ format: 'der', type: 'spki' })
          .toString('base64url')),
      want: [403, 'IDENTITY_PROOF_INVALID'],
    },
    {
      what: 'a proof of an hour ago',
      token: () => podToken,
      at: new Date(Date.now() - 3_600_000),
      want: [403, 'IDENTITY_PROOF_INVALID'],
    },
    {
      what: 'a body without a proof',
      token: () => podToken,
      change: (body) => delete body['proof'],
      want: [400, 'REQUEST_INVALID'],
    },
  ])('refuses $what', async ({ token, want: [status, code], ...rest }) => {
    const answer = await cluster.exchange({ token: await token(), ...rest })
    expect(answer).toMatchObject({ status, body: { code } })
    expect(JSON.stringify(answer.body)).not.toContain('"secret"')
  })

  it('refuses the token of a pod that is gone', async () => {
    const token = await tokenOf('demo', 'short-lived')
    expect(await cluster.exchange({ token })).toMatchObject({ status: 200 })
    await cluster.api.kubectl([
      '-n',
      'demo',
      'delete',
      'pod',
      'short-lived',
      '--force',
      '--grace-period=0',
      '--wait=false',
    ])
    await expect.poll(async () => (await cluster.exchange({ token })).status, { timeout: 30_000 }).toBe(401)
  })

  it('refuses a proof that was used, and one that was made for another token', async () => {
    const pair = generateKeyPairSync('ed25519')
    const at = new Date()
    expect(await cluster.exchange({ token: podToken, pair, at })).toMatchObject({ status: 200 })
    expect(await cluster.exchange({ token: podToken, pair, at })).toMatchObject({
      status: 409,
      body: { code: 'IDENTITY_REPLAYED' },
    })
    const proof = proveKey(podToken, pair, new Date())
    const other = await tokenOf('payments', 'api-1')
    const answer = await cluster.exchange({ token: other, change: (body) => Object.assign(body, proof) })
    expect(answer).toMatchObject({ status: 403, body: { code: 'IDENTITY_PROOF_INVALID' } })
  })
})

describe('POST /api/audit/logs', () => {
  const write = (token: string, event: object, headers?: Record<string, string>) =>
    cluster.call({ path: '/api/audit/logs', token, body: { event }, ...(headers === undefined ? {} : { headers }) })

  it('records one event of a service account that is named, with a signed acknowledgement; again is the same', async () => {
    const event = buildEvent({ event_type: 'rules.revised', source: 'claimed' })
    const first = await write(operatorToken, event)
    expect(first.status, JSON.stringify(first.body)).toBe(201)
    const ack = first.body as unknown as LogAck
    const key = indexKeyring(await cluster.readKeyring()).ackKey(ack.key_id)
    expect(key).toBeDefined()
    if (key !== undefined) verifyLogAck(ack, key)
    const again = await write(operatorToken, event)
    const alone = await cluster.call({ path: '/api/audit/logs', token: operatorToken, body: buildEvent() })
    expect(alone.status, JSON.stringify(alone.body)).toBe(201)
    expect(again).toMatchObject({ status: 201, body: { ack: ack.ack } })
    const other = await write(operatorToken, { ...event, action: 'other' })
    expect(other).toMatchObject({ status: 409, body: { code: 'EVENT_ID_CONFLICT' } })
    const { body } = await cluster.call({
      method: 'GET',
      path: '/api/audit/logs?event_type=rules.revised',
      token: operatorToken,
    })
    expect(body['items']).toMatchObject([
      {
        producer_id: 'signet-system/signet-operator',
        session: null,
        event: { tenant: 'acme', source: 'signet-system/signet-operator' },
      },
    ])
  })

  it('a pod writes as its own producer, and reads no events', async () => {
    expect(await write(podToken, buildEvent())).toMatchObject({ status: 201 })
    expect(await write(podToken, buildEvent(), { 'signet-producer-id': 'demo/quarterly' })).toMatchObject({
      status: 201,
    })
    expect(await write(podToken, buildEvent(), { 'signet-producer-id': 'payments/api' })).toMatchObject({ status: 403 })
    expect(await write(podToken, buildEvent(), { 'signet-tenant': 'globex' })).toMatchObject({ status: 403 })
    const reading = await cluster.call({ method: 'GET', path: '/api/audit/logs', token: podToken })
    expect(reading).toMatchObject({ status: 403, body: { code: 'FORBIDDEN' } })
  })

  it.each([
    { what: 'no event', body: {}, want: [400, 'AUDIT_EVENT_INVALID'] },
    { what: 'no JSON', body: '{', want: [400, 'JSON_INVALID'] },
    { what: 'a name twice', body: '{"event":{},"event":{}}', want: [400, 'JSON_INVALID'] },
    {
      what: 'an unknown member of the event',
      body: { event: { ...buildEvent(), more: 1 } },
      want: [400, 'AUDIT_EVENT_INVALID'],
    },
    {
      what: "an event of the ledger's own",
      body: { event: buildEvent({ event_type: 'identity.issued' }) },
      want: [403, 'EVENT_TYPE_RESERVED'],
    },
  ])('refuses $what', async ({ body, want: [status, code] }) => {
    expect(await cluster.call({ path: '/api/audit/logs', token: podToken, body })).toMatchObject({
      status,
      body: { code },
    })
  })

  it('the chain holds it all', async () => {
    const verdict = await cluster.call({ method: 'GET', path: '/api/audit/verify', token: operatorToken })
    expect(verdict.body).toMatchObject({ ok: true })
  })
})

it('the listener takes a new certificate without a restart', async () => {
  const serialOf = () =>
    new Promise<string>((resolve, reject) => {
      const socket = connect({ host: 'localhost', port: cluster.ledger.port, servername: 'localhost', ca: cluster.ca })
      socket.once('error', reject)
      socket.once('secureConnect', () => {
        resolve(socket.getPeerCertificate().serialNumber)
        socket.destroy()
      })
    })
  const before = await serialOf()
  const next = new X509Certificate(await cluster.renewCertificate()).serialNumber
  expect(next).not.toBe(before)
  await expect.poll(serialOf, { timeout: 10_000 }).toBe(next)
})

it('the namespace map and the service accounts are re-read', async () => {
  const token = await tokenOf('payments', 'api-9')
  expect((await cluster.exchange({ token })).body).toMatchObject({ tenant: 'globex' })
  const map = path.join(cluster.dir, 'map.yaml')
  const former = await readFile(map, 'utf8')
  await writeFile(map, former.replace('globex', 'initech'))
  await expect.poll(async () => (await cluster.exchange({ token })).body['tenant'], { timeout: 10_000 }).toBe('initech')
  await writeFile(map, 'version: 2')
  await expect.poll(() => cluster.ledger.output(), { timeout: 10_000 }).toContain('what it said before holds')
  expect((await cluster.exchange({ token })).body).toMatchObject({ tenant: 'initech' })
  await writeFile(map, former)
  await expect.poll(async () => (await cluster.exchange({ token })).body['tenant'], { timeout: 10_000 }).toBe('globex')
})

describe('while the API server is away', () => {
  it('nobody is let in whom it did not vouch for a moment ago, and all are again when it is back', async () => {
    const fresh = await tokenOf('demo', 'api-2')
    const restarting = cluster.api.restart()
    const seen = new Set<string>()
    for (const end = Date.now() + 60_000; Date.now() < end;) {
      const answer = await cluster.exchange({ token: fresh })
      seen.add(`${answer.status} ${answer.body['code'] ?? ''}`)
      if (answer.status === 503) break
    }
    expect([...seen].filter((text) => text !== '200 ')).toEqual(['503 IDENTITY_UNAVAILABLE'])
    await restarting
    await expect.poll(async () => (await cluster.exchange({ token: fresh })).status, { timeout: 30_000 }).toBe(200)
  })
})
