import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { stringify } from 'yaml'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { MAX_OBJECTS } from '#governance/facts/kubernetes.ts'
import { gatherFacts, type FactDeps } from '#governance/facts/registry.ts'
import { createKubernetesApi, type KubernetesApi } from '#runtime/kubernetes/api.ts'
import type { Pool } from '#runtime/postgres/transaction.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { NAMESPACE, objects, render } from './chart/render.ts'

const ACCOUNT = 'signet-governance'
const DENY = { podSelector: {}, policyTypes: ['Ingress', 'Egress'] }

let server: TestApiServer
let folder: string
let api: KubernetesApi
beforeAll(async () => {
  server = await startApiServer()
  folder = await mkdtemp(path.join(tmpdir(), 'signet-facts-'))
  await server.createNamespace(NAMESPACE)
  await server.createServiceAccount(NAMESPACE, ACCOUNT)
  for (const name of ['shop', 'web', 'bank']) await server.createNamespace(name, { team: name })
  // The rights that the chart gives, and no others.
  const rendered = objects(
    await render({ governance: { scanNamespaces: { acme: ['shop', 'web'], globex: ['gone', 'web'] } } }),
  )
  const rights = rendered.filter(({ metadata }) => metadata.name === 'signet-governance-scans')
  expect(rights).toHaveLength(6)
  await server.createNamespace('gone')
  await server.kubectl(['apply', '-f', '-'], rights.map((one) => stringify(one)).join('---\n'))
  const token = await server.request('POST', `/api/v1/namespaces/${NAMESPACE}/serviceaccounts/${ACCOUNT}/token`, {
    spec: { expirationSeconds: 3_600 },
  })
  const [tokenFile, caFile] = [path.join(folder, 'token'), path.join(folder, 'ca.crt')]
  await writeFile(tokenFile, token.json<{ status: { token: string } }>().status.token)
  await writeFile(caFile, server.ca)
  api = createKubernetesApi({ url: server.url, tokenFile, caFile, timeoutMs: 20_000 })
})
afterAll(async () => {
  await api?.close()
  await server?.stop()
  await rm(folder, { recursive: true, force: true })
})

const create = async (url: string, body: object): Promise<void> => {
  const answer = await server.request('POST', url, body)
  expect([url, answer.status, answer.text.slice(0, 300)]).toEqual([url, 201, expect.anything()])
}
const gather = (tenant: string) => {
  const namespaces = new Map([
    ['acme', ['shop', 'web']],
    ['globex', ['bank']],
  ])
  const deps: FactDeps = {
    pool: {} as Pool,
    ledger: { url: '', read: () => Promise.reject(new Error('not asked')) },
    endpoints: new Map(),
    urls: new Map(),
    kubernetes: { api, namespaces },
    nowMs: Date.now,
  }
  return gatherFacts(deps, tenant, new Set(['kubernetes']))
}

it('what a tenant’s namespaces hold is read with the rights that the chart gives, as an API server has it', async () => {
  const digest = `registry.example/api@sha256:${'c'.repeat(64)}`
  await create('/api/v1/namespaces/shop/pods', {
    metadata: { name: 'good' },
    spec: {
      automountServiceAccountToken: false,
      securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'api',
          image: digest,
          resources: { limits: { memory: '64Mi' } },
          securityContext: {
            allowPrivilegeEscalation: false,
            readOnlyRootFilesystem: true,
            capabilities: { drop: ['ALL'] },
          },
        },
      ],
    },
  })
  await create('/api/v1/namespaces/web/pods', {
    metadata: { name: 'bad' },
    spec: {
      hostNetwork: true,
      volumes: [{ name: 'root', hostPath: { path: '/' } }],
      containers: [{ name: 'web', image: 'web:latest', securityContext: { privileged: true } }],
    },
  })
  await create('/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies', { metadata: { name: 'deny' }, spec: DENY })
  await create('/apis/apps/v1/namespaces/web/deployments', {
    metadata: { name: 'web' },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'web:latest' }] } },
    },
  })
  // More than a page of them.
  for (let nth = 0; nth < 120; nth++) await server.createServiceAccount('shop', `robot-${nth}`)

  const { facts, problems } = await gather('acme')
  expect(problems).toEqual({})
  expect(facts['kubernetes']).toMatchObject({
    namespaces: { total: 2, without_default_deny: 1, without_pod_security: 2 },
    pods: { total: 2, host_namespaces: 1, host_paths: 1, default_service_account: 2, with_api_token: 1 },
    containers: { total: 2, privileged: 1, may_run_as_root: 1, may_escalate: 1, without_digest: 1, writable_root: 1 },
    deployments: { total: 1, single_replica: 1 },
    service_accounts: { total: 122 },
    network_policies: { total: 1 },
    images: [digest, 'web:latest'],
    labels: { shop: { team: 'shop' }, web: { team: 'web' } },
    examples: { privileged: ['web/bad/web'], without_default_deny: ['web'], single_replica: ['web/web'] },
  })
})

it('what nobody gave the right to is a problem that names it, and no fact', async () => {
  const { facts, problems } = await gather('globex')
  expect(facts).toEqual({})
  expect(problems['kubernetes']).toMatch(/^the Kubernetes API answers 403 when asked to read the namespace bank/)
  expect(await gather('initech')).toMatchObject({
    facts: {},
    problems: { kubernetes: expect.stringMatching(/has named no namespace/) },
  })
})

it('the rights reach no secret, no other namespace, and change nothing', async () => {
  await expect(api.getSecret('shop', 'x')).rejects.toThrow(/403/)
  await expect(api.listObjects('pods', 'bank', { max: 10 })).rejects.toThrow(/403/)
  await expect(api.getNamespace('bank')).rejects.toThrow(/403/)
  await expect(api.createSecret('shop', 'x', { data: {} })).rejects.toThrow(/403/)
})

it('too many objects are not cut but refused, and who is told to stop stops', async () => {
  await expect(api.listObjects('serviceaccounts', 'shop', { max: 120 })).rejects.toThrow(
    /more than 120 serviceaccounts/,
  )
  expect(await api.listObjects('serviceaccounts', 'shop', { max: MAX_OBJECTS })).toHaveLength(121)
  const stop = AbortSignal.abort()
  await expect(api.listObjects('pods', 'shop', { max: 10, signal: stop })).rejects.toThrow(/take too long/)
})
