import net from 'node:net'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { SignetError } from '#core/error/signet-error.ts'
import { injectPod } from '#core/injection/inject.ts'
import { container, pod, settings } from '#core/injection/injection.fixture.ts'
import { applyPatch } from '#core/injection/patch.fixture.ts'
import type { RuleObject } from '#core/rule/model.ts'
import { buildWebhooksApp, type WebhooksDeps } from './app.ts'
import { POLICIES, review, RULES, webhooksDeps, type ReviewChange } from './webhooks.fixture.ts'

type Response = {
  uid: string
  allowed: boolean
  patch?: string
  patchType?: string
  warnings?: string[]
  status?: { code: number; message: string }
  auditAnnotations?: Record<string, string>
}

async function ask(
  url: string,
  change: ReviewChange,
  deps: Partial<WebhooksDeps> = {},
): Promise<Response & { patched: unknown }> {
  const body = review(change) as { request: { uid: string; object: unknown } }
  const answer = await buildWebhooksApp(webhooksDeps(deps)).inject({ method: 'POST', url, payload: body })
  expect(answer.statusCode).toBe(200)
  expect(answer.headers['content-type']).toBe('application/json')
  const { apiVersion, kind, response } = answer.json<{ apiVersion: string; kind: string; response: Response }>()
  expect({ apiVersion, kind, uid: response.uid }).toEqual({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    uid: body.request.uid,
  })
  const patch = JSON.parse(Buffer.from(response.patch ?? '', 'base64').toString() || '[]') as []
  return { ...response, patched: applyPatch(body.request.object, patch) }
}

describe('mutate-pods', () => {
  it('injects as the offline command does', async () => {
    const { patched, patchType, auditAnnotations } = await ask('/mutate-pods', { object: pod() })
    expect(patched).toEqual(injectPod(pod(), settings()).pod)
    expect({ patchType, auditAnnotations }).toEqual({
      patchType: 'JSONPatch',
      auditAnnotations: { injection: 'injected' },
    })
  })
  it('has no patch for what is injected', async () => {
    const answer = await ask('/mutate-pods', { object: injectPod(pod(), settings()).pod })
    expect(answer).toMatchObject({ allowed: true, auditAnnotations: { injection: 'unchanged' } })
    expect(answer.patch).toBeUndefined()
  })
  it('believes the webhook that matched of a namespace that it does not know yet', async () => {
    const deps = { namespaceLabels: () => undefined }
    const { patched } = await ask('/mutate-pods/required', { object: pod() }, deps)
    expect(patched).toMatchObject({ spec: { initContainers: [{ name: 'signet-redirect' }, { name: 'signet-proxy' }] } })
    expect((await ask('/mutate-pods/namespaces', { object: pod() }, deps)).patch).toBeDefined()
    expect((await ask('/mutate-pods/pods', { object: pod() }, deps)).patch).toBeUndefined()
    expect(
      (
        await ask(
          '/mutate-pods/pods',
          { object: pod({ metadata: { labels: { 'signet.dev/inject': 'enabled' } } }) },
          deps,
        )
      ).patch,
    ).toBeDefined()
  })
  it('warns of Services that go around the proxy', async () => {
    const services = () => [
      { name: 'by-name', selector: { app: 'r' }, ports: [{ port: 80, targetPort: 'http' }] },
      { name: 'by-number', selector: { app: 'r' }, ports: [{ port: 80, targetPort: 8080 }] },
      { name: 'of-another', selector: { app: 's' }, ports: [{ port: 80, targetPort: 8080 }] },
      { name: 'of-nobody', selector: {}, ports: [{ port: 80, targetPort: 8080 }] },
    ]
    const { warnings } = await ask(
      '/mutate-pods',
      { object: pod({ metadata: { labels: { app: 'r' } } }) },
      { services },
    )
    expect(warnings).toEqual([
      expect.stringMatching(/^signet: Service by-number leads to port 8080 by number.*targetPort of port 80 be http/),
    ])
    expect(
      (await ask('/mutate-pods/required', { object: pod({ metadata: { labels: { app: 'r' } } }) }, { services }))
        .warnings,
    ).toBeUndefined()
  })
  it.each<{ what: string; change: ReviewChange; deps?: Partial<WebhooksDeps>; wantWarning: string | null }>([
    {
      what: 'hostNetwork',
      change: { object: pod({ spec: { hostNetwork: true } }) },
      wantWarning: 'hostNetwork is true',
    },
    {
      what: 'no settings yet',
      change: { object: pod() },
      deps: { injection: () => null },
      wantWarning: 'not said yet',
    },
    {
      what: 'an object that is no pod',
      change: { object: { spec: { containers: 'many' } } },
      wantWarning: 'not a pod',
    },
    { what: 'no object', change: { object: null }, wantWarning: 'not a pod' },
    { what: 'an update', change: { operation: 'UPDATE', object: pod() }, wantWarning: null },
    {
      what: 'a namespace with the name of another’s tenant',
      change: { namespace: 'acme', object: pod() },
      deps: { namespaceMap: () => ({ version: 1, namespaces: { other: { tenant: 'acme' } } }) },
      wantWarning: 'namespace acme has the name of a tenant',
    },
  ])('lets $what pass as it is', async ({ change, deps, wantWarning }) => {
    const answer = await ask('/mutate-pods', change, deps)
    expect(answer.allowed).toBe(true)
    expect(answer.patch).toBeUndefined()
    if (wantWarning === null) expect(answer.warnings).toBeUndefined()
    else expect(answer.warnings).toEqual([expect.stringContaining(wantWarning)])
  })
})

const rule = (name: string, change: object = {}): { metadata: { name: string }; spec: RuleObject['spec'] } => ({
  metadata: { name },
  spec: {
    description: 'Nothing secret leaves.',
    severity: 'high',
    rego: 'package secret\n\ndecision := {"evaluated": true, "violations": []}\n',
    ...change,
  },
})
const asObject = ({ metadata, spec }: ReturnType<typeof rule>): RuleObject => ({ name: metadata.name, spec })
const askRule = (object: unknown, deps: Partial<WebhooksDeps> = {}, change: ReviewChange = {}) =>
  ask('/validate-rules', { resource: RULES, object, ...change }, deps)

describe('validate-rules', () => {
  it('lets a rule in that compiles', async () => {
    expect(await askRule(rule('secret'))).toMatchObject({ allowed: true })
  })
  it('refuses bad Rego with line, column and message', async () => {
    const checkRule = async () => [
      { file: 'secret', line: 3, column: 7, message: 'var x is unsafe' },
      { file: 'secret', line: 9, column: 1, message: 'unexpected eof' },
    ]
    expect((await askRule(rule('secret'), { checkRule })).status).toEqual({
      code: 422,
      message:
        'ComplianceRule secret is refused: spec.rego line 3, column 7: var x is unsafe; spec.rego line 9, column 1: unexpected eof',
    })
  })
  it.each([
    {
      what: 'past its schema',
      object: rule('x', { severity: 'loud' }),
      want: { code: 422, message: expect.stringContaining('spec.severity') as string },
    },
    {
      what: 'a name that is no DNS label',
      object: rule('9-x'),
      want: { code: 422, message: expect.stringContaining('metadata.name') as string },
    },
    { what: 'without a spec', object: { metadata: { name: 'x' } }, want: { code: 422 } },
    { what: 'that is no object', object: 'rule', want: { code: 422 } },
    { what: 'that is too large', object: rule('x', { description: 'x'.repeat(200_000) }), want: { code: 413 } },
  ])('refuses a rule $what', async ({ object, want }) => {
    expect(await askRule(object)).toMatchObject({ allowed: false, status: want })
  })
  it('refuses while OPA is away, and says so', async () => {
    const checkRule = () => Promise.reject(new SignetError('OPA_UNAVAILABLE', 'opa did not answer'))
    expect(await askRule(rule('x'), { checkRule })).toMatchObject({
      allowed: false,
      status: { code: 503, message: expect.stringContaining('opa did not answer') as string },
    })
  })
  it('holds up no deletion, no label and no finalizer of a rule that was faulty before', async () => {
    const checkRule = async () => [{ file: 'x', line: 1, column: 1, message: 'bad' }]
    const old = rule('x')
    const labelled = { ...old, metadata: { name: 'x', labels: { a: 'b' }, finalizers: [] } }
    expect(await askRule(labelled, { checkRule }, { operation: 'UPDATE', oldObject: old })).toMatchObject({
      allowed: true,
    })
    expect(await askRule(null, { checkRule }, { operation: 'DELETE', oldObject: old })).toMatchObject({ allowed: true })
    expect(
      await askRule(rule('x', { severity: 'low' }), { checkRule }, { operation: 'UPDATE', oldObject: old }),
    ).toMatchObject({ allowed: false })
  })
  it.each([
    {
      what: 'another classification for the same match',
      mine: { match: { methods: ['GET', 'PUT'] }, obligations: { classification: 'internal' } },
      theirs: { match: { methods: ['PUT', 'GET'] }, obligations: { classification: 'restricted' } },
      want: [
        'rule other has the same match and asks for classification restricted, this one for internal: the higher one is stamped',
      ],
    },
    {
      what: 'the same classification',
      mine: { obligations: { classification: 'internal' } },
      theirs: { obligations: { classification: 'internal' } },
      want: undefined,
    },
    {
      what: 'another match',
      mine: { match: { methods: ['GET'] }, obligations: { classification: 'internal' } },
      theirs: { obligations: { classification: 'restricted' } },
      want: undefined,
    },
    {
      what: 'another stage',
      mine: { obligations: { classification: 'internal' } },
      theirs: { stage: 'scan', obligations: { classification: 'restricted' } },
      want: undefined,
    },
    {
      what: 'another namespace',
      mine: { match: { namespaces: ['elsewhere'] } },
      theirs: {},
      want: [
        'match.namespaces does not name payments, and a rule of this namespace applies to no other: it will never match',
      ],
    },
  ])('warns of $what', async ({ mine, theirs, want }) => {
    const rules = () => [
      asObject(rule('other', theirs)),
      asObject(rule('x', { obligations: { classification: 'public' } })),
    ]
    const answer = await askRule(rule('x', mine), { rules })
    expect(answer).toMatchObject({ allowed: true })
    expect(answer.warnings).toEqual(want)
  })
  it('checks one rule of a namespace at a time and a few of all, lets some wait and refuses the rest', async () => {
    const running: string[] = []
    let most = 0
    const release = Promise.withResolvers<void>()
    const checkRule = async (_rule: unknown, namespace: string) => {
      running.push(namespace)
      most = Math.max(most, running.length)
      await release.promise
      running.splice(running.indexOf(namespace), 1)
      return []
    }
    const app = buildWebhooksApp(webhooksDeps({ checkRule, maxWaitingChecksEach: 3 }))
    const send = (namespace: string, name: string) =>
      app.inject({
        method: 'POST',
        url: '/validate-rules',
        payload: review({ resource: RULES, object: rule(name), namespace }),
      })
    const loop = Array.from({ length: 8 }, (_, n) => send('loop', `r${n}`))
    await expect.poll(() => running).toEqual(['loop'])
    const others = [send('quick', 'a'), send('signet-system', 'b')]
    await expect.poll(() => running).toEqual(['loop', 'quick', 'signet-system'])
    release.resolve()
    const allowed = async (answers: typeof loop) =>
      (await Promise.all(answers)).filter((answer) => answer.json<{ response: Response }>().response.allowed).length
    expect({ most, loop: await allowed(loop), others: await allowed(others) }).toEqual({ most: 3, loop: 4, others: 2 })
  })
})

describe('validate-retention', () => {
  const policy = (change: object = {}, name = 'p') => ({
    metadata: { name },
    spec: { hot: '90d', archive: '7y', ...change },
  })
  const askPolicy = (object: unknown, change: ReviewChange = {}, deps: Partial<WebhooksDeps> = {}) =>
    ask('/validate-retention', { resource: POLICIES, object, ...change }, deps)
  it('lets a policy in', async () => expect(await askPolicy(policy())).toMatchObject({ allowed: true }))
  it.each([
    { object: policy({ hot: '9y', archive: '1y' }), want: 'cannot be shorter than hot' },
    { object: policy({ legalHold: { active: true } }), want: 'gives its reason' },
    { object: policy({ hot: 'soon' }), want: 'spec.hot' },
  ])('refuses: $want', async ({ object, want }) => {
    expect((await askPolicy(object)).status).toEqual({ code: 422, message: expect.stringContaining(want) as string })
  })
  it('warns when a legal hold is lifted, and of another for the same records', async () => {
    const held = policy({ legalHold: { active: true, reason: 'case 7' } })
    const policies = () => [
      { name: 'q', spec: { hot: '30d', archive: '1y' } },
      { name: 'p', spec: { hot: '1d', archive: '1y' } },
    ]
    const { warnings } = await askPolicy(policy(), { operation: 'UPDATE', oldObject: held }, { policies })
    expect(warnings).toEqual([
      expect.stringContaining('lifts the legal hold'),
      expect.stringContaining('policy q selects the same records'),
    ])
  })
})

describe('what the API server would not send', () => {
  const post = (
    payload: string | Buffer | object,
    headers: Record<string, string> = {},
    url = '/mutate-pods',
    deps = webhooksDeps(),
  ) =>
    buildWebhooksApp(deps).inject({
      method: 'POST',
      url,
      payload,
      headers: { 'content-type': 'application/json', ...headers },
    })
  const valid = JSON.stringify(review({ object: pod() }))
  it.each([
    { what: 'nothing', payload: '', want: 400 },
    { what: 'no JSON', payload: '{', want: 400 },
    { what: 'no review', payload: '{}', want: 400 },
    { what: 'an older review', payload: valid.replace('admission.k8s.io/v1', 'admission.k8s.io/v1beta1'), want: 400 },
    { what: 'a name twice', payload: valid.replace('"uid"', '"uid":"other","uid"'), want: 400 },
    { what: 'another resource', payload: JSON.stringify(review({ object: pod(), resource: RULES })), want: 400 },
    {
      what: 'a namespace that is none',
      payload: JSON.stringify(review({ object: pod(), namespace: '../x' })),
      want: 400,
    },
    { what: 'depth', payload: '['.repeat(5_000) + ']'.repeat(5_000), want: 400 },
    { what: 'bytes that are not UTF-8', payload: Buffer.from([0x7b, 0xff, 0x7d]), want: 400 },
    { what: 'a body of 8 MiB', payload: `"${'x'.repeat(8 * 1_048_576)}"`, want: 413 },
    { what: 'another type', payload: valid, headers: { 'content-type': 'application/yaml' }, want: 400 },
    { what: 'text', payload: valid, headers: { 'content-type': 'text/plain' }, want: 400 },
    { what: 'a form', payload: valid, headers: { 'content-type': 'application/x-www-form-urlencoded' }, want: 400 },
  ])('$what: $want', async ({ payload, headers = {}, want }) => {
    const deps = webhooksDeps()
    const answer = await post(payload, headers, '/mutate-pods', deps)
    expect(answer.statusCode).toBe(want)
    expect(answer.headers['content-type']).toBe('application/problem+json')
    expect(await deps.registry.metrics()).toContain(
      'signet_webhook_reviews_total{webhook="mutate-pods",result="malformed"} 1',
    )
  })
  it.each(['GET', 'PUT', 'DELETE'] as const)('%s', async (method) => {
    expect((await buildWebhooksApp(webhooksDeps()).inject({ method, url: '/mutate-pods' })).statusCode).toBe(404)
  })
  it('survives whatever comes', async () => {
    const app = buildWebhooksApp(webhooksDeps())
    await fc.assert(
      fc.asyncProperty(
        fc.jsonValue(),
        fc.constantFrom('/mutate-pods', '/validate-rules', '/validate-retention'),
        async (object, url) => {
          const resource = url === '/validate-rules' ? RULES : url === '/validate-retention' ? POLICIES : undefined
          const answer = await app.inject({
            method: 'POST',
            url,
            payload: review({ object, ...(resource === undefined ? {} : { resource }) }),
          })
          expect(answer.statusCode).toBe(200)
        },
      ),
      { numRuns: 300 },
    )
  })
  it('takes a pod that names what objects have', async () => {
    const object = JSON.parse(
      '{"metadata":{"annotations":{"__proto__":"x","constructor":"y"},"labels":{"__proto__":"z"}},"spec":{"containers":[{"name":"constructor","image":"x"}]}}',
    ) as object
    expect((await ask('/mutate-pods', { object })).allowed).toBe(true)
  })
})

it('cuts warnings to what the API server takes', async () => {
  const containers = Array.from({ length: 40 }, (_, n) =>
    container({ name: `c${n}`, livenessProbe: { httpGet: { port: 'n'.repeat(60), path: '/' } } }),
  )
  const { warnings } = await ask('/mutate-pods', { object: pod({ spec: { containers } }) })
  expect(warnings?.length).toBeLessThanOrEqual(17)
  for (const warning of warnings ?? []) expect(warning.length).toBeLessThanOrEqual(256)
})

describe('what comes slowly', () => {
  let app: ReturnType<typeof buildWebhooksApp>
  let sockets: net.Socket[]
  let statuses: string[]
  let url: URL
  beforeEach(async () => {
    app = buildWebhooksApp(webhooksDeps())
    url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
    sockets = []
    statuses = []
  })
  afterEach(async () => {
    for (const socket of sockets) socket.destroy()
    await app.close()
  })
  const open = (bytes: number, body = ''): Promise<string> =>
    new Promise((resolve) => {
      const socket = net.connect(Number(url.port), url.hostname)
      sockets.push(socket)
      socket.on('error', () => resolve('cut'))
      socket.on('close', () => resolve('cut'))
      socket.on('data', (chunk: Buffer) => {
        const status = chunk.toString('latin1').slice(9, 12)
        statuses.push(status)
        resolve(status)
      })
      socket.write(
        `POST /mutate-pods HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: ${bytes}\r\n\r\n${body}`,
      )
    })
  const body = JSON.stringify(review({ object: pod() }))
  const big = body.padEnd(6_000_000)

  it('does not fill memory: big reviews that never end are refused past a few, and give way to one that does', async () => {
    for (let i = 0; i < 40; i++) void open(6_000_000)
    await expect.poll(() => statuses.length, { timeout: 3_000 }).toBeGreaterThan(20)
    expect(new Set(statuses)).toEqual(new Set(['503']))
    expect(await open(body.length, body)).toBe('200')
    // They have not gone, and would stay for ten seconds.
    await expect.poll(() => open(big.length, big), { timeout: 4_000 }).toBe('200')
    expect(sockets.filter(({ destroyed }) => !destroyed).length).toBeGreaterThan(5)
  })

  it('does not fill the places: of requests whose body does not come the oldest give way', async () => {
    for (let i = 0; i < 400; i++) void open(1_000, '{')
    await expect
      .poll(() => sockets.filter(({ destroyed }) => destroyed).length, { timeout: 5_000 })
      .toBeGreaterThan(200)
    const startedMs = performance.now()
    for (let i = 0; i < 20; i++) expect(await open(body.length, body)).toBe('200')
    expect(performance.now() - startedMs).toBeLessThan(5_000)
  })
})
