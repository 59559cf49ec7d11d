import { createHash } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { PRODUCER_HEADER } from '#core/identity/exchange.ts'
import { AUDIENCE, startIdentityCluster, type IdentityCluster } from '../support/identity/cluster.ts'
import { buildEvent } from '../support/producer.ts'

/** Pods with tokens of a real API server are revoked as a service account, as a producer and by one token. */
let cluster: IdentityCluster
let admin: string
const podToken = (namespace: string, pod: string, serviceAccount = 'api') =>
  cluster.api.createPodToken({ namespace, serviceAccount, pod, audience: AUDIENCE })

beforeAll(async () => {
  cluster = await startIdentityCluster()
  for (const namespace of ['demo', 'payments']) await cluster.api.createNamespace(namespace)
  admin = await podToken('signet-system', 'admin-1', 'signet-admin')
})
afterAll(() => cluster?.stop())

const PATH = '/api/audit/tokens/revocations'
const revoke = async (target: object): Promise<string> => {
  const { status, body } = await cluster.call({ path: PATH, token: admin, body: { reason: 'incident 12', ...target } })
  expect(status, JSON.stringify(body)).toBe(201)
  return body['id'] as unknown as string
}
const lift = async (id: string): Promise<void> => {
  const { status } = await cluster.call({ method: 'DELETE', path: `${PATH}/${id}?reason=over`, token: admin })
  expect(status).toBe(200)
}
type Claims = { tenant?: string; producer_id?: string }
/** What the pod gets: keys, and an event recorded. */
const outcomes = async (token: string, claims: Claims = {}): Promise<unknown[]> => {
  const headers = claims.producer_id === undefined ? {} : { [PRODUCER_HEADER]: claims.producer_id }
  const exchanged = await cluster.exchange({ token, claims })
  const written = await cluster.call({ path: '/api/audit/logs', token, body: buildEvent({}), headers })
  return [exchanged, written].map(({ status, body }) => body['code'] ?? status)
}
const IN = [200, 201]
const OUT = ['CREDENTIAL_REVOKED', 'CREDENTIAL_REVOKED']

it('a service account gets no keys and records nothing, whichever producer it says it is; its tenant alone', async () => {
  const [pod, other, foreign] = [
    await podToken('demo', 'api-1'),
    await podToken('demo', 'web-1', 'web'),
    await podToken('payments', 'api-1'),
  ]
  expect([await outcomes(pod), await outcomes(foreign)]).toEqual([IN, IN])
  const id = await revoke({ service_account: 'demo/api' })
  const ofAnotherTenant = await revoke({ service_account: 'payments/api' })
  expect(await outcomes(pod)).toEqual(OUT)
  expect(await outcomes(pod, { producer_id: 'demo/quarterly' })).toEqual(OUT)
  expect(await outcomes(await podToken('demo', 'api-2'))).toEqual(OUT)
  expect([await outcomes(other), await outcomes(foreign)]).toEqual([IN, IN])
  await lift(id)
  await lift(ofAnotherTenant)
  expect(await outcomes(pod)).toEqual(IN)
})

it('a producer, whatever pod says that it is it', async () => {
  const pod = await podToken('demo', 'api-1')
  const id = await revoke({ producer_id: 'demo/quarterly' })
  expect(await outcomes(pod, { producer_id: 'demo/quarterly' })).toEqual(OUT)
  expect(await outcomes(pod)).toEqual(IN)
  await lift(id)
})

it('one token, and not the next one of the same pod', async () => {
  const [stolen, next] = [await podToken('demo', 'api-1'), await podToken('demo', 'api-1')]
  const id = await revoke({ token_sha256: createHash('sha256').update(stolen).digest('hex') })
  expect(stolen).not.toBe(next)
  expect([await outcomes(stolen), await outcomes(next)]).toEqual([OUT, IN])
  await lift(id)
})

it('while the work database is away nobody gets keys, and who was let in records on', async () => {
  const pod = await podToken('demo', 'api-1')
  expect(await outcomes(pod)).toEqual(IN)
  await cluster.stack.work.server.kill('SIGKILL')
  try {
    expect(await outcomes(pod)).toEqual(['IDENTITY_UNAVAILABLE', 201])
  } finally {
    await cluster.stack.work.restart()
  }
  await expect.poll(() => outcomes(pod), { timeout: 30_000, interval: 500 }).toEqual(IN)
})
