import { once } from 'node:events'
import { createServer, type Server } from 'node:https'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { pod } from '#core/injection/injection.fixture.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { checkRule } from '#engine/compile/rule-set.ts'
import { buildWebhooksApp } from '#operator/webhooks/app.ts'
import { webhooksDeps } from '#operator/webhooks/webhooks.fixture.ts'
import { issuePair } from '#runtime/tls/certificate.fixture.ts'
import { helm } from '#tools/kubernetes/helm.ts'
import { ensureOpa } from '#tools/opa/build.ts'
import { startApiServer, type TestApiServer } from '../support/api-server.ts'

/*
 * The webhooks as the chart configures them, called by a real API server over TLS, with the real OPA behind them.
 */
let server: TestApiServer
let app: FastifyInstance
let calls: string[] = []
const existing: RuleObject[] = []
const pair = issuePair('localhost')

// oxlint-disable-next-line typescript/no-explicit-any
type Loose = any

beforeAll(async () => {
  const opa = await ensureOpa()
  app = buildWebhooksApp(
    webhooksDeps({
      https: { ...pair, minVersion: 'TLSv1.2' },
      namespaceLabels: () => undefined,
      rules: () => existing,
      checkRule: (rule) => checkRule(rule, { opa, timeoutMs: 20_000 }),
    }),
  )
  app.addHook('onRequest', async (request) => void calls.push(request.url.split('?', 1)[0] ?? ''))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  server = await startApiServer({ crds: true })
  await server.createNamespace('signet-system')
  await server.createNamespace('asks', { 'signet.dev/inject': 'enabled' })
  await server.createNamespace('must', { 'signet.dev/required': 'true', 'signet.dev/inject': 'enabled' })
  await server.createNamespace('silent')
  const chart = path.resolve(import.meta.dirname, '../../charts/signet')
  const rendered = await helm([
    'template',
    'signet',
    chart,
    '-n',
    'signet-system',
    '--show-only',
    'templates/webhooks.yaml',
  ])
  expect(rendered.stderr).toBe('')
  for (const document of parseAllDocuments(rendered.stdout)) {
    const configuration: Loose = document.toJS()
    for (const webhook of configuration.webhooks) {
      // There is no Service in front of a test.
      const { service } = webhook.clientConfig
      expect(service).toMatchObject({ namespace: 'signet-system', name: 'signet-operator', port: 443 })
      webhook.clientConfig = {
        url: `https://localhost:${port}${service.path}`,
        caBundle: Buffer.from(pair.cert).toString('base64'),
      }
    }
    await server.kubectl(['apply', '--server-side', '-f', '-'], JSON.stringify(configuration))
  }
  for (;;) {
    const { text } = await create('asks', pod())
    if (text.includes('signet-proxy')) break
    await sleep(200)
  }
})
afterAll(async () => {
  await server.stop()
  await app.close()
})

const create = (namespace: string, body: object): ReturnType<TestApiServer['request']> =>
  server.request('POST', `/api/v1/namespaces/${namespace}/pods?dryRun=All`, body)
const initOf = (text: string): string[] => (JSON.parse(text).spec.initContainers ?? []).map(({ name }: Loose) => name)

describe('injection', () => {
  it.each([
    {
      what: 'a namespace that asks',
      namespace: 'asks',
      labels: {},
      wantCalls: ['/mutate-pods/namespaces'],
      want: ['signet-proxy'],
    },
    {
      what: 'a namespace that requires it',
      namespace: 'must',
      labels: {},
      wantCalls: ['/mutate-pods/required'],
      want: ['signet-redirect', 'signet-proxy'],
    },
    {
      what: 'a pod that declines where it may not',
      namespace: 'must',
      labels: { 'signet.dev/inject': 'disabled' },
      wantCalls: ['/mutate-pods/required'],
      want: ['signet-redirect', 'signet-proxy'],
    },
    {
      what: 'a pod that asks by itself',
      namespace: 'silent',
      labels: { 'signet.dev/inject': 'enabled' },
      wantCalls: ['/mutate-pods/pods'],
      want: ['signet-proxy'],
    },
    {
      what: 'a pod that declines',
      namespace: 'asks',
      labels: { 'signet.dev/inject': 'disabled' },
      wantCalls: [],
      want: [],
    },
    { what: 'a pod that nobody wants injected', namespace: 'silent', labels: {}, wantCalls: [], want: [] },
    {
      what: 'kube-system',
      namespace: 'kube-system',
      labels: { 'signet.dev/inject': 'enabled' },
      wantCalls: [],
      want: [],
    },
    {
      what: 'our own namespace',
      namespace: 'signet-system',
      labels: { 'signet.dev/inject': 'enabled' },
      wantCalls: [],
      want: [],
    },
  ])('$what', async ({ namespace, labels, wantCalls, want }) => {
    calls = []
    const { status, text } = await create(namespace, pod({ metadata: { name: 'p', labels } }))
    expect(status).toBe(201)
    // Once more where the API server's own plugins have changed the pod since (the token that the sidecar gets mounted).
    expect({ calls: [...new Set(calls)], init: initOf(text) }).toEqual({ calls: wantCalls, init: want })
    expect(calls.length).toBeLessThanOrEqual(2 * wantCalls.length)
  })

  it('is asked once for what was injected already', async () => {
    const { text } = await create('asks', pod())
    const { metadata, spec }: Loose = JSON.parse(text)
    calls = []
    const again = await create('asks', { metadata: { name: 'p', annotations: metadata.annotations }, spec })
    expect(again.status).toBe(201)
    expect(JSON.parse(again.text).spec.initContainers).toEqual(spec.initContainers)
    expect(calls).toEqual(['/mutate-pods/namespaces'])
  })

  it('stops no pod while it is down', async () => {
    const { port } = app.server.address() as AddressInfo
    await new Promise<void>((resolve) => {
      app.server.close(() => resolve())
      app.server.closeAllConnections()
    })
    const { status, text } = await create('asks', pod())
    expect({ status, init: initOf(text) }).toEqual({ status: 201, init: [] })
    const refused = await apply(rego('down', 'decision := {"evaluated": true, "violations": []}')).catch(String)
    expect(refused).toContain('failed calling webhook "rules.signet.dev"')
    app.server.listen({ port, host: '127.0.0.1' })
    await once(app.server, 'listening')
  })

  it('stops no pod while somebody else answers', async () => {
    const impostor: Server = createServer(issuePair('localhost'), (_request, response) => response.end('{}'))
    await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve))
    const { port } = impostor.address() as AddressInfo
    const configuration = {
      apiVersion: 'admissionregistration.k8s.io/v1',
      kind: 'MutatingWebhookConfiguration',
      metadata: { name: 'z-impostor' },
      webhooks: [
        {
          name: 'inject.impostor.dev',
          admissionReviewVersions: ['v1'],
          sideEffects: 'None',
          failurePolicy: 'Ignore',
          clientConfig: {
            url: `https://localhost:${port}/mutate-pods`,
            caBundle: Buffer.from(pair.cert).toString('base64'),
          },
          rules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['pods'] }],
        },
      ],
    }
    await server.kubectl(['apply', '-f', '-'], JSON.stringify(configuration))
    expect((await create('silent', pod())).status).toBe(201)
    await server.kubectl(['delete', 'mutatingwebhookconfiguration', 'z-impostor'])
    impostor.close()
  })
})

function rego(name: string, body: string, more = ''): string {
  const indented = body
    .split('\n')
    .map((line) => `    ${line}`)
    .join('\n')
  return `apiVersion: signet.dev/v1alpha1
kind: ComplianceRule
metadata: {name: ${name}, namespace: asks}
spec:
  description: Nothing secret leaves.
  severity: high
${more}  rego: |
    package ${name.replaceAll('-', '_')}

${indented}
`
}
const apply = (text: string): Promise<string> => server.kubectl(['apply', '--warnings-as-errors', '-f', '-'], text)

describe('rules', () => {
  it('lets a good one in', async () => {
    expect(await apply(rego('good', 'decision := {"evaluated": true, "violations": []}'))).toContain('created')
  })
  it('refuses bad Rego at kubectl apply, with line and message', async () => {
    const refused = await apply(
      rego('bad', 'decision := {"evaluated": true,\n  "violations": [v | v := nowhere]}'),
    ).catch(String)
    expect(refused).toMatch(
      /admission webhook "rules.signet.dev" denied the request: ComplianceRule bad is refused: spec\.rego line 4, column \d+: .*nowhere/,
    )
  })
  it.each([
    {
      what: 'the network',
      body: 'decision := {"evaluated": true, "violations": []} if http.send({"method": "get", "url": "http://x"})',
      want: 'http.send',
    },
    {
      what: 'a package of its own choice',
      body: 'import data.signet.root\ndecision := data.signet.root.other.decision',
      want: 'is refused',
    },
    { what: 'a loop', body: 'decision := a\na := b\nb := a', want: 'recursive' },
  ])('refuses $what', async ({ body, want }) => {
    const refused = await apply(rego('bad', body)).catch(String)
    expect(refused).toContain('is refused')
    expect(refused).toContain(want)
  })
  it('lets what is stored be changed in its metadata, and deleted', async () => {
    expect(await server.kubectl(['label', 'compliancerule', 'good', '-n', 'asks', 'a=b'])).toContain('labeled')
    expect(await server.kubectl(['delete', 'compliancerule', 'good', '-n', 'asks'])).toContain('deleted')
  })
  it('warns of a conflict', async () => {
    existing.push({
      name: 'other',
      spec: { description: 'x', severity: 'low', rego: 'package x', obligations: { classification: 'restricted' } },
    })
    const obliged = rego(
      'obliged',
      'decision := {"evaluated": true, "violations": []}',
      '  obligations: {classification: internal}\n',
    )
    expect(await apply(obliged).catch(String)).toMatch(/1 warning/)
    expect(await server.kubectl(['get', 'compliancerule', 'obliged', '-n', 'asks', '-o', 'name'])).toContain('obliged')
  })
})

describe('retention policies', () => {
  it('refuses and lets in', async () => {
    const policy = (hot: string): string =>
      `apiVersion: signet.dev/v1alpha1\nkind: RetentionPolicy\nmetadata: {name: p, namespace: asks}\nspec: {hot: ${hot}, archive: 1y}\n`
    calls = []
    expect(await apply(policy('90d'))).toContain('created')
    expect(calls).toEqual(['/validate-retention'])
    expect(await apply(policy('9y')).catch(String)).toContain('shorter than hot')
  })
})
