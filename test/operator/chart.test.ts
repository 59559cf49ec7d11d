import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { keepSecret } from '#cli/trial/secret.ts'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { chartFiles, crdTemplate } from '#tools/kubernetes/chart-pages.ts'
import { foreignCrds } from '#tools/kubernetes/foreign-crds.ts'
import { helm } from '#tools/kubernetes/helm.ts'
import { NAMESPACE, objects, podTemplates, render, type Rendered } from './chart/render.ts'
import { VALUE_SETS } from './chart/value-sets.ts'

const ROOT = path.resolve(import.meta.dirname, '../..')
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8')
const SETS = Object.entries(VALUE_SETS)
const PREVIOUS = 'test/operator/chart/signet-0.1.0.yaml'

describe('files made from others', () => {
  it.each(Object.entries(chartFiles()))(
    '%s is up to date (else: node tools/kubernetes/write-chart.ts)',
    (file, text) => {
      expect(existsSync(path.join(ROOT, file)) ? read(file) : 'missing').toBe(text)
    },
  )

  it('the CRD chart renders to what is in crds/', async () => {
    const rendered = objects(await render({}, 'signet-crds'))
    const templates = Object.keys(chartFiles()).filter((file) => file.startsWith('charts/signet-crds/'))
    expect(rendered).toHaveLength(templates.length)
    for (const object of rendered) {
      const { annotations, ...metadata } = object.metadata as { annotations?: Record<string, string> }
      expect(annotations?.['helm.sh/resource-policy']).toBe('keep')
      const own = templates
        .map((file) => parse(read(`crds/${path.basename(file)}`)) as Rendered)
        .find((one) => one.metadata.name === object.metadata.name)
      expect({ ...object, metadata }).toEqual(own)
    }
  })

  it('what looks like a template in a CRD stays what it is', () => {
    const text = crdTemplate('kind: X\nmetadata:\n  name: x\nspec: "{{ .Values.x }}"\n')
    expect(text).toContain('spec: "{{ "{{" }} .Values.x }}"')
    expect(() => crdTemplate('kind: X\n')).toThrow('metadata')
  })
})

describe('helm', () => {
  it.each(['signet', 'signet-crds'])('lints charts/%s without a warning', async (chart) => {
    const { code, stdout } = await helm(['lint', '--strict', path.join(ROOT, 'charts', chart)])
    expect(stdout).not.toMatch(/\[(WARNING|ERROR)\]/)
    expect(code).toBe(0)
  })

  it.each(SETS)('renders the same bytes twice, and no key: %s', async (_name, values) => {
    const [first, second] = await Promise.all([render(values), render(values)])
    expect(first).toBe(second)
    expect(objects(first).filter(({ kind }) => kind === 'Secret')).toEqual([])
    expect(first).not.toContain('PRIVATE KEY')
  })

  it('uses nothing that another rendering would give differently', () => {
    for (const file of [
      '_names.tpl',
      '_ledger.tpl',
      '_operator.tpl',
      '_pods.tpl',
      'operator-deployment.yaml',
      'ledger-deployment.yaml',
    ])
      expect(read(`charts/signet/templates/${file}`)).not.toMatch(
        /\b(lookup|randAlpha\w*|randBytes|genCA|genSignedCert|genSelfSignedCert|genPrivateKey|uuidv4|now|IsUpgrade|IsInstall)\b/,
      )
  })
})

describe('a real API server', () => {
  let server: TestApiServer
  const restricted = {
    'pod-security.kubernetes.io/enforce': 'restricted',
    'pod-security.kubernetes.io/enforce-version': 'latest',
  }

  beforeAll(async () => {
    server = await startApiServer()
    for (const name of ['shop', 'other', 'payments']) await server.createNamespace(name)
    await server.createNamespace(NAMESPACE, restricted)
    await server.kubectl(['apply', '--server-side', '-f', '-'], await render({}, 'signet-crds'))
    // cert-manager's and the Prometheus operator's own, so that what the chart asks of them is what they know.
    await server.kubectl(['apply', '--server-side', '-f', '-'], (await foreignCrds()).join('\n---\n'))
    await server.kubectl(['wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all'])
  })
  afterAll(() => server?.stop())

  it.each(SETS)('takes what is rendered: %s', async (_name, values) => {
    const text = await render(values)
    const output = await server.kubectl(
      ['apply', '--server-side', '--dry-run=server', '--validate=strict', '-f', '-'],
      text,
    )
    expect(output.trim().split('\n')).toHaveLength(objects(text).length)
  })

  it('would refuse a Certificate with a member that cert-manager does not know', async () => {
    const text = (await render({ certificates: { issuer: 'cert-manager' } })).replace(
      'rotationPolicy: Always',
      'rotate: Always',
    )
    const applied = server.kubectl(['apply', '--server-side', '--dry-run=server', '--validate=strict', '-f', '-'], text)
    await expect(applied).rejects.toThrow('rotate')
  })

  it.each(SETS)('admits its pods under pod security «restricted»: %s', async (_name, values) => {
    for (const [name, { metadata, spec }] of podTemplates(objects(await render(values)))) {
      // No ServiceAccount or PriorityClass is there for it; neither has to do with what is asked.
      const { serviceAccountName: _account, ...rest } = spec
      const pod = { metadata: { ...metadata, name }, spec: { ...rest, priorityClassName: undefined } }
      const answer = await server.request('POST', `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`, pod)
      expect(answer.status, `${name}: ${JSON.stringify(answer.json())}`).toBe(201)
    }
  })

  it('would refuse a pod that is less hardened', async () => {
    const template = podTemplates(objects(await render())).get('signet-ledger')
    const { serviceAccountName: _account, ...spec } = template?.spec ?? { containers: [] }
    const containers = spec.containers.map((one) => ({ ...one, securityContext: {} }))
    const pod = { metadata: { name: 'weak' }, spec: { ...spec, containers } }
    const answer = await server.request('POST', `/api/v1/namespaces/${NAMESPACE}/pods?dryRun=All`, pod)
    expect(answer.status).toBe(403)
  })

  it('takes this version over the one before, and again over itself', async () => {
    const manager = ['--server-side', '--field-manager=helm']
    await server.kubectl(['apply', ...manager, '-f', '-'], read(PREVIOUS))
    const text = await render()
    await server.kubectl(['apply', ...manager, '-f', '-'], text)
    expect(await server.kubectl(['diff', ...manager, '-f', '-'], text)).toBe('')
    // What an upgrade would leave behind is only what the chart no longer has; Helm removes it. Names that others rest on stay.
    const names = (one: string): string[] => objects(one).map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    const gone = names(read(PREVIOUS)).filter((name) => !names(text).includes(name))
    expect(gone.filter((name) => /^(Service|ServiceAccount|StatefulSet|Deployment)\//.test(name))).toEqual([])
  })

  it('leaves alone what the operator adds', async () => {
    const apply = async (): Promise<string> =>
      server.kubectl(['apply', '--server-side', '--field-manager=helm', '-f', '-'], await render())
    await apply()
    // As the operator does it: operator/certificates/webhook-configurations.ts.
    const hook = { name: 'required.inject.signet.dev', clientConfig: { caBundle: Buffer.from('x').toString('base64') } }
    const path = '/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/signet'
    const patch = [
      'patch',
      'mutatingwebhookconfiguration',
      'signet',
      '--type=strategic',
      '--field-manager=signet-operator',
    ]
    await server.kubectl([...patch, '-p', JSON.stringify({ webhooks: [hook] })])
    await apply()
    const { webhooks } = (await server.request('GET', path)).json<{ webhooks: (typeof hook)[] }>()
    expect(webhooks.find(({ name }) => name === hook.name)?.clientConfig.caBundle).toBe(hook.clientConfig.caBundle)
  })

  it('would find a change that no upgrade can make', async () => {
    const changed = (await render()).replaceAll(
      'app.kubernetes.io/name: signet-ledger',
      'app.kubernetes.io/name: renamed-ledger',
    )
    await expect(
      server.kubectl(['apply', '--server-side', '--field-manager=helm', '--force-conflicts', '-f', '-'], changed),
    ).rejects.toThrow('field is immutable')
  })

  it('lets the trial database keep its Secret with the rights that it has, and no other', async () => {
    await server.kubectl(
      ['apply', '--server-side', '--field-manager=helm', '--force-conflicts', '-f', '-'],
      await render(),
    )
    const token = (await server.kubectl(['create', 'token', 'signet-trial-wall', '-n', NAMESPACE])).trim()
    const access = { url: server.url, token, ca: server.ca }
    const keep = (name: string, url: string): Promise<void> =>
      keepSecret(access, { namespace: NAMESPACE, name, values: { url } })
    const kept = (): Promise<string> =>
      server.kubectl(['get', 'secret', 'signet-trial-wall', '-n', NAMESPACE, '-o', 'jsonpath={.data.url}'])
    await keep('signet-trial-wall', 'postgres://first')
    await keep('signet-trial-wall', 'postgres://second')
    expect(Buffer.from(await kept(), 'base64').toString()).toBe('postgres://second')
    await expect(keep('signet-trial-work', 'postgres://x')).rejects.toThrow('(403)')
    await expect(keep('signet-ca', 'x')).rejects.toThrow('(403)')
  })
})
