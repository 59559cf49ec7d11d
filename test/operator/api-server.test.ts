import { afterAll, beforeAll, expect, it } from 'vitest'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'

let server: TestApiServer
beforeAll(async () => {
  server = await startApiServer()
})
afterAll(() => server.stop())

it('is a real API server of the version we test on, and proves who it is', async () => {
  const { gitVersion } = (await server.request('GET', '/version')).json<{ gitVersion: string }>()
  expect(gitVersion).toMatch(/^v1\.37\.\d+$/)
  const stranger = await server.request('GET', '/api/v1/namespaces', undefined, { token: 'nobody' })
  expect(stranger.status).toBe(401)
})

it('gives a pod its token, and reviews it for that audience alone', async () => {
  await server.createNamespace('payments')
  const token = await server.createPodToken({
    namespace: 'payments',
    serviceAccount: 'reports',
    pod: 'reports-1',
    audience: 'signet-ledger',
  })
  const review = async (audience: string): Promise<{ authenticated?: boolean; user?: { username: string } }> => {
    const answer = await server.request('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
      spec: { token, audiences: [audience] },
    })
    return answer.json<{ status: { authenticated?: boolean; user?: { username: string } } }>().status
  }
  expect(await review('signet-ledger')).toMatchObject({
    authenticated: true,
    user: { username: 'system:serviceaccount:payments:reports' },
  })
  expect((await review('signet-bundles')).authenticated).not.toBe(true)
})

it('enforces ValidatingAdmissionPolicy and PodSecurity', async () => {
  await server.createNamespace('strict', { 'pod-security.kubernetes.io/enforce': 'restricted' })
  const answer = await server.request('POST', '/api/v1/namespaces/strict/pods', {
    metadata: { name: 'root' },
    spec: { containers: [{ name: 'root', image: 'x', securityContext: { privileged: true } }] },
  })
  expect(answer.status).toBe(403)
  expect(answer.text).toContain('violates PodSecurity')
  expect(await server.kubectl(['api-resources', '--api-group=admissionregistration.k8s.io', '-o', 'name'])).toContain(
    'validatingadmissionpolicies',
  )
})

it('keeps its data over a restart', async () => {
  await server.createNamespace('kept')
  await server.restart({ etcd: true })
  expect(await server.kubectl(['get', 'namespace', 'kept', '-o', 'name'])).toBe('namespace/kept\n')
})
