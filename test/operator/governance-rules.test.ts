import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startApiServer, type TestApiServer } from '#test/support/api-server.ts'
import { FIRST_PASSWORD, startGovernanceStack, type GovernanceStack } from '#test/support/governance.ts'

/** Policies and releases of governance as objects of a real API server. (That the operator makes bundles of them: test/e2e/kubernetes.) */
const NAMESPACE = 'signet-system'
const RULES = `/apis/signet.dev/v1alpha1/namespaces/${NAMESPACE}/compliancerules`

type RuleView = {
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> }
  spec: { rego?: string; description: string; match?: { tenants?: string[] }; enforcement?: { mode?: string } }
}

let server: TestApiServer
let stack: GovernanceStack
let folder: string
beforeAll(async () => {
  server = await startApiServer({ crds: true })
  await server.createNamespace(NAMESPACE)
  folder = await mkdtemp(path.join(tmpdir(), 'signet-governance-rules-'))
  const [ca, token] = [path.join(folder, 'ca.crt'), path.join(folder, 'token')]
  await writeFile(ca, server.ca)
  await writeFile(token, server.token)
  stack = await startGovernanceStack({
    env: {
      SIGNET_GOVERNANCE_RULES_NAMESPACE: NAMESPACE,
      SIGNET_KUBERNETES_API: server.url,
      SIGNET_KUBERNETES_CA: ca,
      SIGNET_KUBERNETES_TOKEN_FILE: token,
    },
  })
}, 300_000)
afterAll(async () => {
  await stack?.stop()
  await server?.stop()
  await rm(folder, { recursive: true, force: true })
})

const rego = (prefix: string): string =>
  `package exports\n\ndecision := {"evaluated": true, "violations": []} if not startswith(input.request.path, "${prefix}")\n`

async function policy(name: string, tenant = 'acme'): Promise<{ id: string; rule_id: string }> {
  const body = { name, policy_type: 'opa_rego', rego_content: rego('/a'), regulation_refs: ['SOX'] }
  const made = await stack.call(tenant, 'POST', '/api/v1/policies', body)
  expect(made.status, JSON.stringify(made.body)).toBe(201)
  return made.body
}
const activate = (id: string, tenant = 'acme') => stack.call(tenant, 'POST', `/api/v1/policies/${id}/activate`, {})
async function rules(): Promise<RuleView[]> {
  return (await server.request('GET', RULES)).json<{ items: RuleView[] }>().items
}
const find = async (name: string): Promise<RuleView | undefined> =>
  (await rules()).find(({ metadata }) => metadata.name === name)
const WAIT = { timeout: 60_000, interval: 300 }

it('what is in force is a rule of the operator’s namespace, for its tenant alone; what is not is none', async () => {
  const { id, rule_id } = await policy('Exports')
  await activate(id)
  await expect
    .poll(() => find(rule_id), WAIT)
    .toMatchObject({
      metadata: {
        annotations: { 'signet.dev/tenant': 'acme' },
        labels: { 'app.kubernetes.io/managed-by': 'signet-governance' },
      },
      spec: { rego: rego('/a'), match: { tenants: ['acme'] }, enforcement: { mode: 'enforce' }, frameworks: ['SOX'] },
    })
  await stack.call('acme', 'PATCH', `/api/v1/policies/${id}`, { rego_content: rego('/b'), mode: 'shadow' })
  await activate(id)
  await expect
    .poll(async () => (await find(rule_id))?.spec, WAIT)
    .toMatchObject({ rego: rego('/b'), enforcement: { mode: 'shadow' } })
  await stack.call('acme', 'POST', `/api/v1/policies/${id}/deactivate`)
  await expect.poll(() => find(rule_id), WAIT).toBeUndefined()
})
it('another tenant’s policies stay when one’s go', async () => {
  const [one, other] = [await policy('Of acme'), await policy('Of globex', 'globex')]
  await activate(one.id)
  await activate(other.id, 'globex')
  await expect.poll(async () => (await find(other.rule_id))?.spec.match, WAIT).toEqual({ tenants: ['globex'] })
  await expect.poll(() => find(one.rule_id), WAIT).toBeDefined()
  await stack.call('acme', 'POST', `/api/v1/policies/${one.id}/deactivate`)
  await expect.poll(() => find(one.rule_id), WAIT).toBeUndefined()
  expect(await find(other.rule_id)).toBeDefined()
})
it('what somebody deletes comes back, and what somebody else made is not taken over', async () => {
  const { id, rule_id } = await policy('Comes back')
  await activate(id)
  await expect.poll(() => find(rule_id), WAIT).toBeDefined()
  await server.request('DELETE', `${RULES}/${rule_id}`)
  await activate(id)
  await expect.poll(() => find(rule_id), WAIT).toBeDefined()

  const taken = await policy('Taken')
  const spec = {
    description: 'made by hand',
    severity: 'low',
    conditions: { fact: 'response.status', operator: 'equal', value: 200 },
  }
  const made = { apiVersion: 'signet.dev/v1alpha1', kind: 'ComplianceRule', metadata: { name: taken.rule_id }, spec }
  expect((await server.request('POST', RULES, made)).status).toBe(201)
  await activate(taken.id)
  await expect.poll(() => stack.process().output(), WAIT).toContain('that governance did not make')
  expect((await find(taken.rule_id))?.spec).toMatchObject({ description: 'made by hand' })
})
it('a release that a second person agreed to is PolicyData of its tenant, until it is revoked', async () => {
  const email = 'lead@acme.example'
  const { id: user } = (
    await stack.call('acme', 'POST', '/api/v1/users', { email, name: 'Lead', password: FIRST_PASSWORD })
  ).body
  const roles = (await stack.call('acme', 'GET', '/api/v1/roles')).body.items as { id: string; name: string }[]
  const role_id = roles.find(({ name }) => name === 'ComplianceLead')?.id
  await stack.call('acme', 'POST', '/api/v1/role-bindings', { role_id, principal_kind: 'user', principal_id: user })
  const signIn = { tenant: 'acme', email, password: FIRST_PASSWORD }
  const { token } = (await stack.call('acme', 'POST', '/api/v1/session', signIn, null)).body
  const release = {
    resource: '/reports/{name}',
    version: 'v7',
    channel: 'external',
    expires_at: new Date(Date.now() + 86_400_000).toISOString(),
  }
  const workflows = '/api/v1/compliance/workflows'
  const begun = { regulation: 'sox', name: 'Q3 statement', release }
  const { id } = (await stack.call('acme', 'POST', workflows, begun)).body
  const move = (status: string, who?: string) =>
    stack.call('acme', 'POST', `${workflows}/${id}/transition`, { status }, who)
  await move('in_review')
  expect(await move('approved', token)).toMatchObject({ status: 200 })
  const specs = async (): Promise<unknown[]> =>
    (await server.request('GET', RULES.replace('compliancerules', 'policydata')))
      .json<{ items: { spec: unknown }[] }>()
      .items.map(({ spec }) => spec)
  await expect
    .poll(specs, WAIT)
    .toEqual([{ tenant: 'acme', approvals: [{ ...release, id, approved_by: 'lead@acme.example' }] }])
  expect(await move('revoked', token)).toMatchObject({ status: 200 })
  await expect.poll(specs, WAIT).toEqual([])
})
it('an API server that is away is waited for', async () => {
  const { id, rule_id } = await policy('Waits')
  const away = server.restart()
  expect((await activate(id)).status).toBe(200)
  await away
  await expect.poll(() => find(rule_id).catch(() => undefined), { timeout: 90_000, interval: 500 }).toBeDefined()
})
